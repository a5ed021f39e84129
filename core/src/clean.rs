//! Cleaning: removes what no image needs any more, while others publish.
//!
//! 1. Records: images whose publishing never ended, and layers that no image references.
//! 2. Objects of the store: layers and manifests that no repository of the registry has a record
//!    of.
//! 3. Uploads that were never completed.
//!
//! It is safe to stop at any point, and any number of cleaners may be at work. A batch of digests
//! is first claimed in the catalog; then the intents of publishings are read, and what one of them
//! names is left alone. Why no publishing loses what it relies on is in `docs/architecture.md`.
//!
//! This module does not know who waits for it: it works in slices, and reports [`Progress`].

mod filter;
mod objects;
mod records;
mod uploads;

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::catalog::sweep::Listing;
use crate::catalog::{Catalog, CleanError, CleaningLease};
use crate::fault::Fault;
use crate::role::Cleaner;
use crate::store::Store;
use crate::types::{Digest, RegistryId, Repository};
use filter::Filter;

/// What to clean, and how.
#[derive(Debug)]
pub struct Cleaning<'a> {
    /// The registry's catalog.
    pub catalog: &'a Catalog<Cleaner>,
    /// The registry's store.
    pub store: &'a Store<Cleaner>,
    /// The registry. Others in the same table and bucket are left alone.
    pub registry: &'a RegistryId,
    /// Objects, uploads and unfinished images that are younger stay: a publishing that was killed
    /// may be run again, and then does not send them again.
    pub older_than: Duration,
    /// Only looks what it would remove.
    pub is_dry_run: bool,
}

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Records of images whose publishing or deletion did not end.
    pub images: u64,
    /// Records of layers, one for each repository that had the layer.
    pub layers: u64,
    /// Objects: layers and manifests.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unfinished uploads.
    pub uploads: u64,
}

/// What a cleaning looks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The repositories' records.
    Records,
    /// The store's layers.
    Layers,
    /// The store's manifests.
    Manifests,
    /// The store's unfinished uploads.
    Uploads,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Records => "records",
            Self::Layers => "layers",
            Self::Manifests => "manifests",
            Self::Uploads => "uploads",
        })
    }
}

/// How far a cleaning is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What it looks through.
    pub stage: Stage,
    /// How much of that it has looked through, from 0 to 1.
    pub share: f64,
    /// What this slice has removed so far.
    pub freed: Freed,
}

/// Where a cleaning goes on. The default is its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    step: Step,
    /// What is done of this step: all up to the repository with this name, or the object with these
    /// digits.
    after: String,
}

/// What a slice of a cleaning came to.
#[derive(Debug)]
pub struct Slice {
    /// What it has removed.
    pub freed: Freed,
    /// Where the next slice goes on; `None` if this was the last.
    pub next: Option<Position>,
}

/// A step of a cleaning, as a position names it. A listing in the order of digests has the digests
/// of one algorithm after those of the other, so each is a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    #[default]
    Records,
    Sha256Layers,
    Sha512Layers,
    Sha256Manifests,
    Sha512Manifests,
    Uploads,
}

impl Step {
    /// All steps, in their order.
    const ALL: [Self; 6] = [
        Self::Records,
        Self::Sha256Layers,
        Self::Sha512Layers,
        Self::Sha256Manifests,
        Self::Sha512Manifests,
        Self::Uploads,
    ];

    fn stage(self) -> Stage {
        match self {
            Self::Records => Stage::Records,
            Self::Sha256Layers | Self::Sha512Layers => Stage::Layers,
            Self::Sha256Manifests | Self::Sha512Manifests => Stage::Manifests,
            Self::Uploads => Stage::Uploads,
        }
    }
}

impl Cleaning<'_> {
    /// Cleans until `should_stop` says so, which is asked after each repository and each page of
    /// objects. So a slice always does some of the work. A registry without repositories is left
    /// alone, as a new table is.
    pub async fn run(
        &self,
        from: Position,
        should_stop: &(dyn Fn() -> bool + Sync),
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<Slice, CleanError> {
        let Self { catalog, registry, .. } = self;
        if catalog.repositories(registry).next().await?.is_none() {
            return Ok(Slice { freed: Freed::default(), next: None });
        }
        catalog.check_bucket().await?;
        let lease = match self.is_dry_run {
            true => None,
            false => Some(catalog.begin_cleaning(registry, self.older_than).await?),
        };
        let before = SystemTime::now().checked_sub(self.older_than).unwrap_or(UNIX_EPOCH);
        let mut run = Run {
            cleaning: self,
            lease,
            repositories: Vec::new(),
            before,
            gone: Filter::new(),
            stage: Stage::Records,
            freed: Freed::default(),
            should_stop,
            tell,
        };
        let next = run.steps(from).await;
        if let Some(lease) = &run.lease {
            let ended = catalog.end_cleaning(lease).await;
            if next.is_ok() {
                ended?;
            }
        }
        Ok(Slice { freed: run.freed, next: next? })
    }
}

/// A slice at work.
struct Run<'a> {
    cleaning: &'a Cleaning<'a>,
    /// `None` in a dry run, which claims nothing.
    lease: Option<CleaningLease>,
    repositories: Vec<Repository>,
    /// What is from before this time is old enough.
    before: SystemTime,
    /// The records that a dry run would have removed.
    gone: Filter,
    stage: Stage,
    freed: Freed,
    should_stop: &'a (dyn Fn() -> bool + Sync),
    tell: &'a (dyn Fn(Progress) + Sync),
}

impl Run<'_> {
    async fn steps(&mut self, from: Position) -> Result<Option<Position>, CleanError> {
        self.repositories = self.cleaning.catalog.all_repositories(self.cleaning.registry).await?;
        let Position { step, mut after } = from;
        for step in Step::ALL.into_iter().skip_while(|next| *next != step) {
            self.stage = step.stage();
            let stopped_after = match step {
                Step::Records => self.records(&after).await?,
                Step::Sha256Layers => self.objects(Listing::Layers, "sha256", &after).await?,
                Step::Sha512Layers => self.objects(Listing::Layers, "sha512", &after).await?,
                Step::Sha256Manifests => self.objects(Listing::Images, "sha256", &after).await?,
                Step::Sha512Manifests => self.objects(Listing::Images, "sha512", &after).await?,
                Step::Uploads => self.uploads().await.map(|()| None)?,
            };
            if let Some(after) = stopped_after {
                return Ok(Some(Position { step, after }));
            }
            after.clear();
        }
        Ok(None)
    }

    /// Claims digests, and returns which of them no publishing relies on.
    async fn claim(&mut self, digests: &[Digest]) -> Result<HashSet<String>, CleanError> {
        let Cleaning { catalog, registry, .. } = self.cleaning;
        match &mut self.lease {
            Some(lease) => catalog.claim(lease, digests).await,
            None => {
                let relied_on = catalog.relied_on(registry).await?;
                let digests = digests.iter().map(Digest::canonical);
                Ok(digests.filter(|digest| !relied_on.contains(digest)).collect())
            }
        }
    }

    async fn release(&self) -> Result<(), Fault> {
        match &self.lease {
            Some(lease) => self.cleaning.catalog.release(lease).await,
            None => Ok(()),
        }
    }

    async fn renew(&mut self) -> Result<(), CleanError> {
        match &mut self.lease {
            Some(lease) => self.cleaning.catalog.renew(lease).await,
            None => Ok(()),
        }
    }

    fn report(&self, share: f64) {
        (self.tell)(Progress { stage: self.stage, share, freed: self.freed });
    }
}
