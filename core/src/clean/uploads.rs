//! The third stage: uploads that were never completed.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Cleaning, Run};
use crate::catalog::CleanError;
use crate::types::seconds_since_1970;

/// How many uploads are aborted at once.
const ABORTS_AT_ONCE: usize = 8;

impl Run<'_> {
    /// Aborts the uploads that are old enough, except those of what somebody publishes now. They
    /// need no claim: nobody continues an upload that somebody else has started.
    pub(super) async fn uploads(&mut self) -> Result<(), CleanError> {
        let Cleaning { catalog, store, registry, is_dry_run, .. } = self.cleaning;
        let mut from = None;
        loop {
            let (mut uploads, next) = store.list_uploads(registry, from).await?;
            uploads.retain(|upload| upload.started <= seconds_since_1970(self.before));
            if !uploads.is_empty() {
                // Read after the list: whoever has started one of these has announced it before.
                let relied_on = catalog.relied_on(registry).await?;
                uploads.retain(|upload| !relied_on.contains(&upload.digest.canonical()));
            }
            self.freed.uploads += uploads.len() as u64;
            if !is_dry_run {
                let aborts =
                    uploads.iter().map(async |upload| store.abort_upload(&upload.upload).await);
                stream::iter(aborts).buffer_unordered(ABORTS_AT_ONCE).try_collect::<()>().await?;
            }
            self.report(if next.is_some() { 0.5 } else { 1.0 });
            match next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }
}
