//! `layergate clean`.

use std::fmt;
use std::time::Duration;

use indicatif::HumanBytes;
use layergate_core::catalog::CleanError;
use layergate_core::clean::{Cleaning, Freed, Position};
use layergate_core::role::Cleaner;
use layergate_core::types::RegistryId;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::output::Format;
use crate::progress::CleanProgress;
use crate::session::Session;

/// Delete unused layers and leftovers from S3. Safe to run at any time
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep younger objects, uploads and unfinished images (examples: 90s, 30m, 12h, 7d). So you
    /// can repeat an interrupted publish without uploading layers twice
    #[arg(long, value_name = "AGE", value_parser = age, default_value = "7d")]
    older_than: Duration,
    /// Only print what the command would delete
    #[arg(long)]
    dry_run: bool,
}

/// What was deleted, or would be with a dry run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cleaned {
    registry_id: String,
    /// Whether the command only printed.
    dry_run: bool,
    /// Objects of the bucket: layers and manifests.
    objects: u64,
    bytes: u64,
    /// Records of layers that no image references.
    layers: u64,
    /// Records of images whose publishing or deletion was never completed.
    images: u64,
    uploads: u64,
}

impl Cleaned {
    fn new(registry: &RegistryId, dry_run: bool, freed: Freed) -> Self {
        let Freed { images, layers, objects, bytes, uploads } = freed;
        Self { registry_id: registry.to_string(), dry_run, objects, bytes, layers, images, uploads }
    }
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} objects with {}, records of {} layers and {} unfinished images, and {} unfinished uploads",
            if self.dry_run { "would delete" } else { "deleted" },
            self.objects,
            HumanBytes(self.bytes),
            self.layers,
            self.images,
            self.uploads
        )
    }
}

/// Runs the command. When `interruption` is cancelled, it completes the current step and stops.
pub async fn run(
    arguments: Arguments,
    format: Format,
    interruption: CancellationToken,
) -> Result<(), Error> {
    let session = Session::<Cleaner>::open().await?;
    let cleaning = Cleaning {
        catalog: &session.catalog,
        store: &session.store,
        registry: &session.registry,
        older_than: arguments.older_than,
        is_dry_run: arguments.dry_run,
    };
    let progress = CleanProgress::new();
    let is_interrupted = || interruption.is_cancelled();
    let cleaned =
        cleaning.run(Position::default(), &is_interrupted, &|at| progress.report(at)).await;
    progress.finish();
    let cleaned = cleaned.map_err(|error| match error {
        CleanError::Lapsed => Error::Local(
            "this machine was suspended for too long, so other commands no longer count on this clean; run it again"
                .to_owned(),
        ),
        CleanError::Fault(fault) => fault.into(),
    })?;
    if cleaned.next.is_some() {
        return Err(Error::Interrupted);
    }
    format.print(&Cleaned::new(&session.registry, arguments.dry_run, cleaned.freed))
}

/// Reads an age, such as `7d`.
fn age(value: &str) -> Result<Duration, String> {
    let wrong = || "it must be a number with a unit, such as 90s, 30m, 12h or 7d".to_owned();
    let unit = value.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let digits = &value[..value.len() - unit.len_utf8()];
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|_| is_number).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_with_a_unit() {
        let ages = [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)];
        for (text, seconds) in ages {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "-1d", "+1d", "1.5h", "7 d", "1w", "7é", "99999999999d"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
