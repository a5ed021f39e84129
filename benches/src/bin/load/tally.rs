//! Checks answers, counts them, and judges the run.

use std::time::Duration;

use layergate_bench::http::Message;
use layergate_bench::statistics::{median, percentile};
use layergate_bench::{Result, paths, report};
use serde_json::{Value, json};

use crate::layer::{Layer, Outcome, has_changed};
use crate::{CALLS, CHANGING_IMAGES, CONNECTIONS, STEADY_LAYERS, ecr, registry};

/// Memory settles in the first minute. The medians in the 15 seconds after that and in the last 15
/// seconds are compared.
const SETTLED: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(15);

/// How much memory may grow between them, in MiB: the allocator's noise, and an amount for each
/// publish, delete or clean. The embedded DynamoDB remembers transactions for ten minutes, as
/// DynamoDB does, to recognise repetitions. In a run of 11,000 publishes and deletes, that was
/// 2 KiB for each. When the table of them doubles, it adds 0.55 KiB for each one so far, which is
/// about 1.5 KiB for each one between the two windows.
const NOISE_MIB: f64 = 1.0;
const CHANGE_MIB: f64 = 4.0 / 1024.0;

/// A request, and the layer by which its answer is checked.
pub struct Question {
    pub message: Vec<u8>,
    pub layer: usize,
    pub asked: Asked,
}

pub enum Asked {
    /// ECR's API for the layer's URL.
    Ecr,
    /// The registry.
    Registry(registry::Request),
}

/// What one caller counted.
#[derive(Default)]
pub struct Tally {
    /// In milliseconds.
    pub latencies: Vec<f64>,
    to_registry: usize,
    given: usize,
    refusals: usize,
    while_changing: usize,
    wrong: Vec<String>,
}

/// The stack at one time.
pub struct Sample {
    pub time: Duration,
    pub memory_mib: f64,
    /// How many publishes, deletes and cleans there were.
    pub changes: usize,
}

/// What happened beside the calls.
pub struct Beside {
    pub changes: usize,
    pub cleans: usize,
    pub pulled: usize,
    pub samples: Vec<Sample>,
}

impl Question {
    /// What an answer says. `None` if it cannot be right.
    fn outcome(&self, layer: &Layer, answer: &Message) -> Option<Outcome> {
        match &self.asked {
            Asked::Ecr => ecr::outcome(answer, &layer.digest),
            Asked::Registry(request) => {
                registry::outcome(answer, request).filter(|outcome| request.allows(*outcome))
            }
        }
    }

    /// The request's first line, which has no credentials.
    fn first_line(&self) -> String {
        let first = self.message.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(first).into_owned()
    }
}

impl Tally {
    /// Checks and counts an answer. `before` and `after` are readings of the layer.
    pub fn note(
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
        self.to_registry += usize::from(matches!(question.asked, Asked::Registry(_)));
        self.while_changing += usize::from(has_changed(before, after));
        if !outcome.is_some_and(|outcome| outcome.is_true(before, after)) {
            let status = answer.word(1);
            // The body of a 200 may have a URL, which is a credential.
            let body =
                String::from_utf8_lossy(if status == "200" { b"(not shown)" } else { answer.body });
            let (asked, digest) = (question.first_line(), &layer.digest);
            self.wrong.push(format!("{asked}, {digest}: {status} {body}, at {before} to {after}"));
        }
    }
}

/// Prints what was counted. Returns whether all answers were right, memory did not grow too much,
/// and each changing image came and went.
pub fn judge(tallies: &[Tally], beside: &Beside, seconds: f64, machine: &Value) -> Result<bool> {
    let latencies: Vec<f64> =
        tallies.iter().flat_map(|tally| tally.latencies.iter().copied()).collect();
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    let wrong = sum(|tally| tally.wrong.len());
    let &Beside { changes, cleans, pulled, ref samples } = beside;
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
    let growth = late - early;
    let most_growth = NOISE_MIB + CHANGE_MIB * last.saturating_sub(first) as f64;
    let rows = [
        ("calls", latencies.len().to_string()),
        ("connections", CONNECTIONS.to_string()),
        ("publishes and deletes at the same time", changes.to_string()),
        ("cleans at the same time", cleans.to_string()),
        ("seconds", format!("{seconds:.1}")),
        ("calls / s", format!("{:.0}", latencies.len() as f64 / seconds)),
        ("p50, ms", format!("{:.1}", median(&latencies))),
        ("p99, ms", format!("{:.1}", percentile(&latencies, 99.0))),
        ("calls to the registry", sum(|tally| tally.to_registry).to_string()),
        ("successes", sum(|tally| tally.given).to_string()),
        ("refusals", sum(|tally| tally.refusals).to_string()),
        ("answers while the layer or image changed", sum(|tally| tally.while_changing).to_string()),
        ("wrong answers", wrong.to_string()),
        ("layers pulled and verified at the end", pulled.to_string()),
        ("RSS after the first minute, MiB", format!("{early:.1}")),
        ("RSS at the end, MiB", format!("{late:.1}")),
        ("growth, MiB", format!("{growth:.1}")),
        ("largest allowed growth, MiB", format!("{most_growth:.1}")),
    ];
    report::table(&["", ""], &rows.map(|(name, figure)| vec![name.to_owned(), figure]));
    for wrong in tallies.iter().flat_map(|tally| &tally.wrong).take(10) {
        println!("wrong: {wrong}");
    }
    let memory: Vec<_> =
        samples.iter().map(|sample| (sample.time.as_secs_f64(), sample.memory_mib)).collect();
    let results = json!({
        "machine": machine, "calls": latencies.len(), "connections": CONNECTIONS,
        "changes": changes, "cleans": cleans, "seconds": seconds, "p50_ms": median(&latencies),
        "p99_ms": percentile(&latencies, 99.0), "wrong": wrong, "rss_mib": memory,
    });
    std::fs::write(paths::folder()?.join("load.json"), format!("{results}\n"))?;

    let has_changed = changes >= 2 * CHANGING_IMAGES && cleans > 1 && pulled >= STEADY_LAYERS;
    let passed = latencies.len() >= CALLS && wrong == 0 && growth <= most_growth && has_changed;
    println!("{}", if passed { "Passed." } else { "Failed." });
    Ok(passed)
}
