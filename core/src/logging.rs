//! Where log lines go.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Writes this crate's log lines to `writer`, one JSON object a line.
///
/// Of other crates, only errors of the Lambda runtime are logged, whatever the level: below `info`,
/// the AWS SDK logs the requests that it signs, with their signatures. `level` is Lambda's
/// `AWS_LAMBDA_LOG_LEVEL`; anything that is not a level counts as `info`.
pub fn init(writer: impl for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static, level: Option<&str>) {
    let level = level.and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
    let ours = Targets::new()
        .with_targets([("layergate", level), ("bootstrap", level), ("worker", level)])
        .with_target("lambda_runtime", Level::ERROR);
    tracing_subscriber::registry().with(ours).with(lines).init();
}
