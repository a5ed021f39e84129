//! What a cleaner tells the publishings of its registry: that it is at work, and which digests it
//! is about to remove.
//!
//! 1. [`Catalog::begin_cleaning`] writes the cleaner's record. Only after that the cleaner reads
//!    the listings.
//! 2. [`Catalog::claim`] writes the digests of a batch, and then reads the intents. What an intent
//!    names is left alone.
//! 3. The batch is removed, and [`Catalog::release`] deletes the claim.
//! 4. [`Catalog::end_cleaning`] deletes the record.
//!
//! A cleaner that was killed leaves its record, with a lease that runs out. Whoever goes on in
//! spite of it deletes it first, so a cleaner that was only slow finds its record gone, and stops.
//! The other side is in [`intent`](super::intent); why this is enough is in `docs/architecture.md`.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;

use super::condition::Condition;
use super::id::{UniqueId, nanoseconds_since_1970};
use super::item::{digest_values, digests, number, number_value};
use super::schema::RegistryRow;
use super::transaction::{Outcome, Transaction};
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Cleaner, Role};
use crate::types::{Digest, RegistryId};

/// The most digests of one claim: what S3 deletes in one request.
/// Source: [DeleteObjects](https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html).
pub const LARGEST_CLAIM: usize = 1000;

/// How long a cleaner's record counts after it was written last.
///
/// S3 may carry out a request as long as it takes its signature, also if the cleaner was killed
/// right after it sent the request: 15 minutes. A request is signed in the first [`TIME_TO_ACT`]
/// after the claim, or in the 40 seconds in which it is repeated. The rest is for clocks that
/// differ: DynamoDB refuses requests of a clock that is wrong by more than five minutes.
///
/// Source: [Signing
/// requests](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html)
/// and [S3's error responses](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html),
/// `RequestTimeTooSkewed`.
const LEASE: Duration = Duration::from_secs(25 * 60);

/// How long after a claim a cleaner may still begin to remove what it has claimed.
const TIME_TO_ACT: Duration = Duration::from_secs(2 * 60);

/// After which part of its lease a cleaner renews it.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// For how long at least a publishing is taken to be at work that has not said that it has ended.
const LONGEST_PUBLISHING: Duration = Duration::from_secs(24 * 60 * 60);

/// The lease of a cleaner at work: the record that says so, as long as it is renewed.
#[derive(Debug)]
pub struct CleaningLease {
    registry: RegistryId,
    id: UniqueId,
    /// When the lease was written last. Not an Instant: the monotonic clock stands still while a
    /// machine sleeps.
    renewed_at: SystemTime,
}

impl CleaningLease {
    /// Fails if it is too late to begin to remove what the cleaner has claimed.
    pub fn may_act(&self) -> Result<(), CleanError> {
        if self.is_late(TIME_TO_ACT) { Err(CleanError::Lapsed) } else { Ok(()) }
    }

    /// Guards a transaction: it is refused if a publishing or another cleaner has taken the
    /// cleaner of this lease for dead.
    pub(super) fn guard<G>(&self, write: &mut Transaction<'_, G>, guard: G) {
        write.check(guard, Condition::exists(), schema::cleaner(&self.registry, self.id));
    }

    fn is_late(&self, time: Duration) -> bool {
        self.renewed_at.elapsed().map_or(true, |elapsed| elapsed > time)
    }
}

/// Why a step of cleaning was not done.
#[derive(Debug)]
pub enum CleanError {
    /// The cleaner was stopped for so long, such as by a machine that sleeps, that it may not rely
    /// any more on what it has read.
    Lapsed,
    /// It could not be read or written.
    Fault(Fault),
}

impl From<Fault> for CleanError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A cleaner, as others read its record.
#[derive(Debug)]
pub(super) struct SeenCleaner {
    id: UniqueId,
    /// In nanoseconds since 1970.
    pub(super) lease_ends: u64,
    /// What it is about to remove.
    pub(super) claimed: Vec<Digest>,
}

impl SeenCleaner {
    pub(super) fn is_expired(&self) -> bool {
        self.lease_ends < nanoseconds_since_1970(SystemTime::now())
    }
}

impl Catalog<Cleaner> {
    /// Begins to clean a registry. Intents that are older than `age` and than a day are given up:
    /// their publishings can write nothing more. Three requests, and one for each intent or cleaner
    /// that was left behind.
    pub async fn begin_cleaning(
        &self,
        registry: &RegistryId,
        age: Duration,
    ) -> Result<CleaningLease, Fault> {
        self.tidy(registry, age.max(LONGEST_PUBLISHING)).await?;
        let lease = CleaningLease {
            registry: registry.clone(),
            id: UniqueId::draw(),
            renewed_at: SystemTime::now(),
        };
        let record = schema::cleaner(registry, lease.id);
        let mut write = self.table.transaction();
        write.put_if((), Condition::is_absent(), record, [("lease_ends", lease_ends())]);
        write.commit().await?;
        Ok(lease)
    }

    /// Ends the intents of dead publishings, and deletes the records of dead cleaners and the
    /// intents that have ended.
    async fn tidy(&self, registry: &RegistryId, age: Duration) -> Result<(), Fault> {
        let begun_before = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        // The intents are read before the cleaners. So no cleaner needs these intents that is not
        // seen below: one that begins later finds what was written under them.
        let (mut intents, _) = self.intents(registry).await?;
        for intent in &mut intents {
            if !intent.has_ended && intent.id.is_older_than(begun_before) {
                self.end_intent(schema::intent(registry, intent.id, 0)).await?;
                intent.has_ended = true;
            }
        }
        let mut is_alone = true;
        for cleaner in self.cleaners(registry).await? {
            is_alone &= cleaner.is_expired() && self.dismiss(registry, &cleaner).await?;
        }
        if is_alone {
            for intent in intents.into_iter().filter(|intent| intent.has_ended) {
                let partition = schema::registry_partition(registry);
                let rows = intent.rows.into_iter().map(|row| (partition.clone(), row)).collect();
                self.delete_intent(rows).await?;
            }
        }
        Ok(())
    }

    /// Renews the cleaner's lease when it is time to. To be called before each page of a listing:
    /// at most one request.
    pub async fn renew(&self, lease: &mut CleaningLease) -> Result<(), CleanError> {
        match lease.is_late(RENEWAL) {
            true => self.renew_with(lease, self.table.transaction()).await,
            false => Ok(()),
        }
    }

    /// Claims digests, at most [`LARGEST_CLAIM`], and returns which of them are free: no publishing
    /// relies on them. Two requests.
    pub async fn claim(
        &self,
        lease: &mut CleaningLease,
        digests: &[Digest],
    ) -> Result<HashSet<String>, CleanError> {
        let claim = schema::claim(&lease.registry, lease.id);
        let mut write = self.table.transaction();
        write.put(claim, [("digests", digest_values(digests))]);
        self.renew_with(lease, write).await?;
        let relied_on = self.relied_on(&lease.registry).await?;
        Ok(digests
            .iter()
            .map(Digest::canonical)
            .filter(|digest| !relied_on.contains(digest))
            .collect())
    }

    /// The digests that publishings rely on now. One request.
    pub async fn relied_on(&self, registry: &RegistryId) -> Result<HashSet<String>, Fault> {
        Ok(self.intents(registry).await?.1)
    }

    /// Lets go of the claimed digests: what could be removed of them is removed. One request.
    pub async fn release(&self, lease: &CleaningLease) -> Result<(), Fault> {
        let mut write = self.table.transaction::<()>();
        write.delete(schema::claim(&lease.registry, lease.id));
        write.commit().await.map(|_| ())
    }

    /// Ends the cleaning. One request.
    pub async fn end_cleaning(&self, lease: &CleaningLease) -> Result<(), Fault> {
        let mut write = self.table.transaction::<()>();
        write.delete(schema::cleaner(&lease.registry, lease.id));
        write.delete(schema::claim(&lease.registry, lease.id));
        write.commit().await.map(|_| ())
    }

    /// Renews the cleaner's lease, and writes this besides.
    async fn renew_with(
        &self,
        lease: &mut CleaningLease,
        mut write: Transaction<'_, ()>,
    ) -> Result<(), CleanError> {
        let time = SystemTime::now();
        let record = schema::cleaner(&lease.registry, lease.id);
        let ends = [(":lease_ends", lease_ends())];
        write.update_if((), Condition::exists(), record, "SET lease_ends = :lease_ends", ends);
        match write.commit().await? {
            Outcome::Written => lease.renewed_at = time,
            Outcome::Refused(()) => return Err(CleanError::Lapsed),
        }
        Ok(())
    }
}

impl<R: Role> Catalog<R> {
    /// The cleaners that have a record in the registry, dead ones too. One request.
    pub(super) async fn cleaners(&self, registry: &RegistryId) -> Result<Vec<SeenCleaner>, Fault> {
        let mut rows =
            self.table.rows(schema::registry_partition(registry), schema::CLEANER_PREFIX, 100);
        let mut cleaners: Vec<SeenCleaner> = Vec::new();
        while let Some(row) = rows.next().await? {
            match (RegistryRow::of(&row)?, cleaners.last_mut()) {
                (RegistryRow::Cleaner(id), _) => {
                    let lease_ends = number(&row, "lease_ends")?;
                    cleaners.push(SeenCleaner { id, lease_ends, claimed: Vec::new() });
                }
                // A claim follows the record of its cleaner. Without that it counts no more: a page
                // may show one of two rows that are being deleted together.
                (RegistryRow::Claim(id), Some(cleaner)) if id == cleaner.id => {
                    cleaner.claimed = digests(&row, "digests")?;
                }
                _ => {}
            }
        }
        Ok(cleaners)
    }

    /// Deletes the record of a cleaner whose lease has run out; `false` if it has been renewed.
    pub(super) async fn dismiss(
        &self,
        registry: &RegistryId,
        cleaner: &SeenCleaner,
    ) -> Result<bool, Fault> {
        let mut write = self.table.transaction();
        let is_as_seen = Condition::has_lease(cleaner.lease_ends);
        write.delete_if((), is_as_seen, schema::cleaner(registry, cleaner.id));
        write.delete(schema::claim(registry, cleaner.id));
        Ok(write.commit().await?.is_written())
    }
}

fn lease_ends() -> AttributeValue {
    number_value(nanoseconds_since_1970(SystemTime::now() + LEASE))
}
