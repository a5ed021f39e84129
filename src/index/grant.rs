//! Which accounts, besides the registry's own, may read a repository.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{LayerIndex, fault, repository_key};
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
        let (pk, sk) = repository_key(repository);
        let update = self
            .client
            .update_item()
            .table_name(&self.table_name)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .update_expression(change)
            .expression_attribute_values(":accounts", AttributeValue::Ss(vec![account.to_string()]))
            .condition_expression("attribute_exists(pk)");
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(fault(error)),
        }
    }
}
