//! What a publishing tells the cleaners of its registry: an *intent*, which names the digests that
//! it relies on.
//!
//! 1. [`Catalog::announce`] writes the intent, before the publishing looks what the store and the
//!    catalog have.
//! 2. [`Catalog::wait_for_cleaners`] waits until no cleaner has one of these digests claimed. A
//!    digest that a cleaner claims later is one that it finds in the intent, and leaves alone.
//! 3. Each transaction that writes a record which relies on the bytes checks that the intent still
//!    counts.
//! 4. [`Catalog::retire`] ends the intent. While a cleaner is at work its rows stay, because that
//!    cleaner may have read the listings before the records were written.
//!
//! The other side is in [`cleaner`](super::cleaner); why this is enough is in
//! `docs/architecture.md`.

use std::collections::HashSet;
use std::time::Duration;

use super::condition::Condition;
use super::id::UniqueId;
use super::item::{digest_values, digests, now, string};
use super::schema::{Key, RegistryRow};
use super::transaction::Transaction;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Publisher, Role};
use crate::types::{Digest, RegistryId};

/// How many digests the first row of an intent has. So it stays below 1 KB, and checking it costs
/// the least: each transaction that relies on the intent does.
const DIGESTS_OF_FIRST_ROW: usize = 12;

/// How many digests each further row has: far below the 400 KB of an item, for sha512 too.
const DIGESTS_OF_ROW: usize = 1000;

/// How many rows are written at once: 4 MB are the most of one transaction.
/// Source:
/// [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
const ROWS_AT_ONCE: usize = 20;

/// How long to wait for a cleaner that is about to remove what is published. Removing takes a
/// second or two.
pub const PATIENCE_WITH_CLEANERS: Duration = Duration::from_secs(20);

/// How long a publishing waits before it looks again whether a cleaner has released a digest.
const POLL: Duration = Duration::from_millis(200);

/// An intent that was announced.
#[derive(Debug)]
pub struct Intent {
    registry: RegistryId,
    id: UniqueId,
    digests: Vec<Digest>,
}

impl Intent {
    fn row(&self, n: usize) -> Key {
        schema::intent(&self.registry, self.id, n)
    }

    /// Guards a transaction: it is refused if the intent does not count any more, because a cleaner
    /// has given up a publishing that seemed dead.
    pub(super) fn guard<G>(&self, write: &mut Transaction<'_, G>, guard: G) {
        write.check(guard, Condition::has_not_ended(), self.row(0));
    }

    fn rows(&self) -> usize {
        1 + self.digests.len().saturating_sub(DIGESTS_OF_FIRST_ROW).div_ceil(DIGESTS_OF_ROW)
    }
}

/// A digest that a cleaner is about to remove.
#[derive(Debug)]
pub struct Claimed {
    /// The digest.
    pub digest: Digest,
    /// When the claim runs out if the cleaner was killed, in seconds since 1970.
    pub until: u64,
}

/// An intent, as a cleaner reads it.
#[derive(Debug)]
pub(super) struct SeenIntent {
    /// Drawn when the publishing began.
    pub(super) id: UniqueId,
    /// The sort keys of its rows; the first one says whether it counts.
    pub(super) rows: Vec<String>,
    /// Whether its publishing has ended, or was given up.
    pub(super) has_ended: bool,
}

impl Catalog<Publisher> {
    /// Announces that somebody is about to publish what consists of these digests: manifests,
    /// layers, configurations. One request, or a few for more than 1,000 digests.
    pub async fn announce(
        &self,
        registry: &RegistryId,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<Intent, Fault> {
        self.claim_table().await?;
        let mut seen = HashSet::new();
        let digests =
            digests.into_iter().filter(|digest| seen.insert(digest.canonical())).collect();
        let intent = Intent { registry: registry.clone(), id: UniqueId::draw(), digests };
        let (first, others) =
            intent.digests.split_at(intent.digests.len().min(DIGESTS_OF_FIRST_ROW));
        let rows: Vec<_> =
            std::iter::once(first).chain(others.chunks(DIGESTS_OF_ROW)).enumerate().collect();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut write = self.table.transaction::<()>();
            for (n, digests) in rows {
                write.put(intent.row(*n), [("digests", digest_values(*digests))]);
            }
            write.commit().await?;
        }
        Ok(intent)
    }

    /// Waits until no cleaner has a digest of the intent claimed, but not longer than `patience`;
    /// `None` if so. Only then may the publishing look what is there already. One request, and one
    /// for each fifth of a second of waiting.
    pub async fn wait_for_cleaners(
        &self,
        intent: &Intent,
        patience: Duration,
    ) -> Result<Option<Claimed>, Fault> {
        let relied_on: HashSet<String> = intent.digests.iter().map(Digest::canonical).collect();
        let mut waited = Duration::ZERO;
        loop {
            let mut claimed = None;
            for cleaner in self.cleaners(&intent.registry).await? {
                let is_relied_on = |digest: &&Digest| relied_on.contains(&digest.canonical());
                if let Some(digest) = cleaner.claimed.iter().find(is_relied_on)
                    && !(cleaner.is_expired() && self.dismiss(&intent.registry, &cleaner).await?)
                {
                    claimed = Some(Claimed {
                        digest: digest.clone(),
                        until: cleaner.lease_ends / 1_000_000_000,
                    });
                }
            }
            if claimed.is_none() || waited >= patience {
                return Ok(claimed);
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
    }

    /// Ends an intent. To be called after the last record is written, or when the publishing is
    /// given up. Two requests.
    pub async fn retire(&self, intent: &Intent) -> Result<(), Fault> {
        // The records were written first, and this is read now. A cleaner that is not seen here
        // begins to read later, and finds the records.
        if self.cleaners(&intent.registry).await?.is_empty() {
            let rows = (0..intent.rows()).map(|n| intent.row(n)).collect();
            return self.delete_intent(rows).await;
        }
        self.end_intent(intent.row(0)).await
    }
}

impl<R: Role> Catalog<R> {
    /// Says that nothing more is written under an intent, and leaves its rows to the next cleaner.
    pub(super) async fn end_intent(&self, first_row: Key) -> Result<(), Fault> {
        let mut write = self.table.transaction();
        let ended = [(":now", now())];
        write.update_if((), Condition::exists(), first_row, "SET ended_at = :now", ended);
        write.commit().await.map(|_| ()) // refused if a cleaner has deleted it
    }

    /// Deletes the rows of an intent, the first one last: it says for all whether they count.
    pub(super) async fn delete_intent(&self, mut rows: Vec<Key>) -> Result<(), Fault> {
        rows.reverse();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut write = self.table.transaction::<()>();
            rows.iter().for_each(|row| write.delete(row.clone()));
            write.commit().await?;
        }
        Ok(())
    }

    /// All intents of a registry, and every digest that one of them names, also those that have
    /// ended. One request for each megabyte.
    pub(super) async fn intents(
        &self,
        registry: &RegistryId,
    ) -> Result<(Vec<SeenIntent>, HashSet<String>), Fault> {
        let mut rows =
            self.table.rows(schema::registry_partition(registry), schema::INTENT_PREFIX, 1000);
        let (mut intents, mut relied_on): (Vec<SeenIntent>, _) = (Vec::new(), HashSet::new());
        while let Some(row) = rows.next().await? {
            let sk = string(&row, "sk")?;
            let RegistryRow::Intent(id) = RegistryRow::of(&row)? else { continue };
            relied_on.extend(digests(&row, "digests")?.iter().map(Digest::canonical));
            match intents.last_mut().filter(|intent| intent.id == id) {
                Some(intent) => intent.rows.push(sk.to_owned()),
                None => {
                    let has_ended = row.contains_key("ended_at");
                    intents.push(SeenIntent { id, rows: vec![sk.to_owned()], has_ended });
                }
            }
        }
        Ok((intents, relied_on))
    }
}
