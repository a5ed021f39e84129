// The least of Lambda's runtime loop: one connection, one event after the other.

import http from "node:http";

import { handler } from "./function.js";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function request(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const options = { host, port, agent, method, path: `/2018-06-01/runtime${path}`, headers };
    const sent = http.request(options);
    sent.on("error", reject);
    sent.on("response", (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
    });
    sent.end(body);
  });
}

for (;;) {
  const next = await request("GET", "/invocation/next");
  const requestId = next.headers["lambda-runtime-aws-request-id"];
  const answer = await handler(JSON.parse(next.body), requestId);
  await request("POST", `/invocation/${requestId}/response`, JSON.stringify(answer));
}
