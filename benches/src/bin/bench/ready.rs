//! The time that is saved if the function connects to DynamoDB during init, measured both ways.

use std::time::Duration;

use layergate_bench::statistics::{median, milliseconds};
use layergate_bench::{Result, report};
use serde_json::{Value, json};

use crate::function::Function;

const ROUNDS: usize = 25;

/// The function with one of Lambda's initialization types, and the times of its first answers in
/// milliseconds.
struct Variant {
    name: &'static str,
    function: Function,
    from_start: Vec<f64>,
    after_init: Vec<f64>,
}

impl Variant {
    fn new(
        name: &'static str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Result<Self> {
        Ok(Self {
            name,
            function: Function::ours(environment)?,
            from_start: Vec::new(),
            after_init: Vec::new(),
        })
    }
}

/// Measures on CPU `cpu`, with DynamoDB at `endpoint`. Prints a table and returns the figures.
pub fn run(cpu: usize, endpoint: &str) -> Result<Value> {
    let mut variants = [
        Variant::new("no", &[("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")])?,
        Variant::new(
            "yes (provisioned concurrency)",
            &[("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")],
        )?,
    ];
    for _ in 0..ROUNDS {
        for variant in &mut variants {
            let (time, _) = variant.function.first_answer(cpu, endpoint)?;
            variant.from_start.push(milliseconds(time));
            variant.after_init.push(milliseconds(after_init(&variant.function, cpu, endpoint)?));
        }
    }
    println!("layergate's first answer over TLS, medians of {ROUNDS}\n");
    let headings =
        ["connects during init", "ms from start, event waits", "ms from event, init is over"];
    let cells = variants.iter().map(|variant| {
        let times =
            [&variant.from_start, &variant.after_init].map(|times| format!("{:.1}", median(times)));
        [&[variant.name.to_owned()], &times[..]].concat()
    });
    report::table(&headings, &cells.collect::<Vec<_>>());
    let figures = variants.iter().map(|variant| {
        json!({
            "made_ready": variant.name,
            "from_start_ms": median(&variant.from_start),
            "after_init_ms": median(&variant.after_init),
        })
    });
    Ok(figures.collect())
}

/// Sends an event when the process already waits for it. Returns the time until the answer.
fn after_init(function: &Function, cpu: usize, endpoint: &str) -> Result<Duration> {
    function.api.expect_process(0);
    let _process = function.spawn(cpu, endpoint)?;
    function.api.idle()?;
    function.api.offer(1);
    let (started, answered) = *function.api.finished()?.first().ok_or("no call was made")?;
    Ok(answered - started)
}
