//! The local stack under wrk, beside CNCF Distribution's registry on the same S3. Then the stack
//! alone, while a large image is published.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use layergate_bench::http::connect;
use layergate_bench::process::{Ended, Process};
use layergate_bench::stack::{Stack, TARGET, address};
use layergate_bench::statistics::median;
use layergate_bench::{Result, image, report};
use serde_json::{Value, json};

use crate::distribution::{self, Registry, Storage};

const SAMPLE: &str = "examples/hello-image";
const LAYER: &str = "sha256:abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1";

const ROUNDS: usize = 3;
const ROUND_SECONDS: usize = 4;
const CONNECTIONS: [usize; 2] = [1, 16];

const LARGE_LAYER_MIB: usize = 1024;

/// Measures. Prints tables and returns the figures.
pub fn run() -> Result<Value> {
    let stack = Stack::start(&[])?;
    stack.run(&["publish", "--create-repository", SAMPLE, "hello:1.0"])?;
    let redirects = redirects(&stack)?;
    let publish = publish(&stack)?;
    stack.process.stop()?;
    Ok(json!({"redirects": redirects, "publish": publish}))
}

fn redirects(stack: &Stack) -> Result<Value> {
    let s3 = address(&stack.environment, "AWS_ENDPOINT_URL_S3")?;
    let storage = Storage::in_s3(stack, s3)?;
    storage.add(Path::new(SAMPLE), "hello", "1.0")?;
    let registry = Registry::start(&storage)?;
    let contestants = [
        ("layergate local", Request::to_stack(stack)),
        (distribution::NAME, Request::to_registry(registry.address)),
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
            format!("p50 / {}, connections: {connections}", distribution::NAME),
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
                "name": name, "connections": connections,
                "calls_per_second": rate, "p50_ms": p50, "p99_ms": p99,
            }));
        }
    }
    println!(
        "A layer's URL over HTTP, under wrk: medians of {ROUNDS} rounds of {ROUND_SECONDS} s\n"
    );
    println!("{}\n", distribution::describe()?);
    report::table(&["", "calls / s", "p50, ms", "p99, ms"], &rows);
    Ok(json!({"rows": figures, "targets": report::targets(&targets)}))
}

/// What wrk sends.
struct Request {
    url: String,
    method: &'static str,
    target: Option<&'static str>,
    body: String,
}

impl Request {
    fn to_stack(stack: &Stack) -> Self {
        let body = json!({"repositoryName": "hello", "layerDigest": LAYER});
        Self {
            url: format!("http://{}/", stack.address),
            method: "POST",
            target: Some(TARGET),
            body: body.to_string(),
        }
    }

    fn to_registry(address: SocketAddr) -> Self {
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

/// Publishes an image of one large layer.
fn publish(stack: &Stack) -> Result<Value> {
    let folder = stack.folder.path().join("large");
    let layers = image::write_random(&folder, 1, LARGE_LAYER_MIB * image::MIB)?;
    let path = folder.to_str().ok_or("the folder's name is not text")?;

    let mut command = stack.command(&["publish", "--create-repository", path, "large:1.0"]);
    let log = stack.folder.path().join("publish.log");
    let Ended { success, seconds, peak_rss } =
        Process::spawn(command.stderr(File::create(&log)?))?.finish()?;
    if !success {
        return Err(fs::read_to_string(log)?.into());
    }

    let mut connection = connect(stack.address)?;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}");
    let body = json!({"repositoryName": "large", "layerDigest": layers[0]}).to_string();
    connection.send(&head, body.as_bytes())?;
    let answer = connection.receive()?.ok_or("the stack closed a connection")?;
    if answer.word(1) != "200" {
        return Err(format!("the large layer has no URL: {}", answer.head).into());
    }
    println!("A layer of {LARGE_LAYER_MIB} MiB, published into the local stack\n");
    report::table(
        &["", "seconds", "peak RSS, MiB"],
        &[vec!["layergate publish".to_owned(), format!("{seconds:.1}"), format!("{peak_rss:.1}")]],
    );
    Ok(json!({"layer_mib": LARGE_LAYER_MIB, "seconds": seconds, "peak_rss_mib": peak_rss}))
}
