//! `make load`: 100,000 calls or more, for two minutes or more, at 64 connections on `layergate local`, with publishes
//! and deletes beside them, and cleans that take whatever nobody needs, however young.
//!
//! Every answer is checked for its form and against what was true while it was asked for: a layer that is
//! referenced throughout is always given, one that nobody ever published is never found, and one that is published
//! and deleted over and over is given or refused by what was true at that time, either way only while that is
//! being changed. In the end, what is referenced is pulled, and its digest verified.

use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use layergate_bench::http::{Connection, Message, connect};
use layergate_bench::stack::{Stack, TARGET, address};
use layergate_bench::statistics::{median, milliseconds, percentile};
use layergate_bench::{Result, image, paths, report};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// Calls are made until so many are, and for so long.
const CALLS: usize = 100_000;
const DURATION: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 64;
const REPOSITORY: &str = "load";

/// Layers of the image that stays, and of each that comes and goes.
const STEADY_LAYERS: usize = 8;
const CHANGING_IMAGES: usize = 4;

/// The run is given up after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// Memory settles in the first minute. Its medians in the quarter minute after that, and in the last one, are
/// compared.
const SETTLED: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(15);

/// How long there is no clean after a clean.
const PAUSE: Duration = Duration::from_millis(500);

/// By how much it may grow in between, in MiB: the noise of the allocator, and what the embedded DynamoDB remembers of
/// transactions for ten minutes, as DynamoDB does to know a repetition. Measured over 11,000 publishes and deletes, that
/// is 2 KiB for each; and when the table of them doubles, 0.55 KiB for each so far, which in this run comes to 1.5 KiB
/// for each in between.
const NOISE_MIB: f64 = 1.0;
const CHANGE_MIB: f64 = 4.0 / 1024.0;

/// A layer to ask for, and what is known of it.
struct Layer {
    digest: String,
    knowledge: Knowledge,
}

enum Knowledge {
    Referenced,
    NeverPublished,
    /// The flags below, and above them how often they were set.
    Changing(AtomicU64),
}

/// What is being asked for is being changed.
const CHANGING: u64 = 1;
/// It is referenced.
const REFERENCED: u64 = 2;
/// It was published, now or before.
const PUBLISHED: u64 = 4;
/// Each step makes the number one that it never was, so that two equal readings have no change between them.
const STEP: u64 = 8;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Url,
    NotFound,
    Inaccessible,
}

impl Layer {
    fn reading(&self) -> u64 {
        match &self.knowledge {
            Knowledge::Referenced => REFERENCED | PUBLISHED,
            Knowledge::NeverPublished => 0,
            Knowledge::Changing(number) => number.load(Ordering::SeqCst),
        }
    }

    fn set(&self, flags: u64) {
        if let Knowledge::Changing(number) = &self.knowledge {
            let next = (number.load(Ordering::SeqCst) / STEP + 1) * STEP + flags;
            number.store(next, Ordering::SeqCst);
        }
    }
}

/// Whether an answer says what was true while it was asked for, from the first reading to the second.
fn is_true(outcome: Outcome, before: u64, after: u64) -> bool {
    let is_changing = before != after || before & CHANGING != 0;
    match outcome {
        Outcome::Url => is_changing || before & REFERENCED != 0,
        // After it was deleted, a clean may remove its record.
        Outcome::NotFound => is_changing || before & REFERENCED == 0,
        // Its first publishing makes it referenced at once; after that it may come and go.
        Outcome::Inaccessible => after & PUBLISHED != 0 && (is_changing || before & REFERENCED == 0),
    }
}

/// The stack at a moment.
struct Sample {
    time: Duration,
    memory_mib: f64,
    changes: usize,
}

/// What all threads share.
struct Run<'a> {
    stack: &'a Stack,
    layers: Vec<Layer>,
    calls: AtomicUsize,
    changes: AtomicUsize,
    cleans: AtomicUsize,
    over: AtomicBool,
    started: Instant,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<f64>,
    urls: usize,
    refusals: usize,
    while_changing: usize,
    wrong: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let machine = report::machine()?;
    println!("{}\n", report::describe(&machine));
    let stack = Stack::start()?;

    let content: Vec<String> = (0..STEADY_LAYERS).map(|n| format!("a layer that stays, {n}\n")).collect();
    let content: Vec<&[u8]> = content.iter().map(String::as_bytes).collect();
    let folder = stack.folder.path().join("steady");
    let steady = image::write(&folder, &content)?;
    publish(&stack, &folder, "steady")?;
    let mut layers: Vec<Layer> =
        steady.into_iter().map(|digest| Layer { digest, knowledge: Knowledge::Referenced }).collect();
    for n in 0..STEADY_LAYERS {
        layers.push(Layer { digest: format!("sha256:{n:064x}"), knowledge: Knowledge::NeverPublished });
    }
    let first_changing = layers.len();
    for n in 0..CHANGING_IMAGES {
        let folder = stack.folder.path().join(format!("changing-{n}"));
        let own = format!("a layer that comes and goes, {n}\n");
        // The shared layers stay referenced whatever happens to this image.
        let digests = image::write(&folder, &[own.as_bytes(), content[0], content[1]])?;
        let digest = digests.into_iter().next().ok_or("an image without layers")?;
        layers.push(Layer { digest, knowledge: Knowledge::Changing(AtomicU64::new(0)) });
    }

    let run = Run {
        stack: &stack,
        layers,
        calls: AtomicUsize::new(0),
        changes: AtomicUsize::new(0),
        cleans: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        started: Instant::now(),
    };
    let (tallies, samples) = thread::scope(|scope| -> Result<_> {
        let callers: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                scope.spawn({
                    let run = &run;
                    move || run.call(n)
                })
            })
            .collect();
        let changer = scope.spawn(|| run.change(first_changing));
        let cleaner = scope.spawn(|| run.clean());
        let observer = scope.spawn(|| run.observe());
        let panicked = |_| "a thread panicked";
        let tallies: Vec<_> = callers.into_iter().map(|caller| caller.join().map_err(panicked)).collect();
        run.over.store(true, Ordering::SeqCst);
        let tallies = tallies.into_iter().map(|tally| tally?).collect::<Result<Vec<_>>>();
        changer.join().map_err(panicked)??;
        cleaner.join().map_err(panicked)??;
        let samples = observer.join().map_err(panicked)?;
        Ok((tallies?, samples?))
    })?;
    let seconds = run.started.elapsed().as_secs_f64();
    let pulled = run.pull()?;
    let counts = [run.changes.into_inner(), run.cleans.into_inner(), pulled];
    stack.process.stop()?;
    judge(&tallies, counts, &samples, seconds, &machine)
}

impl Run<'_> {
    /// Makes calls until all are made.
    fn call(&self, caller: usize) -> Result<Tally> {
        let mut connection = connect(self.stack.address)?;
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}");
        let mut tally = Tally::default();
        // Each caller starts at another layer, or all would ask for the same one at once.
        let mut turn = caller;
        while self.goes_on() {
            turn += 1;
            let layer = &self.layers[turn % self.layers.len()];
            let body = json!({"repositoryName": REPOSITORY, "layerDigest": layer.digest}).to_string();
            let before = layer.reading();
            let sent = Instant::now();
            connection.send(&head, body.as_bytes())?;
            let answer = receive(&mut connection)?;
            tally.latencies.push(milliseconds(sent.elapsed()));
            tally.note(layer, &answer, before, layer.reading());
        }
        Ok(tally)
    }

    fn goes_on(&self) -> bool {
        let made = self.calls.fetch_add(1, Ordering::Relaxed);
        let elapsed = self.started.elapsed();
        (made < CALLS || elapsed < DURATION) && elapsed < PATIENCE
    }

    /// Publishes and deletes, one image after the other, until the calls are made.
    fn change(&self, first: usize) -> Result<()> {
        for n in (0..CHANGING_IMAGES).cycle() {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let layer = &self.layers[first + n];
            let before = layer.reading();
            let referenced = before & REFERENCED;
            layer.set(CHANGING | before & PUBLISHED);
            let tag = format!("changing-{n}");
            match referenced {
                0 => publish(self.stack, &self.stack.folder.path().join(&tag), &tag)?,
                _ => self.stack.run(&["image", "delete", &format!("{REPOSITORY}:{tag}")])?,
            }
            layer.set(PUBLISHED | (referenced ^ REFERENCED));
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Cleans, one time after the other, until the calls are made.
    fn clean(&self) -> Result<()> {
        while !self.over.load(Ordering::SeqCst) {
            self.stack.run(&["clean", "--older-than", "0s"])?;
            self.cleans.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Pulls what is referenced now, and verifies it. Gives how many layers that are.
    fn pull(&self) -> Result<usize> {
        let s3 = address(&self.stack.environment, "AWS_ENDPOINT_URL_S3")?;
        let mut pulled = 0;
        for layer in self.layers.iter().filter(|layer| layer.reading() & REFERENCED != 0) {
            let mut connection = connect(self.stack.address)?;
            let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}");
            let body = json!({"repositoryName": REPOSITORY, "layerDigest": layer.digest}).to_string();
            connection.send(&head, body.as_bytes())?;
            let answer = receive(&mut connection)?;
            let url = answer.body["downloadUrl"].as_str().unwrap_or_default();
            let path =
                url.strip_prefix(&format!("http://{s3}")).ok_or("no URL for a layer that is referenced")?;
            let mut connection = connect(s3)?;
            connection.send(&format!("GET {path} HTTP/1.1\r\nHost: {s3}"), b"")?;
            let bytes = connection.receive()?.ok_or("S3 closed a connection")?.body.to_vec();
            let hex: String = digest(&SHA256, &bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect();
            if layer.digest != format!("sha256:{hex}") {
                return Err(format!("{} was pulled, and is something else", layer.digest).into());
            }
            pulled += 1;
        }
        Ok(pulled)
    }

    fn observe(&self) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            samples.push(Sample {
                time: self.started.elapsed(),
                memory_mib: self.stack.process.memory("VmRSS")?,
                changes: self.changes.load(Ordering::Relaxed) + self.cleans.load(Ordering::Relaxed),
            });
            thread::sleep(Duration::from_millis(250));
        }
        Ok(samples)
    }
}

fn publish(stack: &Stack, folder: &Path, tag: &str) -> Result<()> {
    let folder = folder.to_str().ok_or("the folder's name is not text")?;
    stack.run(&["publish", "--create-repository", folder, &format!("{REPOSITORY}:{tag}")])
}

/// An answer, taken out of its connection's buffer.
struct Answer {
    status: String,
    is_json: bool,
    error_type: Option<String>,
    has_request_id: bool,
    body: Value,
}

fn receive(connection: &mut Connection<TcpStream>) -> Result<Answer> {
    let answer: Message = connection.receive()?.ok_or("the stack closed a connection")?;
    Ok(Answer {
        status: answer.word(1).to_owned(),
        is_json: answer.header("content-type") == Some("application/x-amz-json-1.1"),
        error_type: answer.header("x-amzn-errortype").map(str::to_owned),
        has_request_id: answer.header("x-amzn-requestid").is_some(),
        body: serde_json::from_slice(answer.body).unwrap_or(Value::Null),
    })
}

impl Answer {
    /// What it says; `None` for an answer that is not well-formed, or a fault.
    fn outcome(&self, layer: &Layer) -> Option<Outcome> {
        let members = self.body.as_object().filter(|members| members.len() == 2)?;
        if !self.is_json || !self.has_request_id {
            return None;
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        match self.status.as_str() {
            "200" => {
                let hex = layer.digest.strip_prefix("sha256:")?;
                let url = text("downloadUrl")?;
                let right =
                    url.contains(hex) && url.contains("X-Amz-Signature=") && self.error_type.is_none();
                (right && text("layerDigest")? == layer.digest).then_some(Outcome::Url)
            }
            "400" => {
                let code = text("__type")?;
                let right = self.error_type.as_deref() == Some(code) && !text("message")?.is_empty();
                match code {
                    "LayersNotFoundException" => right.then_some(Outcome::NotFound),
                    "LayerInaccessibleException" => right.then_some(Outcome::Inaccessible),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl Tally {
    fn note(&mut self, layer: &Layer, answer: &Answer, before: u64, after: u64) {
        let outcome = answer.outcome(layer);
        match outcome {
            Some(Outcome::Url) => self.urls += 1,
            Some(_) => self.refusals += 1,
            None => {}
        }
        if before != after || before & CHANGING != 0 {
            self.while_changing += 1;
        }
        if !outcome.is_some_and(|outcome| is_true(outcome, before, after)) {
            // The body of a 200 has a URL, which is a credential.
            let body = if answer.status == "200" { Value::from("(a URL)") } else { answer.body.clone() };
            self.wrong.push(format!("{}: {} {body}, at {before} to {after}", layer.digest, answer.status));
        }
    }
}

fn judge(
    tallies: &[Tally],
    [changes, cleans, pulled]: [usize; 3],
    samples: &[Sample],
    seconds: f64,
    machine: &Value,
) -> Result<bool> {
    let latencies: Vec<f64> = tallies.iter().flat_map(|tally| tally.latencies.iter().copied()).collect();
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    let wrong = sum(|tally| tally.wrong.len());
    let around = |start: Duration| -> Vec<&Sample> {
        samples.iter().filter(|sample| (start..start + WINDOW).contains(&sample.time)).collect()
    };
    let windows = [around(SETTLED), around(Duration::from_secs_f64(seconds) - WINDOW)];
    let [early, late] = windows
        .each_ref()
        .map(|window| median(&window.iter().map(|sample| sample.memory_mib).collect::<Vec<_>>()));
    let [first, last] =
        windows.each_ref().map(|window| window.get(window.len() / 2).map_or(0, |sample| sample.changes));
    let (growth, most_growth) = (late - early, NOISE_MIB + CHANGE_MIB * last.saturating_sub(first) as f64);
    let rows = [
        ("calls", latencies.len().to_string()),
        ("connections", CONNECTIONS.to_string()),
        ("publishes and deletes beside them", changes.to_string()),
        ("cleans beside them", cleans.to_string()),
        ("seconds", format!("{seconds:.1}")),
        ("calls / s", format!("{:.0}", latencies.len() as f64 / seconds)),
        ("p50, ms", format!("{:.1}", median(&latencies))),
        ("p99, ms", format!("{:.1}", percentile(&latencies, 99.0))),
        ("URLs", sum(|tally| tally.urls).to_string()),
        ("refusals", sum(|tally| tally.refusals).to_string()),
        ("answers while their layer was being changed", sum(|tally| tally.while_changing).to_string()),
        ("wrong answers", wrong.to_string()),
        ("layers pulled and verified in the end", pulled.to_string()),
        ("RSS after the first minute, MiB", format!("{early:.1}")),
        ("RSS at the end, MiB", format!("{late:.1}")),
        ("growth, MiB", format!("{growth:.1}")),
        ("growth at most, for so many publishes, deletes and cleans, MiB", format!("{most_growth:.1}")),
    ];
    report::table(&["", ""], &rows.map(|(name, figure)| vec![name.to_owned(), figure]));
    for wrong in tallies.iter().flat_map(|tally| &tally.wrong).take(10) {
        println!("wrong: {wrong}");
    }
    let results = json!({
        "machine": machine, "calls": latencies.len(), "connections": CONNECTIONS, "changes": changes, "cleans": cleans,
        "seconds": seconds, "p50_ms": median(&latencies), "p99_ms": percentile(&latencies, 99.0),
        "wrong": wrong, "rss_mib": samples.iter().map(|sample| (sample.time.as_secs_f64(), sample.memory_mib)).collect::<Vec<_>>(),
    });
    std::fs::write(paths::folder()?.join("load.json"), format!("{results}\n"))?;

    // Each changing image came and went.
    let has_changed = changes >= 2 * CHANGING_IMAGES && cleans > 1 && pulled >= STEADY_LAYERS;
    let holds = latencies.len() >= CALLS && wrong == 0 && growth <= most_growth && has_changed;
    println!("{}", if holds { "It holds." } else { "It does not hold." });
    Ok(holds)
}
