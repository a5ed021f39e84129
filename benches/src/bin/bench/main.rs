//! `make bench` measures the function beside others, the cost of commands and calls as a repository
//! grows, a clean of a large registry, the local stack beside CNCF Distribution's registry, a large
//! publish, pulls, and pulls through a cache.
//!
//! It prints tables, and writes the figures as JSON and the chart `benches/bench.svg`. The variable
//! `PART` chooses one part. `BEFORE` is another build of the function, to compare this one with.

mod answers;
mod bucket;
mod chart;
mod clean;
mod contest;
mod counter;
mod distribution;
mod floor;
mod function;
mod growth;
mod local;
mod meter;
mod pull_through;
mod ready;
mod registry;
mod runtime_api;
mod skopeo;
mod worker;

use std::fs;
use std::process::ExitCode;

use layergate_bench::{Result, paths, process, report};
use serde_json::json;

const PARTS: [&str; 6] = ["function", "growth", "clean", "local", "registry", "pull-through"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let part = variable("PART");
    if let Some(part) = part.as_deref().filter(|part| !PARTS.contains(part)) {
        return Err(format!("PART is '{part}'; it must be one of {}", PARTS.join(", ")).into());
    }
    let is_wanted = |name| part.as_deref().is_none_or(|part| part == name);
    let cpus = process::cpus()?;
    let &[measured, drivers, ..] = cpus.as_slice() else {
        return Err("two CPUs are needed: one for what is measured, one for what measures".into());
    };
    let machine = report::machine()?;
    println!("{}\n", report::describe(&machine));
    let mut results = json!({"machine": machine});

    if is_wanted("function") {
        process::pin(&[drivers])?;
        results["function"] = contest::run(measured, variable("BEFORE").map(Into::into))?;
        process::pin(&cpus)?;
        fs::write("benches/bench.svg", chart::draw(&results))?;
        println!("Chart: benches/bench.svg\n");
    }
    if is_wanted("growth") {
        results["growth"] = growth::run(measured)?;
    }
    if is_wanted("clean") {
        results["clean"] = clean::run()?;
    }
    if is_wanted("local") {
        results["local"] = local::run()?;
    }
    if is_wanted("registry") {
        results["registry"] = registry::run()?;
    }
    if is_wanted("pull-through") {
        results["pull_through"] = pull_through::run()?;
        results["worker"] = worker::run()?;
    }

    let figures = paths::folder()?.join("bench.json");
    fs::write(&figures, format!("{results:#}\n"))?;
    println!("Figures: {}", figures.display());
    Ok(())
}

/// A variable's value, if it is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
