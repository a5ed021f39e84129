//! The chart. It has a panel for each figure, with a bar for each function.

use serde_json::Value;

use crate::contest::BEFORE;

const WIDTH: f64 = 820.0;
const LABELS: f64 = 170.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const PANEL_HEAD: f64 = 40.0;

/// For each panel: the figure's key in the JSON, its title, and the decimals.
const PANELS: [(&str, &str, usize); 4] = [
    ("cold_ms", "Cold start over TLS, ms (median)", 1),
    ("warm_p50_ms", "Warm call, ms (median)", 3),
    ("cpu_s_per_10000", "CPU, seconds per 10,000 calls", 2),
    ("peak_rss_mib", "Peak memory, MiB", 1),
];

/// Draws the figures of the part `function` as SVG. All bars of a panel have the same scale.
pub fn draw(results: &Value) -> String {
    let rows = results["function"]["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    // The chart is for the README. Its readers do not need an earlier build.
    let rows = || rows.iter().filter(|row| row["name"] != BEFORE);
    let mut y = 12.0;
    let mut shapes = String::new();
    for (figure, title, decimals) in PANELS {
        let bars: Vec<(&str, f64)> =
            rows().filter_map(|row| Some((row["name"].as_str()?, row[figure].as_f64()?))).collect();
        let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        shapes += &text(12.0, y + 20.0, "title", title);
        y += PANEL_HEAD;
        for (name, value) in bars {
            let length = (value / most * (WIDTH - LABELS - 90.0)).max(1.0);
            let class = if name.starts_with("layergate") { "ours" } else { "other" };
            shapes += &text(12.0, y + 13.5, "name", name);
            shapes += &format!(
                "  <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" \
                 height=\"{BAR}\"/>\n"
            );
            shapes +=
                &text(LABELS + length + 6.0, y + 13.5, "value", &format!("{value:.decimals$}"));
            y += BAR + GAP;
        }
        y += 8.0;
    }
    let date = results["machine"]["date"].as_str().unwrap_or_default();
    shapes += &text(12.0, y + 16.0, "name", &format!("make bench, {date}, one CPU"));
    let height = y + 28.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n  \
         <title>The function beside others</title>\n  \
         <style>\n    \
         text {{ font: 13px system-ui, sans-serif; fill: #24292f }}\n    \
         .title {{ font-weight: 600; font-size: 14px }}\n    \
         .ours {{ fill: #c2410c }} .other {{ fill: #8b949e }}\n  \
         </style>\n  \
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{shapes}</svg>\n"
    )
}

fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("  <text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>\n")
}
