//! `make bench`: the function beside others, the local stack beside CNCF's registry, and a large publish.
//!
//! Prints tables, and writes `target/bench/bench.json` and the chart `benches/bench.svg`.

mod answers;
mod chart;
mod function;
mod local;
mod ready;
mod runtime_api;

use std::fs;
use std::path::Path;

use layergate_bench::stack::FOLDER;
use layergate_bench::{Result, process, report};
use serde_json::json;

fn main() -> Result<()> {
    let cpus = process::cpus()?;
    let &[measured, drivers, ..] = cpus.as_slice() else {
        return Err("two CPUs are needed: one for what is measured, one for what measures".into());
    };
    fs::create_dir_all(FOLDER)?;
    let machine = report::machine()?;
    println!("{}\n", report::describe(&machine));

    process::pin(&[drivers])?;
    let function = function::run(measured)?;
    process::pin(&cpus)?;
    let requests_per_call = function["rows"][0]["requests_per_call"].as_f64().ok_or("it was not counted")?;
    let local = local::run(Path::new("target/release/layergate"), requests_per_call)?;

    let results = json!({"machine": machine, "function": function, "local": local});
    fs::write(Path::new(FOLDER).join("bench.json"), format!("{results:#}\n"))?;
    fs::write("benches/bench.svg", chart::draw(&results))?;
    println!("Figures: {FOLDER}/bench.json. Chart: benches/bench.svg.");
    Ok(())
}
