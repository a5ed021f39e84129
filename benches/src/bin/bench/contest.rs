//! The function beside the same function in other languages, an echo, and a bare request.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use layergate_bench::process::Process;
use layergate_bench::statistics::{median, milliseconds, percentile};
use layergate_bench::{Error, Result, paths, report};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::floor::Floor;
use crate::function::{self, Function, is_url};
use crate::ready;

const COLD_ROUNDS: usize = 25;
const WARM_ROUNDS: usize = 10;
pub const CALLS_A_ROUND: usize = 1000;
/// After these, caches are filled, and JavaScript is compiled.
const CALLS_BEFORE: usize = 1000;

const NO_CACHE: &[(&str, &str)] = &[("CACHE_SECONDS", "0")];

pub const OURS: &str = "layergate";
pub const BEFORE: &str = "layergate, before";

/// How much worse the function may be than the build that it is compared with, as a ratio. A
/// smaller difference may come from the machine.
const MOST_OF_BEFORE: f64 = 1.1;

/// A function that is measured.
struct Contestant {
    name: &'static str,
    function: Function,
    /// The file or folder that would be deployed.
    deployed: PathBuf,
    figures: Figures,
}

#[derive(Default)]
pub struct Figures {
    pub cold: Vec<f64>,
    pub warm: Vec<f64>,
    pub cpu: Duration,
    pub requests: u64,
    pub peak: f64,
    pub size: f64,
}

impl Contestant {
    fn new(name: &'static str, function: Function) -> Self {
        Self { name, deployed: function.program.clone(), function, figures: Figures::default() }
    }

    fn cold(&mut self, cpu: usize, endpoint: &str) -> Result<()> {
        let (time, process) =
            self.function.first_answer(cpu, endpoint).map_err(|error| self.failed(error))?;
        self.figures.cold.push(milliseconds(time));
        self.note_memory(&process)
    }

    /// Starts a process and makes the calls that are not measured.
    fn warm_up(&self, cpu: usize, endpoint: &str) -> Result<Process> {
        self.function.api.expect_process(CALLS_BEFORE);
        let process = self.function.spawn(cpu, endpoint)?;
        self.function.api.finished().map_err(|error| self.failed(error))?;
        Ok(process)
    }

    fn warm(&mut self, process: &Process, answers: &Answers) -> Result<()> {
        let (cpu, requests) = (process.cpu_time()?, answers.requests());
        self.function.api.offer(CALLS_A_ROUND);
        let calls = self.function.api.finished().map_err(|error| self.failed(error))?;
        self.figures.cpu += process.cpu_time()? - cpu;
        self.figures.requests += answers.requests() - requests;
        self.figures.warm.extend(calls.iter().map(|(start, end)| milliseconds(*end - *start)));
        self.note_memory(process)
    }

    fn failed(&self, error: Error) -> Error {
        format!("{}: {error}", self.name).into()
    }

    fn note_memory(&mut self, process: &Process) -> Result<()> {
        self.figures.peak = self.figures.peak.max(process.memory("VmHWM")?);
        Ok(())
    }
}

/// Measures on CPU `cpu`. Prints tables and returns the figures. `before` is another build of the
/// function, to compare this one with.
pub fn run(cpu: usize, before: Option<PathBuf>) -> Result<Value> {
    let answers = Answers::serve()?;
    function::trust(&answers.authority)?;
    let mut contestants = contestants(before)?;
    for contestant in &mut contestants {
        contestant.figures.size = size(&contestant.deployed)?;
    }
    let (http, tls) = (format!("http://{}", answers.http), format!("https://{}", answers.tls));

    for _ in 0..COLD_ROUNDS {
        for contestant in &mut contestants {
            contestant.cold(cpu, &tls)?;
        }
    }

    let mut floor = Floor::connect(cpu, &answers)?;
    let processes: Vec<_> = contestants
        .iter()
        .map(|contestant| contestant.warm_up(cpu, &http))
        .collect::<Result<_>>()?;
    for _ in 0..WARM_ROUNDS {
        for (contestant, process) in contestants.iter_mut().zip(&processes) {
            contestant.warm(process, &answers)?;
        }
        floor.round()?;
    }
    drop(processes);

    let mut rows: Vec<Row> = contestants
        .iter()
        .map(|contestant| Row::of(contestant.name, &contestant.figures))
        .collect();
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
    let before = compare(&rows);
    let ready = ready::run(cpu, &tls)?;
    let rows = rows.iter().map(Row::json).collect::<Vec<_>>();
    Ok(json!({"rows": rows, "targets": targets, "before": before, "ready": ready}))
}

fn contestants(before: Option<PathBuf>) -> Result<Vec<Contestant>> {
    let event = function::sample_event()?;
    let folder = paths::folder()?;
    // The programs themselves. On the PATH may be a script that chooses one.
    let python = installed("python3", &["-c", "import sys; print(sys.executable)"])?;
    let node = installed("node", &["-p", "process.execPath"])?;
    let node = Function {
        arguments: vec![folder.join("node/runtime.js").into()],
        ..Function::new(node, &event, is_url)?
    };
    let python = Function {
        arguments: ["-m", "awslambdaric", "function.handler"].map(OsString::from).into(),
        ..Function::new(python, &event, is_url)?
    };
    let mut contestants = vec![Contestant::new(OURS, Function::ours(NO_CACHE)?)];
    if let Some(program) = before {
        let before = Function { environment: NO_CACHE, ..Function::new(program, &event, is_url)? };
        contestants.push(Contestant::new(BEFORE, before));
    }
    contestants.extend([
        Contestant::new("layergate, cache on", Function::ours(&[("CACHE_SECONDS", "10")])?),
        Contestant::new(
            "echo (lambda_runtime)",
            Function::new(paths::program("echo")?, &event, is_event)?,
        ),
        Contestant { deployed: folder.join("node"), ..Contestant::new("Node (AWS SDK v3)", node) },
        Contestant { deployed: folder.join("python"), ..Contestant::new("Python (boto3)", python) },
    ]);
    Ok(contestants)
}

fn installed(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let output =
        Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn is_event(answer: &Value) -> bool {
    answer["requestContext"].is_object()
}

/// A line of the table. A figure that does not exist, such as the floor's size, is NaN.
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
            "name": self.name, "cold_ms": self.cold,
            "warm_p50_ms": self.p50, "warm_p99_ms": self.p99,
            "cpu_s_per_10000": self.cpu, "requests_per_call": self.requests,
            "peak_rss_mib": self.peak, "deployed_mb": self.size,
        })
    }
}

/// Prints the targets beside the figures.
fn targets(rows: &[Row]) -> Result<Value> {
    let row = |start: &str| {
        rows.iter()
            .find(|row| row.name.starts_with(start))
            .ok_or_else(|| format!("{start} was not measured"))
    };
    let (ours, cached, echo, python) =
        (row(OURS)?, row("layergate, cache")?, row("echo")?, row("Python")?);
    let targets = [
        ("cold start over TLS, ms", ours.cold, 8.0),
        ("cold start / Python's", ours.cold / python.cold, 1.0 / 30.0),
        ("warm p50 / echo's", ours.p50 / echo.p50, 5.0),
        ("warm p50 with the cache on / echo's", cached.p50 / echo.p50, 2.0),
        ("CPU seconds per 10,000 calls", ours.cpu, 2.0),
        ("peak RSS, MiB", ours.peak, 10.0),
        ("binary, MB", ours.size, 8.0),
    ];
    Ok(report::targets(
        &targets.map(|(name, reached, at_most)| (name.to_owned(), reached, at_most)),
    ))
}

/// Prints the function's figures beside those of the earlier build, if there is one.
fn compare(rows: &[Row]) -> Value {
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let (Some(before), Some(after)) = (row(BEFORE), row(OURS)) else { return Value::Null };
    let figures = [
        ("cold start over TLS, ms", before.cold, after.cold),
        ("warm p50, ms", before.p50, after.p50),
        ("CPU seconds per 10,000 calls", before.cpu, after.cpu),
        ("peak RSS, MiB", before.peak, after.peak),
        ("binary, MB", before.size, after.size),
    ];
    let cells = |(name, before, after): (&str, f64, f64)| {
        let ratio = after / before;
        let figures = [before, after, ratio].map(|figure| format!("{figure:.3}"));
        [&[name.to_owned()], &figures[..]].concat()
    };
    println!("The function before and after, of the same run\n");
    report::table(&["", "before", "after", "after / before"], &figures.map(cells));
    report::targets(&figures.map(|(name, before, after)| {
        (format!("{name}: after / before"), after / before, MOST_OF_BEFORE)
    }))
}

/// The size of a file, or of all files in a folder, in megabytes.
fn size(path: &Path) -> Result<f64> {
    let missing = |error| format!("{}: {error}", path.display());
    let metadata = fs::symlink_metadata(path).map_err(missing)?;
    if !metadata.is_dir() {
        return Ok(metadata.len() as f64 / 1e6);
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}
