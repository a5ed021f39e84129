//! The scheduled clean. It works in slices that fit into the function's time limit.

use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::Error;
use layergate_core::catalog::CleanError;
use layergate_core::clean::{Cleaning, Freed, Position, Slice};
use layergate_core::fault::Fault;

use crate::Worker;

/// How long before Lambda's deadline a slice starts nothing new. It then has time to finish a page
/// of a thousand objects, or the records of one repository. If that takes longer, Lambda ends the
/// function. What was removed stays removed, and the next slice has less to do.
const MARGIN: Duration = Duration::from_secs(60);

impl Worker {
    /// Continues where the last slice stopped, until the function's time is nearly over. Writes one
    /// log line, which the template's metrics are made from. An error fails the invocation, and the
    /// alarm counts failed invocations.
    pub(crate) async fn clean(
        &self,
        older_than: Duration,
        deadline: SystemTime,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let slice = self.slice(older_than, deadline - MARGIN).await;
        let registry = self.registry.as_ref();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match slice {
            Ok(Slice { freed, next }) => {
                let Freed { images, layers, objects, bytes, uploads } = freed;
                let is_complete = next.is_none();
                tracing::info!(
                    registry,
                    objects,
                    bytes,
                    layers,
                    images,
                    uploads,
                    is_complete,
                    duration_ms,
                    "clean"
                );
                Ok(())
            }
            Err(error) => {
                let cause = cause(&error);
                tracing::error!(registry, cause, duration_ms, "clean");
                Err("the registry could not be cleaned; the log has the cause".into())
            }
        }
    }

    async fn slice(
        &self,
        older_than: Duration,
        last_call: SystemTime,
    ) -> Result<Slice, CleanError> {
        let catalog = &self.records;
        catalog.check_layout(&self.registry).await?;
        let before = catalog.cleaning_position(&self.registry).await?;
        // A position that another version wrote may not parse. Then the clean begins again.
        let position = before.as_deref().and_then(|position| serde_json::from_str(position).ok());
        let cleaning = Cleaning {
            catalog,
            store: &self.objects,
            registry: &self.registry,
            older_than,
            is_dry_run: false,
        };
        let should_stop = || SystemTime::now() >= last_call;
        let slice = cleaning.run(position.unwrap_or_default(), &should_stop, &|_| {}).await?;
        let after = slice.next.as_ref().map(text);
        if after != before {
            catalog.set_cleaning_position(&self.registry, after.as_deref()).await?;
        }
        Ok(slice)
    }
}

fn text(position: &Position) -> String {
    serde_json::to_string(position).unwrap_or_default() // an empty text is no position: the next clean begins again
}

fn cause(error: &CleanError) -> String {
    match error {
        CleanError::Lapsed => "the function stood still for too long".to_owned(),
        CleanError::Fault(fault) => Fault::with_causes(fault),
    }
}
