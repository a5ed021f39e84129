//! The function beside the same function in other languages, a bare echo, and a bare request.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use layergate_bench::process::{self, Process};
use layergate_bench::statistics::{median, milliseconds, percentile};
use layergate_bench::{Result, http, paths, report};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ready;
use crate::runtime_api::{Call, RuntimeApi};

const COLD_ROUNDS: usize = 25;
const WARM_ROUNDS: usize = 10;
const CALLS_A_ROUND: usize = 1000;
/// Until caches are filled and code that is compiled while it runs is compiled.
const CALLS_BEFORE: usize = 1000;

/// The system's certificates, which a function on Lambda has too and has to get past.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// In the folder of the runs: the system's certificates and the canned DynamoDB's authority, and the latter alone.
const ROOTS_FILE: &str = "roots.pem";
const AUTHORITY_FILE: &str = "authority.pem";

/// A function that is measured.
pub struct Function {
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: &'static [(&'static str, &'static str)],
    /// What of it is deployed: a file or a folder.
    deployed: PathBuf,
    pub api: RuntimeApi,
    figures: Figures,
}

#[derive(Default)]
pub struct Figures {
    cold: Vec<f64>,
    warm: Vec<f64>,
    cpu: Duration,
    requests: u64,
    peak: f64,
    size: f64,
}

impl Function {
    fn new(name: &'static str, program: PathBuf, is_right: fn(&Value) -> bool) -> Result<Self> {
        let event: Value = serde_json::from_slice(&fs::read("events/rest/OK.json")?)?;
        Ok(Self {
            name,
            deployed: program.clone(),
            program,
            arguments: Vec::new(),
            environment: &[],
            api: RuntimeApi::serve(event.to_string(), is_right)?,
            figures: Figures::default(),
        })
    }

    /// The function that this project is.
    pub fn ours(name: &'static str, environment: &'static [(&'static str, &'static str)]) -> Result<Self> {
        Ok(Self { environment, ..Self::new(name, paths::program("bootstrap")?, is_url)? })
    }

    pub fn spawn(&self, cpu: usize, endpoint: &str) -> Result<Process> {
        let folder = paths::folder()?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs([
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_LAMBDA_FUNCTION_NAME", "layergate"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_RUNTIME_API", &self.api.address.to_string()),
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                ("AWS_SESSION_TOKEN", "the-session-token"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
                ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
                ("TABLE_NAME", "layergate"),
                ("BUCKET_NAME", "layergate"),
                ("DEFAULT_REGISTRY_ID", "000000000000"),
                ("NODE_NO_WARNINGS", "1"), // of versions of Node that a later SDK will not take
            ])
            // Each SDK's own way to be told of an authority.
            .env("SSL_CERT_FILE", folder.join(ROOTS_FILE))
            .env("AWS_CA_BUNDLE", folder.join(ROOTS_FILE))
            .env("NODE_EXTRA_CA_CERTS", folder.join(AUTHORITY_FILE))
            .env("PYTHONPATH", folder.join("python"))
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Process::spawn_on(cpu, &mut command)
    }

    /// From the start of a process, whose event waits, until its first answer is there.
    pub fn first_answer(&self, cpu: usize, endpoint: &str) -> Result<(Duration, Process)> {
        self.api.expect_process(1);
        let process = self.spawn(cpu, endpoint)?;
        let (_, answered) = *self.finished()?.first().ok_or("no call was made")?;
        Ok((answered - process.started, process))
    }

    fn cold(&mut self, cpu: usize, endpoint: &str) -> Result<()> {
        let (time, process) = self.first_answer(cpu, endpoint)?;
        self.figures.cold.push(milliseconds(time));
        self.note_memory(&process)
    }

    fn warm(&mut self, process: &Process, answers: &Answers) -> Result<()> {
        let (cpu, requests) = (process.cpu_time()?, answers.requests());
        self.api.offer(CALLS_A_ROUND);
        let calls = self.finished()?;
        self.figures.cpu += process.cpu_time()? - cpu;
        self.figures.requests += answers.requests() - requests;
        self.figures.warm.extend(calls.iter().map(|(start, end)| milliseconds(*end - *start)));
        self.note_memory(process)
    }

    pub fn finished(&self) -> Result<Vec<Call>> {
        self.api.finished().map_err(|error| format!("{}: {error}", self.name).into())
    }

    fn note_memory(&mut self, process: &Process) -> Result<()> {
        self.figures.peak = self.figures.peak.max(process.memory("VmHWM")?);
        Ok(())
    }
}

/// Measures on CPU `cpu`; prints tables and gives the figures.
pub fn run(cpu: usize) -> Result<Value> {
    let answers = Answers::serve()?;
    let roots = fs::read_to_string(ROOTS).map_err(|error| format!("{ROOTS}: {error}"))?;
    fs::write(paths::folder()?.join(ROOTS_FILE), roots + &answers.authority)?;
    fs::write(paths::folder()?.join(AUTHORITY_FILE), &answers.authority)?;

    let mut functions = functions()?;
    for function in &mut functions {
        function.figures.size = size(&function.deployed)?;
    }
    let (http, tls) = (format!("http://{}", answers.http), format!("https://{}", answers.tls));

    for _ in 0..COLD_ROUNDS {
        for function in &mut functions {
            function.cold(cpu, &tls)?;
        }
    }

    let mut floor = Floor::connect(cpu, &answers)?;
    let mut processes = Vec::new();
    for function in &functions {
        function.api.expect_process(CALLS_BEFORE);
        processes.push(function.spawn(cpu, &http)?);
        function.finished()?;
    }
    for _ in 0..WARM_ROUNDS {
        for (function, process) in functions.iter_mut().zip(&processes) {
            function.warm(process, &answers)?;
        }
        floor.round()?;
    }
    drop(processes);

    let mut rows: Vec<Row> =
        functions.iter().map(|function| Row::of(function.name, &function.figures)).collect();
    rows.push(Row::of("bare request", &floor.figures));
    println!(
        "The function, on one CPU: {COLD_ROUNDS} cold starts, {} calls each\n",
        WARM_ROUNDS * CALLS_A_ROUND
    );
    let headings = [
        "",
        "cold start, ms",
        "warm p50, ms",
        "warm p99, ms",
        "CPU s / 10,000",
        "DynamoDB requests / call",
        "peak RSS, MiB",
        "deployed, MB",
    ];
    report::table(&headings, &rows.iter().map(Row::cells).collect::<Vec<_>>());
    let targets = targets(&rows)?;
    let ready = ready::run(cpu, &tls)?;
    Ok(json!({"ready": ready, "rows": rows.iter().map(Row::json).collect::<Vec<_>>(), "targets": targets}))
}

fn functions() -> Result<Vec<Function>> {
    // The programs themselves: what is on the PATH may be a script that chooses one.
    let folder = paths::folder()?;
    let python = installed("python3", &["-c", "import sys; print(sys.executable)"])?;
    let node = installed("node", &["-p", "process.execPath"])?;
    Ok(vec![
        Function::ours("layergate", &[("CACHE_SECONDS", "0")])?,
        Function::ours("layergate, cache on", &[("CACHE_SECONDS", "10")])?,
        Function::new("echo (lambda_runtime)", paths::program("echo")?, is_event)?,
        Function {
            arguments: vec![folder.join("node/runtime.js").into()],
            deployed: folder.join("node"),
            ..Function::new("Node (AWS SDK v3)", node, is_url)?
        },
        Function {
            arguments: ["-m", "awslambdaric", "function.handler"].map(OsString::from).into(),
            deployed: folder.join("python"),
            ..Function::new("Python (boto3)", python, is_url)?
        },
    ])
}

fn installed(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let output = Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn is_url(answer: &Value) -> bool {
    let body = answer["body"].as_str().unwrap_or_default();
    answer["statusCode"] == 200 && body.contains("downloadUrl") && body.contains("X-Amz-Signature=")
}

fn is_event(answer: &Value) -> bool {
    answer["requestContext"].is_object()
}

/// The canned answer, fetched over and over on a connection that is kept: what nothing can be faster than.
struct Floor {
    work: std::sync::mpsc::Sender<()>,
    done: std::sync::mpsc::Receiver<Result<(Vec<f64>, Duration)>>,
    figures: Figures,
}

impl Floor {
    fn connect(cpu: usize, answers: &Answers) -> Result<Self> {
        let (work, rounds) = std::sync::mpsc::channel();
        let (finished, done) = std::sync::mpsc::channel();
        let address = answers.http;
        std::thread::spawn(move || {
            let prepared = process::pin(&[cpu]).and_then(|()| Ok(http::connect(address)?));
            let mut connection = match prepared {
                Ok(connection) => connection,
                Err(error) => return finished.send(Err(error)),
            };
            let request = http::message("POST / HTTP/1.1\r\nHost: localhost", &[b' '; 256]);
            for () in rounds {
                finished.send(requests(&mut connection, &request))?;
            }
            Ok(())
        });
        Ok(Self { work, done, figures: Figures::default() })
    }

    fn round(&mut self) -> Result<()> {
        self.work.send(())?;
        let (latencies, cpu) = self.done.recv()??;
        self.figures.requests += latencies.len() as u64;
        self.figures.warm.extend(latencies);
        self.figures.cpu += cpu;
        Ok(())
    }
}

fn requests(
    connection: &mut http::Connection<std::net::TcpStream>,
    request: &[u8],
) -> Result<(Vec<f64>, Duration)> {
    let cpu = process::own_cpu_time()?;
    let mut latencies = Vec::with_capacity(CALLS_A_ROUND);
    for _ in 0..CALLS_A_ROUND {
        let started = Instant::now();
        connection.send_bytes(request)?;
        connection.receive()?.ok_or("the canned answer's server closed")?;
        latencies.push(milliseconds(started.elapsed()));
    }
    Ok((latencies, process::own_cpu_time()? - cpu))
}

/// A line of the table; a figure that there is not, as the floor's size, is not a number.
struct Row {
    name: &'static str,
    cold: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    requests: f64,
    peak: f64,
    size: f64,
}

impl Row {
    fn of(name: &'static str, figures: &Figures) -> Self {
        let calls = figures.warm.len() as f64;
        let known = |figure: f64| if figure > 0.0 { figure } else { f64::NAN };
        Self {
            name,
            cold: median(&figures.cold),
            p50: median(&figures.warm),
            p99: percentile(&figures.warm, 99.0),
            cpu: figures.cpu.as_secs_f64() / calls * 10_000.0,
            requests: figures.requests as f64 / calls,
            peak: known(figures.peak),
            size: known(figures.size),
        }
    }

    fn cells(&self) -> Vec<String> {
        let cell = |figure: f64, decimals| match figure.is_nan() {
            true => "-".to_owned(),
            false => format!("{figure:.decimals$}"),
        };
        vec![
            self.name.to_owned(),
            cell(self.cold, 1),
            cell(self.p50, 3),
            cell(self.p99, 3),
            cell(self.cpu, 2),
            cell(self.requests, 2),
            cell(self.peak, 1),
            cell(self.size, 1),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "cold_ms": self.cold, "warm_p50_ms": self.p50, "warm_p99_ms": self.p99,
            "cpu_s_per_10000": self.cpu, "requests_per_call": self.requests,
            "peak_rss_mib": self.peak, "deployed_mb": self.size,
        })
    }
}

/// Prints what was aimed at beside what was reached.
fn targets(rows: &[Row]) -> Result<Value> {
    let row = |start: &str| {
        rows.iter().find(|row| row.name.starts_with(start)).ok_or_else(|| format!("{start} was not measured"))
    };
    let (ours, cached, echo, python) = (row("layergate")?, row("layergate,")?, row("echo")?, row("Python")?);
    let targets = [
        ("cold start over TLS, ms", ours.cold, 8.0),
        ("cold start / Python's", ours.cold / python.cold, 1.0 / 30.0),
        ("warm p50 / echo's", ours.p50 / echo.p50, 5.0),
        ("warm p50 with the cache on / echo's", cached.p50 / echo.p50, 2.0),
        ("CPU seconds per 10,000 calls", ours.cpu, 2.0),
        ("peak RSS, MiB", ours.peak, 10.0),
        ("binary, MB", ours.size, 8.0),
    ];
    Ok(report::targets(&targets.map(|(name, reached, at_most)| (name.to_owned(), reached, at_most))))
}

/// In megabytes, of a file or of all files in a folder.
fn size(path: &Path) -> Result<f64> {
    let missing = |error| format!("{}: {error}", path.display());
    let metadata = fs::symlink_metadata(path).map_err(missing)?;
    if !metadata.is_dir() {
        return Ok(metadata.len() as f64 / 1e6);
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}
