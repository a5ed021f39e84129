//! The local stack under wrk, beside CNCF distribution's registry on the same S3; and a large
//! publish into it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use layergate_bench::http::{connect, message};
use layergate_bench::process::Process;
use layergate_bench::stack::{Stack, TARGET, address};
use layergate_bench::statistics::median;
use layergate_bench::{Result, image, report};
use serde_json::{Value, json};

use crate::distribution::{Registry, Storage};

const SAMPLE: &str = "examples/hello-image";
const LAYER: &str = "sha256:abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1";

const ROUNDS: usize = 3;
const ROUND_SECONDS: usize = 4;
const CONNECTIONS: [usize; 2] = [1, 16];
const COUNTED_CALLS: u64 = 100;

const LARGE_LAYER_MIB: usize = 1024;

/// Measures the local stack; prints tables and gives the figures. Its function makes so many
/// requests to DynamoDB for an answer, if that is known.
pub fn run(requests_per_call: Option<f64>) -> Result<Value> {
    let stack = Stack::start(&[])?;
    stack.run(&["publish", "--create-repository", SAMPLE, "hello:1.0"])?;
    let redirects = redirects(&stack, requests_per_call)?;
    let publish = publish(&stack)?;
    stack.process.stop()?;
    Ok(json!({"redirects": redirects, "publish": publish}))
}

fn redirects(stack: &Stack, requests_per_call: Option<f64>) -> Result<Value> {
    let s3 = address(&stack.environment, "AWS_ENDPOINT_URL_S3")?;
    let storage = Storage::in_s3(stack, s3);
    storage.give(Path::new(SAMPLE), "hello", "1.0")?;
    let requests_per_redirect = requests_per_redirect(stack, s3)?;
    let registry = Registry::start(&storage)?;
    let contestants = [
        ("layergate local", Request::of_stack(stack)),
        ("distribution's registry", Request::of_registry(registry.address)),
    ];

    let mut rows = Vec::new();
    let mut figures = Vec::new();
    let mut targets = Vec::new();
    for connections in CONNECTIONS {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for ((_, request), rounds) in contestants.iter().zip(&mut rounds) {
                rounds.push(request.wrk(connections)?);
            }
        }
        let middle = |rounds: &[Value], figure: &str| {
            median(&rounds.iter().filter_map(|round| round[figure].as_f64()).collect::<Vec<_>>())
        };
        let [ours, theirs] = [&rounds[0], &rounds[1]].map(|rounds| middle(rounds, "p50_ms"));
        targets.push((
            format!("p50 / the registry's, connections: {connections}"),
            ours / theirs,
            1.0,
        ));
        for ((name, _), rounds) in contestants.iter().zip(&rounds) {
            let [rate, p50, p99] =
                ["calls_per_second", "p50_ms", "p99_ms"].map(|figure| middle(rounds, figure));
            rows.push(vec![
                format!("{name}, connections: {connections}"),
                format!("{rate:.0}"),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
            ]);
            figures.push(json!({
                "name": name, "connections": connections, "calls_per_second": rate, "p50_ms": p50, "p99_ms": p99,
            }));
        }
    }
    println!(
        "A layer's URL over HTTP, under wrk: medians of {ROUNDS} rounds of {ROUND_SECONDS} s\n"
    );
    report::table(&["", "calls / s", "p50, ms", "p99, ms"], &rows);

    println!("S3 requests for one redirect of the registry: {requests_per_redirect:.2}\n");
    if let Some(requests) = requests_per_call {
        let name = "back-end requests for an answer / the registry's".to_owned();
        targets.push((name, requests / requests_per_redirect, 1.0));
    }
    let targets = report::targets(&targets);
    Ok(json!({
        "rows": figures, "registry_s3_requests_per_redirect": requests_per_redirect, "targets": targets,
    }))
}

/// How many requests to S3 the registry makes for an answer.
fn requests_per_redirect(stack: &Stack, s3: SocketAddr) -> Result<f64> {
    let counter = Counter::start(s3)?;
    let registry = Registry::start(&Storage::in_s3(stack, counter.address))?;
    let before = counter.requests();
    let mut connection = connect(registry.address)?;
    for _ in 0..COUNTED_CALLS {
        connection
            .send(&format!("GET /v2/hello/blobs/{LAYER} HTTP/1.1\r\nHost: localhost"), b"")?;
        let answer = connection.receive()?.ok_or("the registry closed")?;
        if answer.word(1) != "307" {
            return Err(format!("the registry answered {}", answer.head).into());
        }
    }
    Ok((counter.requests() - before) as f64 / COUNTED_CALLS as f64)
}

/// What wrk sends.
struct Request {
    url: String,
    method: &'static str,
    target: Option<&'static str>,
    body: String,
}

impl Request {
    fn of_stack(stack: &Stack) -> Self {
        let body = json!({"repositoryName": "hello", "layerDigest": LAYER});
        Self {
            url: format!("http://{}/", stack.address),
            method: "POST",
            target: Some(TARGET),
            body: body.to_string(),
        }
    }

    fn of_registry(address: SocketAddr) -> Self {
        Self {
            url: format!("http://{address}/v2/hello/blobs/{LAYER}"),
            method: "GET",
            target: None,
            body: String::new(),
        }
    }

    fn wrk(&self, connections: usize) -> Result<Value> {
        let mut command = Command::new("wrk");
        command
            .args(["--threads", "1", "--latency", "--script", "benches/ask.lua"])
            .args([
                "--connections",
                &connections.to_string(),
                "--duration",
                &format!("{ROUND_SECONDS}s"),
            ])
            .arg(&self.url)
            .env("ASK_METHOD", self.method)
            .env("ASK_BODY", &self.body);
        if let Some(target) = self.target {
            command.env("ASK_TARGET", target);
        }
        let output = command.output().map_err(|error| format!("wrk: {error}"))?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
        let silent =
            || format!("wrk, at {}: {}", self.url, String::from_utf8_lossy(&output.stderr));
        let figures: Value = serde_json::from_str(line.ok_or_else(silent)?)?;
        match figures["failed"] == 0 && figures["calls"] != 0 {
            true => Ok(figures),
            false => Err(format!("{}: {figures}", self.url).into()),
        }
    }
}

/// A TCP proxy that counts the requests without bodies that go through it.
struct Counter {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Counter {
    fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counted = requests.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counted = counted.clone();
                thread::spawn(move || pass(client, to, &counted));
            }
        });
        Ok(Self { address, requests })
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn pass(client: TcpStream, to: SocketAddr, requests: &AtomicU64) -> Result<()> {
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut answers, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut to_client); // an error is the end of the connection
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let mut tail = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let read = from_client.read(&mut chunk)?;
        if read == 0 {
            return Ok(to_server.shutdown(Shutdown::Write)?);
        }
        tail.extend_from_slice(&chunk[..read]);
        let ends = tail.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count();
        requests.fetch_add(ends as u64, Ordering::Relaxed);
        tail.drain(..tail.len().saturating_sub(3));
        to_server.write_all(&chunk[..read])?;
    }
}

/// Publishes an image of one large layer.
fn publish(stack: &Stack) -> Result<Value> {
    let folder = stack.folder.path().join("large");
    let layers = image::write_random(&folder, 1, LARGE_LAYER_MIB * image::MIB)?;
    let path = folder.to_str().ok_or("the folder's name is not text")?;

    let mut command = stack.command(&["publish", "--create-repository", path, "large:1.0"]);
    let mut process =
        Process::spawn(command.stderr(File::create(stack.folder.path().join("publish.log"))?))?;
    let started = Instant::now();
    let mut peak: f64 = 0.0;
    // Its peak can be read only while it lives; what it adds in its last moments is small.
    let status = loop {
        if let Some(status) = process.child.try_wait()? {
            break status;
        }
        peak = peak.max(process.memory("VmHWM").unwrap_or(0.0));
        thread::sleep(std::time::Duration::from_millis(20));
    };
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(fs::read_to_string(stack.folder.path().join("publish.log"))?.into());
    }

    let mut connection = connect(stack.address)?;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}");
    let body = json!({"repositoryName": "large", "layerDigest": layers[0]}).to_string();
    connection.send_bytes(&message(&head, body.as_bytes()))?;
    let answer = connection.receive()?.ok_or("the stack closed")?;
    if answer.word(1) != "200" {
        return Err(format!("the large layer has no URL: {}", answer.head).into());
    }
    println!("A layer of {LARGE_LAYER_MIB} MiB, published into the local stack\n");
    report::table(
        &["", "seconds", "peak RSS, MiB"],
        &[vec!["layergate publish".to_owned(), format!("{seconds:.1}"), format!("{peak:.1}")]],
    );
    Ok(json!({"layer_mib": LARGE_LAYER_MIB, "seconds": seconds, "peak_rss_mib": peak}))
}
