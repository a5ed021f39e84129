//! How a run prints its tables and targets.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::Result;

/// Prints a table in Markdown. The first column is aligned left, the others right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) {
    let headings: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let width = |column: usize| {
        std::iter::once(&headings)
            .chain(rows)
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(n, width)| if n == 0 { "-".repeat(*width) } else { "-".repeat(width - 1) + ":" })
        .collect();
    for row in [&headings, &rule].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths).enumerate().map(|(n, (cell, &width))| match n {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// The date, the machine, and its load before the run.
pub fn machine() -> Result<Value> {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output()?;
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.split_ascii_whitespace().nth(1).ok_or("no memory")?.parse::<f64>()?
        / 1024.0
        / 1024.0;
    Ok(json!({
        "date": String::from_utf8(date.stdout)?.trim(),
        "cpus": std::thread::available_parallelism()?.get(),
        "cpu": model.map(|(_, model)| model.trim()),
        "memory_gib": memory.round(),
        "load_before": load()?,
    }))
}

/// How many tasks wanted a CPU in the last minute. If there were more than a few tenths before a
/// run, other work is part of its figures.
fn load() -> Result<f64> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(load.split_ascii_whitespace().next().ok_or("no load")?.parse()?)
}

/// What [`machine`] returned, in one line.
pub fn describe(machine: &Value) -> String {
    format!(
        "{}, {} CPUs ({}), {} GiB of memory, load before the run {}",
        machine["date"].as_str().unwrap_or_default(),
        machine["cpus"],
        machine["cpu"].as_str().unwrap_or_default(),
        machine["memory_gib"],
        machine["load_before"]
    )
}

/// Prints targets: the name of each, the figure that was reached, and the largest allowed one.
/// Returns them as JSON.
pub fn targets(targets: &[(String, f64, f64)]) -> Value {
    let cells = |(name, reached, at_most): &(String, f64, f64)| {
        let verdict = if reached <= at_most { "met" } else { "missed" };
        vec![name.clone(), format!("{at_most:.3}"), format!("{reached:.3}"), verdict.to_owned()]
    };
    table(&["", "at most", "reached", ""], &targets.iter().map(cells).collect::<Vec<_>>());
    let json = |target: &(String, f64, f64)| {
        let (name, reached, at_most) = target;
        json!({"target": name, "reached": reached, "at_most": at_most})
    };
    targets.iter().map(json).collect()
}
