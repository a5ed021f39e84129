//! Where the scheduled cleaning of a registry goes on.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::string;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::Cleaner;
use crate::types::RegistryId;

impl Catalog<Cleaner> {
    /// What was written by [`set_cleaning_position`](Self::set_cleaning_position) last. One
    /// request.
    pub async fn cleaning_position(&self, registry: &RegistryId) -> Result<Option<String>, Fault> {
        let record = self.table.record(schema::cleaning_position(registry)).await?;
        record.map(|item| string(&item, "position").map(str::to_owned)).transpose()
    }

    /// Writes where the next slice goes on; `None` if it begins anew. One request.
    pub async fn set_cleaning_position(
        &self,
        registry: &RegistryId,
        position: Option<&str>,
    ) -> Result<(), Fault> {
        let key = schema::cleaning_position(registry);
        let mut write = self.table.transaction::<()>();
        match position {
            Some(position) => {
                write.put(key, [("position", AttributeValue::S(position.to_owned()))])
            }
            None => write.delete(key),
        }
        write.commit().await.map(|_| ())
    }
}
