-- Makes the request that wrk repeats from variables, and prints the figures as one line of JSON.

wrk.method = os.getenv("ASK_METHOD")
wrk.body = os.getenv("ASK_BODY")
local target = os.getenv("ASK_TARGET")
if target then
   wrk.headers["X-Amz-Target"] = target
   wrk.headers["Content-Type"] = "application/x-amz-json-1.1"
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   print(string.format(
      'FIGURES {"calls_per_second": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, ' ..
         '"calls": %d, "failed": %d}',
      summary.requests / summary.duration * 1e6,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.requests, failed))
end
