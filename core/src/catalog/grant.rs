//! Which accounts, besides the registry's own, may read a repository.

use aws_sdk_dynamodb::types::AttributeValue;

use super::transaction::{Condition, Outcome};
use super::{Catalog, keys};
use crate::fault::Fault;
use crate::types::{AccountId, Repository};

impl Catalog {
    /// Lets an account read a repository. `false` if there is no such repository.
    pub async fn grant(&self, repository: &Repository, account: &AccountId) -> Result<bool, Fault> {
        self.change_accounts(repository, account, "ADD accounts :accounts").await
    }

    /// Takes a grant back. `false` if there is no such repository.
    pub async fn revoke(&self, repository: &Repository, account: &AccountId) -> Result<bool, Fault> {
        self.change_accounts(repository, account, "DELETE accounts :accounts").await
    }

    async fn change_accounts(
        &self,
        repository: &Repository,
        account: &AccountId,
        change: &str,
    ) -> Result<bool, Fault> {
        let accounts = [(":accounts", AttributeValue::Ss(vec![account.to_string()]))];
        let exists = Some(Condition::exists());
        let item = self.update(keys::repository(repository), change, accounts, exists);
        Ok(self.transact(vec![item]).await? == Outcome::Written)
    }
}
