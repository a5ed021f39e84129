//! Where the scheduled cleaning of a registry goes on.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Catalog, keys, string};
use crate::fault::Fault;
use crate::types::RegistryId;

impl Catalog {
    /// What was written by [`set_cleaning_position`](Self::set_cleaning_position) last. One request.
    pub async fn cleaning_position(&self, registry: &RegistryId) -> Result<Option<String>, Fault> {
        let record = self.record(keys::cleaning_position(registry)).await?;
        record.map(|item| string(&item, "position").map(str::to_owned)).transpose()
    }

    /// Writes where the next slice goes on; `None` if it begins anew. One request.
    pub async fn set_cleaning_position(
        &self,
        registry: &RegistryId,
        position: Option<&str>,
    ) -> Result<(), Fault> {
        let key = keys::cleaning_position(registry);
        let item = match position {
            Some(position) => self.put(key, [("position", AttributeValue::S(position.to_owned()))], None),
            None => self.delete(key, None),
        };
        self.transact(vec![item]).await.map(|_| ())
    }
}
