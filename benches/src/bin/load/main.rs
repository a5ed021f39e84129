//! `make load`: at least 100,000 calls in at least two minutes, at 64 connections, on `layergate
//! local`. At the same time, images are published and deleted, and unused layers are cleaned, also
//! young ones. The calls go to ECR's API and to the registry in turn.
//!
//! The form of every answer is checked, and whether it was true at that time. A layer that is
//! always referenced must get a URL. A layer that nobody published must not be found. A layer that
//! is published and deleted again and again may be refused only while it is deleted, and found only
//! while it is published; during a change, both answers are right. The same holds for images and
//! their tags. Without a grant, the caller must be denied. Without a valid token, the caller must
//! get the challenge to log in. At the end, each referenced layer is pulled and verified.

mod ecr;
mod layer;
mod registry;
mod tally;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use layergate_bench::http::connect;
use layergate_bench::stack::{Stack, address};
use layergate_bench::statistics::milliseconds;
use layergate_bench::{Result, image, report};
use serde_json::Value;

use layer::{CHANGING, Knowledge, Layer, PUBLISHED, REFERENCED};
use tally::{Asked, Beside, Question, Sample, Tally};

/// There are at least this many calls, for at least this time.
const CALLS: usize = 100_000;
const DURATION: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 64;

/// Calls come from this account. The first repository is granted to it, the second is not.
const CALLER: &str = "222222222222";
const REPOSITORY: &str = "load";
const PRIVATE: &str = "private";

/// How many layers the image has that stays, and how many images come and go.
const STEADY_LAYERS: usize = 8;
const CHANGING_IMAGES: usize = 4;

/// After this time, the run ends without all calls.
const PATIENCE: Duration = Duration::from_secs(600);

/// The time between two cleans.
const PAUSE: Duration = Duration::from_millis(500);

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
        // The steady image shares the two other layers, so they stay referenced.
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
    let (changes, cleans) = (run.changes.into_inner(), run.cleans.into_inner());
    stack.process.stop()?;
    tally::judge(&tallies, &Beside { changes, cleans, pulled, samples }, seconds, &machine)
}

impl Run<'_> {
    /// Makes calls until the run ends.
    fn call(&self, caller: usize) -> Result<Tally> {
        let mut connection = connect(self.stack.address)?;
        let mut tally = Tally::default();
        // Each caller starts at another question. Otherwise, all would ask the same one at once.
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

    /// Publishes and deletes one image after the other until the run ends.
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

    /// Cleans again and again until the run ends.
    fn clean(&self) -> Result<()> {
        while !self.over.load(Ordering::SeqCst) {
            self.stack.run(&["clean", "--older-than", "0s"])?;
            self.cleans.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Pulls and verifies all layers that are referenced now. Returns how many there are.
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
            let answer = connection.receive()?.ok_or("S3 closed a connection")?;
            if layer.digest != image::digest_of(answer.body) {
                return Err(format!("{}: the content has another digest", layer.digest).into());
            }
            pulled += 1;
        }
        Ok(pulled)
    }

    /// Takes samples until the run ends.
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
