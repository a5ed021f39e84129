//! Which layout the table has, and which bucket belongs to it. One record of the table says so.

use aws_sdk_dynamodb::types::AttributeValue;

use super::condition::Condition;
use super::item::{number, number_value, optional_string};
use super::{Catalog, RepositoryRecord, schema};
use crate::fault::Fault;
use crate::role::Role;
use crate::types::{RegistryId, Repository};

/// The layout that [`catalog`](super) describes.
const LAYOUT: u64 = 4;

impl<R: Role> Catalog<R> {
    /// Whether the table has this layout. `false` if it does not say which layout it has, like a
    /// new table; [`Fault::ForeignTable`] if it has another one, and [`Fault::OtherBucket`] if it
    /// belongs to another bucket. One request, or none once layout and bucket are known.
    pub async fn layout(&self) -> Result<bool, Fault> {
        if self.layout_is_known.get().is_some() {
            return Ok(true);
        }
        let Some(record) = self.table.record(schema::layout()).await? else { return Ok(false) };
        match number(&record, "version")? {
            LAYOUT => {}
            other => return Err(foreign(Some(other))),
        }
        match optional_string(&record, "bucket_name")? {
            None => {} // written by an earlier build
            Some(recorded) if recorded == self.bucket_name => {
                self.layout_is_known.get_or_init(|| ());
            }
            recorded => return Err(self.other_bucket(recorded)),
        }
        Ok(true)
    }

    /// A repository's record. Fails if the table turns out to have another layout, so that no
    /// record is misread.
    pub async fn confirmed_repository(
        &self,
        repository: &Repository,
    ) -> Result<Option<RepositoryRecord>, Fault> {
        let (record, has_layout) = tokio::try_join!(self.repository(repository), self.layout())?;
        match (record, has_layout) {
            // Unless another program has made the table its own between the two reads, and then
            // written the record.
            (Some(_), false) if !self.layout().await? => Err(foreign(None)),
            (record, _) => Ok(record),
        }
    }

    /// Refuses a table that is not of this layout. One request; up to three if the table is new.
    pub async fn check_layout(&self, registry: &RegistryId) -> Result<(), Fault> {
        if self.layout().await? {
            return Ok(());
        }
        let mut repositories = self.table.rows(schema::registry_partition(registry), "", 1);
        match repositories.next().await? {
            None => Ok(()),
            // Another program may have made the table its own since, and written the row.
            Some(_) if self.layout().await? => Ok(()),
            Some(_) => Err(foreign(None)),
        }
    }

    /// Refuses a table that does not say that it belongs to the bucket. To be called before anything
    /// is deleted from there: with another table's bucket, all objects would seem to be unused. One
    /// request, or none once the bucket is known.
    pub async fn check_bucket(&self) -> Result<(), Fault> {
        self.layout().await?;
        self.layout_is_known.get().copied().ok_or_else(|| self.other_bucket(None))
    }

    /// Records in a new table that it has this layout, and which bucket belongs to it; only the
    /// latter in a table of an earlier build. To be called before anything else is written.
    pub(super) async fn claim_table(&self) -> Result<(), Fault> {
        self.layout().await?;
        if self.layout_is_known.get().is_none() {
            let record = [
                ("version", number_value(LAYOUT)),
                ("bucket_name", AttributeValue::S(self.bucket_name.clone())),
            ];
            let mut claim = self.table.transaction();
            claim.put_if((), Condition::lacks_bucket(LAYOUT), schema::layout(), record);
            claim.commit().await?; // refused if another program has just done it
            self.layout().await?;
        }
        Ok(())
    }

    fn other_bucket(&self, recorded: Option<String>) -> Fault {
        Fault::OtherBucket { recorded, configured: self.bucket_name.clone() }
    }
}

fn foreign(found: Option<u64>) -> Fault {
    Fault::ForeignTable { found, known: LAYOUT }
}
