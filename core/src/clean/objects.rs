//! The second stage: objects that no repository has a record of. The store's list of objects and
//! the repositories' listings are in the same order, and are read side by side.

use std::time::Duration;

use super::{Cleaning, Run};
use crate::catalog::sweep::Listing;
use crate::catalog::{CleanError, LARGEST_CLAIM};
use crate::fault::{Fault, Kind};
use crate::store::StoredObject;
use crate::types::{Digest, ObjectKey, seconds_since_1970};

/// How long to wait before S3 is asked again that had too much to do; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// An object that nobody seems to need.
struct Candidate {
    digest: Digest,
    object: StoredObject,
}

impl Run<'_> {
    /// Looks through the objects of one algorithm, after the one with the digits `after`. Returns
    /// the digits of the last object that is done, if it was stopped.
    pub(super) async fn objects(
        &mut self,
        listing: Listing,
        algorithm: &str,
        after: &str,
    ) -> Result<Option<String>, CleanError> {
        let Cleaning { catalog, store, registry, .. } = self.cleaning;
        let prefix = match listing {
            Listing::Layers => ObjectKey::layers(registry),
            Listing::Images => ObjectKey::manifests(registry),
        };
        let prefix = format!("{prefix}{algorithm}/");
        let repositories = self.repositories.clone();
        let mut listed = catalog.merged_listings(&repositories, listing, algorithm, after).await?;
        let mut candidates = Vec::new();
        let mut last = if after.is_empty() { String::new() } else { format!("{prefix}{after}") };
        loop {
            self.renew().await?;
            let (objects, more_follow) = store.list(&prefix, &last).await?;
            last = objects.last().map_or(last, |object| object.key.clone());
            for object in objects {
                let hex = object.key.strip_prefix(&prefix).unwrap_or_default();
                // What has another name is not layergate's.
                let Ok(digest) = Digest::parse(&format!("{algorithm}:{hex}")) else { continue };
                if digest.hex() != hex {
                    continue;
                }
                let records = listed.repositories_with(hex).await?;
                let is_needed = records.iter().any(|repository| !self.is_gone(repository, &digest));
                if !is_needed && object.modified <= seconds_since_1970(self.before) {
                    candidates.push(Candidate { digest, object });
                }
            }
            let digits = last.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let stops = !more_follow || (self.should_stop)();
            while candidates.len() >= LARGEST_CLAIM || (stops && !candidates.is_empty()) {
                let rest = candidates.split_off(candidates.len().min(LARGEST_CLAIM));
                self.free(std::mem::replace(&mut candidates, rest)).await?;
            }
            self.report(share(&digits, more_follow));
            if stops {
                return Ok(more_follow.then_some(digits));
            }
        }
    }

    /// Deletes objects that no record needs, unless a publishing relies on them.
    async fn free(&mut self, mut candidates: Vec<Candidate>) -> Result<(), CleanError> {
        let digests: Vec<Digest> =
            candidates.iter().map(|candidate| candidate.digest.clone()).collect();
        let free = self.claim(&digests).await?;
        candidates.retain(|candidate| free.contains(&candidate.digest.canonical()));
        if !candidates.is_empty() {
            self.delete_objects(&candidates).await?;
        }
        self.release().await?;
        self.freed.objects += candidates.len() as u64;
        self.freed.bytes += candidates.iter().map(|candidate| candidate.object.size).sum::<u64>();
        Ok(())
    }

    async fn delete_objects(&mut self, candidates: &[Candidate]) -> Result<(), CleanError> {
        let mut longest_wait = FIRST_WAIT;
        while let Some(lease) = &self.lease {
            lease.may_act()?;
            let keys = candidates.iter().map(|candidate| candidate.object.key.as_str());
            match self.cleaning.store.delete(keys).await {
                Ok(()) => break,
                Err(fault) if is_answered(&fault) => {
                    if !fault.is_passing() {
                        return Err(fault.into());
                    }
                    tokio::time::sleep(longest_wait.mul_f64(fastrand::f64())).await;
                    longest_wait *= 2;
                }
                Err(fault) => {
                    // The request may still arrive. So the claim stays, until its lease has run
                    // out.
                    self.lease = None;
                    return Err(fault.into());
                }
            }
        }
        Ok(())
    }
}

fn is_answered(fault: &Fault) -> bool {
    matches!(fault, Fault::Backend(fault) if fault.kind == Kind::Answered)
}

/// How much of all objects comes before these digits, which are of a hash and so evenly spread.
fn share(digits: &str, more_follow: bool) -> f64 {
    let first = digits.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    match (first, more_follow) {
        (Some(first), true) => f64::from(first) / 65_536.0,
        _ => 1.0,
    }
}
