//! Which layout the table has: one record of the table says so.

use std::sync::OnceLock;

use aws_sdk_dynamodb::types::AttributeValue;

use super::transaction::Condition;
use super::{Catalog, RepositoryRecord, keys, number};
use crate::fault::Fault;
use crate::types::{RegistryId, Repository};

/// The layout that [`catalog`](super) describes.
const LAYOUT: u64 = 2;

/// Whether the table was seen to have this layout. It does not change under a running program, so one look is enough.
#[derive(Debug, Default)]
pub(super) struct Checked(OnceLock<()>);

impl Catalog {
    /// Looks whether the table has this layout; `false` if it says nothing of a layout, as a new table does.
    /// One request, or none once it was seen. [`Fault::ForeignTable`] if it has another one.
    pub async fn layout(&self) -> Result<bool, Fault> {
        if self.layout.0.get().is_some() {
            return Ok(true);
        }
        let Some(record) = self.record(keys::layout()).await? else { return Ok(false) };
        match number(&record, "version")? {
            LAYOUT => {
                self.layout.0.get_or_init(|| ());
                Ok(true)
            }
            other => Err(foreign(Some(other))),
        }
    }

    /// A repository's record, and the certainty that the table is one of this layout.
    pub async fn confirmed_repository(
        &self,
        repository: &Repository,
    ) -> Result<Option<RepositoryRecord>, Fault> {
        let (record, has_layout) = tokio::try_join!(self.repository(repository), self.layout())?;
        match (record, has_layout) {
            (Some(_), false) => Err(foreign(None)),
            (record, _) => Ok(record),
        }
    }

    /// Refuses a table that is not of this layout. One request, or two if the table is new.
    pub async fn check_layout(&self, registry: &RegistryId) -> Result<(), Fault> {
        if self.layout().await? {
            return Ok(());
        }
        let mut repositories = self.rows(keys::registry_partition(registry), "", 1);
        match repositories.next().await? {
            None => Ok(()),
            Some(_) => Err(foreign(None)),
        }
    }

    /// Writes down that the table has this layout, before the first record is written.
    pub(super) async fn claim_table(&self) -> Result<(), Fault> {
        if !self.layout().await? {
            let version = [("version", AttributeValue::N(LAYOUT.to_string()))];
            let claim = self.put(keys::layout(), version, Some(Condition::is_absent()));
            self.transact(vec![claim]).await?; // refused if somebody else has just done it
            self.layout().await?;
        }
        Ok(())
    }
}

fn foreign(found: Option<u64>) -> Fault {
    Fault::ForeignTable { found, known: LAYOUT }
}
