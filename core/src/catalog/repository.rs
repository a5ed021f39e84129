//! A repository's record: creating it, and which accounts, besides the registry's own, may read the
//! repository.

use aws_sdk_dynamodb::types::AttributeValue;

use super::condition::Condition;
use super::id::UniqueId;
use super::item::{Item, now, number, optional_number, strings};
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Publisher, Role};
use crate::types::{AccountId, Repository};

/// A repository's record.
#[derive(Debug)]
pub struct RepositoryRecord {
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
    /// The accounts, besides the registry's own, that may read it.
    pub accounts: Vec<String>,
    /// Whether a pull through cache rule has made it. Only then it is filled from another registry.
    pub is_cache: bool,
    /// The mark of its deletion, if that has begun: nothing can be published into the repository
    /// any more.
    pub deleting: Option<RepositoryMark>,
}

/// The mark of a repository's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryMark {
    pub(super) id: UniqueId,
    pub(super) is_tentative: bool,
}

impl RepositoryRecord {
    fn read(item: &Item) -> Result<Self, Fault> {
        let is_tentative = item.contains_key("tentative");
        Ok(Self {
            created_at: number(item, "created_at")?,
            is_cache: item.contains_key("cache"),
            accounts: strings(item, "accounts"),
            deleting: optional_number(item, "deleting")?
                .map(|id| RepositoryMark { id, is_tentative }),
        })
    }

    /// Whether the record lets `account` read the repository.
    pub fn grants(&self, account: &AccountId) -> bool {
        self.accounts.iter().any(|granted| granted == account.as_ref())
    }
}

impl<R: Role> Catalog<R> {
    /// A repository's record, read with strong consistency. One request.
    pub async fn repository(
        &self,
        repository: &Repository,
    ) -> Result<Option<RepositoryRecord>, Fault> {
        let record = self.table.record(schema::repository(repository)).await?;
        record.as_ref().map(RepositoryRecord::read).transpose()
    }
}

impl Catalog<Publisher> {
    /// Creates a repository; `false` if it exists.
    pub async fn create_repository(&self, repository: &Repository) -> Result<bool, Fault> {
        self.new_repository(repository, None).await
    }

    /// Creates a repository that is filled from another registry, and that these accounts may read
    /// besides the registry's own; `false` if it exists.
    pub async fn create_cache(
        &self,
        repository: &Repository,
        accounts: &[AccountId],
    ) -> Result<bool, Fault> {
        let ids: Vec<_> = accounts.iter().map(ToString::to_string).collect();
        let accounts = (!ids.is_empty()).then_some(("accounts", AttributeValue::Ss(ids)));
        self.new_repository(
            repository,
            [("cache", AttributeValue::Bool(true))].into_iter().chain(accounts),
        )
        .await
    }

    async fn new_repository(
        &self,
        repository: &Repository,
        attributes: impl IntoIterator<Item = (&str, AttributeValue)>,
    ) -> Result<bool, Fault> {
        self.claim_table().await?;
        let created_at = [("created_at", now())];
        let record = created_at.clone().into_iter().chain(attributes);
        let mut write = self.table.transaction();
        write.put_if((), Condition::is_absent(), schema::repository(repository), record);
        write.put(schema::repository_listing(repository), created_at);
        Ok(write.commit().await?.is_written())
    }

    /// Lets an account read a repository. `false` if there is no such repository.
    pub async fn grant(&self, repository: &Repository, account: &AccountId) -> Result<bool, Fault> {
        self.change_accounts(repository, account, "ADD accounts :accounts").await
    }

    /// Takes a grant back. `false` if there is no such repository.
    pub async fn revoke(
        &self,
        repository: &Repository,
        account: &AccountId,
    ) -> Result<bool, Fault> {
        self.change_accounts(repository, account, "DELETE accounts :accounts").await
    }

    async fn change_accounts(
        &self,
        repository: &Repository,
        account: &AccountId,
        change: &str,
    ) -> Result<bool, Fault> {
        let accounts = [(":accounts", AttributeValue::Ss(vec![account.to_string()]))];
        let mut write = self.table.transaction();
        write.update_if((), Condition::exists(), schema::repository(repository), change, accounts);
        Ok(write.commit().await?.is_written())
    }
}
