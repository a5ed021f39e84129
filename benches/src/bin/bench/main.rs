//! `make bench`: the function beside others, the local stack beside CNCF's registry, and a large publish.
//!
//! Prints tables, and writes the figures as JSON and the chart `benches/bench.svg`.

mod answers;
mod chart;
mod function;
mod local;
mod ready;
mod runtime_api;

use std::fs;

use layergate_bench::{Result, paths, process, report};
use serde_json::json;

fn main() -> Result<()> {
    let cpus = process::cpus()?;
    let &[measured, drivers, ..] = cpus.as_slice() else {
        return Err("two CPUs are needed: one for what is measured, one for what measures".into());
    };
    let machine = report::machine()?;
    println!("{}\n", report::describe(&machine));

    process::pin(&[drivers])?;
    let function = function::run(measured)?;
    process::pin(&cpus)?;
    let requests_per_call = function["rows"][0]["requests_per_call"].as_f64().ok_or("it was not counted")?;
    let local = local::run(requests_per_call)?;

    let results = json!({"machine": machine, "function": function, "local": local});
    let figures = paths::folder()?.join("bench.json");
    fs::write(&figures, format!("{results:#}\n"))?;
    fs::write("benches/bench.svg", chart::draw(&results))?;
    println!("Figures: {}. Chart: benches/bench.svg.", figures.display());
    Ok(())
}
