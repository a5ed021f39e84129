//! Where log lines go.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Writes log lines to `writer`, one JSON object a line. `level` is Lambda's
/// `AWS_LAMBDA_LOG_LEVEL`; anything that is not a level counts as `info`.
pub fn init(writer: impl for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static, level: Option<&str>) {
    let level = level.and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
    tracing_subscriber::registry().with(ours(level)).with(lines).init();
}

/// Writes log lines to `writer` for a person at a terminal.
pub fn init_for_terminal(writer: impl for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static) {
    let lines = fmt::layer().compact().without_time().with_target(false).with_writer(writer);
    tracing_subscriber::registry().with(ours(Level::INFO)).with(lines).init();
}

/// The lines of this workspace. Of other crates, only errors of the Lambda runtime are logged,
/// whatever the level: below `info`, the AWS SDK logs the requests that it signs, with their
/// signatures.
fn ours(level: Level) -> Targets {
    Targets::new()
        .with_targets([("layergate", level), ("bootstrap", level), ("worker", level)])
        .with_target("lambda_runtime", Level::ERROR)
}
