//! `make load`: 100,000 calls or more, for two minutes or more, at 64 connections on `layergate
//! local`, with publishes and deletes beside them, and cleans that take whatever nobody needs,
//! however young. The calls are ECR's and the registry's in turn.
//!
//! Every answer is checked for its form and against what was true while it was asked for: a layer
//! that is referenced throughout is always given, one that nobody ever published is never found,
//! and one that is published and deleted over and over is given or refused by what was true at that
//! time, either way only while that is being changed. The same holds for images and their tags. A
//! repository that is not granted is always denied, and nobody gets in without a good token. In the
//! end, what is referenced is pulled, and its digest verified.

mod ecr;
mod registry;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use layergate_bench::http::{Message, connect};
use layergate_bench::stack::{Stack, address};
use layergate_bench::statistics::{median, milliseconds, percentile};
use layergate_bench::{Result, image, paths, report};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// Calls are made until so many are, and for so long.
const CALLS: usize = 100_000;
const DURATION: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 64;

/// Calls come from this account. The first repository is granted to it, the second is not.
const CALLER: &str = "222222222222";
const REPOSITORY: &str = "load";
const PRIVATE: &str = "private";

/// Layers of the image that stays, and of each that comes and goes.
const STEADY_LAYERS: usize = 8;
const CHANGING_IMAGES: usize = 4;

/// The run is given up after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// Memory settles in the first minute. Its medians in the quarter minute after that, and in the
/// last one, are compared.
const SETTLED: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(15);

/// How long there is no clean after a clean.
const PAUSE: Duration = Duration::from_millis(500);

/// By how much it may grow in between, in MiB: the noise of the allocator, and what the embedded
/// DynamoDB remembers of transactions for ten minutes, as DynamoDB does to know a repetition.
/// Measured over 11,000 publishes and deletes, that is 2 KiB for each; and when the table of them
/// doubles, 0.55 KiB for each so far, which in this run comes to 1.5 KiB for each in between.
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
/// Each step makes the number one that it never was, so that two equal readings have no change
/// between them.
const STEP: u64 = 8;

/// What is asked, and by which layer's knowledge the answer is judged.
struct Question {
    message: Vec<u8>,
    layer: usize,
    asked: Asked,
}

enum Asked {
    /// ECR's API for the layer's URL.
    Ecr,
    /// The registry.
    Registry(registry::Request),
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Given,
    NotFound,
    Inaccessible,
    /// There is no such image, now: it may have been deleted.
    NoImage,
    Denied,
    Unauthorized,
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

/// Whether an answer says what was true while it was asked for, from the first reading to the
/// second.
fn is_true(outcome: Outcome, before: u64, after: u64) -> bool {
    let is_changing = before != after || before & CHANGING != 0;
    match outcome {
        Outcome::Given => is_changing || before & REFERENCED != 0,
        // After it was deleted, a clean may remove its record.
        Outcome::NotFound => is_changing || before & REFERENCED == 0,
        // Its first publishing makes it referenced at once; after that it may come and go.
        Outcome::Inaccessible => {
            after & PUBLISHED != 0 && (is_changing || before & REFERENCED == 0)
        }
        Outcome::NoImage => is_changing || before & REFERENCED == 0,
        // Whatever is published.
        Outcome::Denied | Outcome::Unauthorized => true,
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
    questions: Vec<Question>,
    calls: AtomicUsize,
    changes: AtomicUsize,
    cleans: AtomicUsize,
    over: AtomicBool,
    started: Instant,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<f64>,
    of_registry: usize,
    given: usize,
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
    let stack = Stack::start(&["--login", "--as", CALLER])?;

    let content: Vec<String> =
        (0..STEADY_LAYERS).map(|n| format!("a layer that stays, {n}\n")).collect();
    let content: Vec<&[u8]> = content.iter().map(String::as_bytes).collect();
    let folder = stack.folder.path().join("steady");
    let steady = image::write(&folder, &content)?;
    publish(&stack, &folder, REPOSITORY, "steady")?;
    publish(&stack, &folder, PRIVATE, "steady")?;
    stack.run(&["repository", "grant", REPOSITORY, CALLER])?;
    let mut images =
        vec![registry::Image { tag: "steady".to_owned(), digest: image::root(&folder)?, layer: 0 }];
    let mut layers: Vec<Layer> = steady
        .into_iter()
        .map(|digest| Layer { digest, knowledge: Knowledge::Referenced })
        .collect();
    for n in 0..STEADY_LAYERS {
        layers.push(Layer {
            digest: format!("sha256:{n:064x}"),
            knowledge: Knowledge::NeverPublished,
        });
    }
    let first_changing = layers.len();
    for n in 0..CHANGING_IMAGES {
        let folder = stack.folder.path().join(format!("changing-{n}"));
        let own = format!("a layer that comes and goes, {n}\n");
        // The shared layers stay referenced whatever happens to this image.
        let digests = image::write(&folder, &[own.as_bytes(), content[0], content[1]])?;
        let digest = digests.into_iter().next().ok_or("an image without layers")?;
        let root = image::root(&folder)?;
        images.push(registry::Image {
            tag: format!("changing-{n}"),
            digest: root,
            layer: layers.len(),
        });
        layers.push(Layer { digest, knowledge: Knowledge::Changing(AtomicU64::new(0)) });
    }

    let calls = layers.iter().enumerate().map(|(layer, Layer { digest, .. })| Question {
        message: ecr::call(digest),
        layer,
        asked: Asked::Ecr,
    });
    let requests =
        registry::questions(&images, &layers, first_changing - 1, &ecr::credentials(&stack)?);
    let run = Run {
        stack: &stack,
        questions: calls.chain(requests).collect(),
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
        let tallies: Vec<_> =
            callers.into_iter().map(|caller| caller.join().map_err(panicked)).collect();
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
        let mut tally = Tally::default();
        // Each caller starts at another question, or all would ask for the same one at once.
        let mut turn = caller;
        while self.goes_on() {
            turn += 1;
            let question = &self.questions[turn % self.questions.len()];
            let layer = &self.layers[question.layer];
            let before = layer.reading();
            let sent = Instant::now();
            connection.send_bytes(&question.message)?;
            let answer = connection.receive()?.ok_or("the stack closed a connection")?;
            tally.latencies.push(milliseconds(sent.elapsed()));
            tally.note(question, layer, &answer, before, layer.reading());
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
                0 => publish(self.stack, &self.stack.folder.path().join(&tag), REPOSITORY, &tag)?,
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
            connection.send_bytes(&ecr::call(&layer.digest))?;
            let answer = connection.receive()?.ok_or("the stack closed a connection")?;
            let body: Value = serde_json::from_slice(answer.body)?;
            let url = body["downloadUrl"].as_str().and_then(|url| url.strip_prefix("http://"));
            let (host, path) = url
                .and_then(|url| url.split_once('/'))
                .ok_or("no URL for a layer that is referenced")?;
            let mut connection = connect(s3)?;
            connection.send(&format!("GET /{path} HTTP/1.1\r\nHost: {host}"), b"")?;
            let bytes = connection.receive()?.ok_or("S3 closed a connection")?.body.to_vec();
            let hex: String =
                digest(&SHA256, &bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect();
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

fn publish(stack: &Stack, folder: &Path, repository: &str, tag: &str) -> Result<()> {
    let folder = folder.to_str().ok_or("the folder's name is not text")?;
    stack.run(&["publish", "--create-repository", folder, &format!("{repository}:{tag}")])
}

impl Question {
    /// What an answer says; `None` for one that cannot be right.
    fn outcome(&self, layer: &Layer, answer: &Message) -> Option<Outcome> {
        match &self.asked {
            Asked::Ecr => ecr::outcome(answer, &layer.digest),
            Asked::Registry(request) => {
                registry::outcome(answer, request).filter(|outcome| request.allows(*outcome))
            }
        }
    }

    /// Its first line, which has no credentials.
    fn first_line(&self) -> String {
        let first = self.message.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(first).into_owned()
    }
}

impl Tally {
    fn note(
        &mut self,
        question: &Question,
        layer: &Layer,
        answer: &Message,
        before: u64,
        after: u64,
    ) {
        let outcome = question.outcome(layer, answer);
        match outcome {
            Some(Outcome::Given) => self.given += 1,
            Some(_) => self.refusals += 1,
            None => {}
        }
        if matches!(question.asked, Asked::Registry(_)) {
            self.of_registry += 1;
        }
        if before != after || before & CHANGING != 0 {
            self.while_changing += 1;
        }
        if !outcome.is_some_and(|outcome| is_true(outcome, before, after)) {
            let status = answer.word(1);
            // The body of a 200 may have a URL, which is a credential.
            let body =
                String::from_utf8_lossy(if status == "200" { b"(not shown)" } else { answer.body });
            let (asked, digest) = (question.first_line(), &layer.digest);
            self.wrong.push(format!("{asked}, {digest}: {status} {body}, at {before} to {after}"));
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
    let latencies: Vec<f64> =
        tallies.iter().flat_map(|tally| tally.latencies.iter().copied()).collect();
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    let wrong = sum(|tally| tally.wrong.len());
    let around = |start: Duration| -> Vec<&Sample> {
        samples.iter().filter(|sample| (start..start + WINDOW).contains(&sample.time)).collect()
    };
    let windows = [around(SETTLED), around(Duration::from_secs_f64(seconds) - WINDOW)];
    let [early, late] = windows
        .each_ref()
        .map(|window| median(&window.iter().map(|sample| sample.memory_mib).collect::<Vec<_>>()));
    let [first, last] = windows
        .each_ref()
        .map(|window| window.get(window.len() / 2).map_or(0, |sample| sample.changes));
    let (growth, most_growth) =
        (late - early, NOISE_MIB + CHANGE_MIB * last.saturating_sub(first) as f64);
    let rows = [
        ("calls", latencies.len().to_string()),
        ("connections", CONNECTIONS.to_string()),
        ("publishes and deletes beside them", changes.to_string()),
        ("cleans beside them", cleans.to_string()),
        ("seconds", format!("{seconds:.1}")),
        ("calls / s", format!("{:.0}", latencies.len() as f64 / seconds)),
        ("p50, ms", format!("{:.1}", median(&latencies))),
        ("p99, ms", format!("{:.1}", percentile(&latencies, 99.0))),
        ("requests to the registry among them", sum(|tally| tally.of_registry).to_string()),
        ("given", sum(|tally| tally.given).to_string()),
        ("refused", sum(|tally| tally.refusals).to_string()),
        (
            "answers while what they are about was being changed",
            sum(|tally| tally.while_changing).to_string(),
        ),
        ("wrong answers", wrong.to_string()),
        ("layers pulled and verified in the end", pulled.to_string()),
        ("RSS after the first minute, MiB", format!("{early:.1}")),
        ("RSS at the end, MiB", format!("{late:.1}")),
        ("growth, MiB", format!("{growth:.1}")),
        (
            "growth at most, for so many publishes, deletes and cleans, MiB",
            format!("{most_growth:.1}"),
        ),
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
