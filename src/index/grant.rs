//! Which accounts, besides the registry's own, may read a repository.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::transaction::{COMPLETE, Outcome, update};
use super::{LayerIndex, repository_key};
use crate::error::Error;
use crate::types::{AccountId, Repository};

impl LayerIndex {
    /// Lets an account read a repository. `false` if there is no such repository.
    pub async fn grant(&self, repository: &Repository, account: &AccountId) -> Result<bool, Error> {
        self.change_accounts(repository, account, "ADD accounts :accounts").await
    }

    /// Takes that back. `false` if there is no such repository.
    pub async fn revoke(&self, repository: &Repository, account: &AccountId) -> Result<bool, Error> {
        self.change_accounts(repository, account, "DELETE accounts :accounts").await
    }

    async fn change_accounts(
        &self,
        repository: &Repository,
        account: &AccountId,
        change: &str,
    ) -> Result<bool, Error> {
        let update = update(self, repository_key(repository))
            .update_expression(change)
            .expression_attribute_values(":accounts", AttributeValue::Ss(vec![account.to_string()]))
            .condition_expression("attribute_exists(pk)");
        let update = TransactWriteItem::builder().update(update.build().expect(COMPLETE)).build();
        Ok(self.transact(vec![update]).await? == Outcome::Written)
    }
}
