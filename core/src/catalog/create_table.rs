//! Creates the table, for the local stack. The template creates the table of a deployment.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use super::table::{client, fault};
use crate::config::Config;
use crate::fault::{Backend, Fault};

/// Creates the table if it is missing, and waits until it can be used.
pub async fn create_table_if_missing(sdk: &SdkConfig, config: &Config) -> Result<(), Fault> {
    let client = client(sdk, config);
    let mut create = client
        .create_table()
        .table_name(&config.table_name)
        .billing_mode(BillingMode::PayPerRequest);
    for (name, role) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let attribute = AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(name).key_type(role);
        create = create
            .attribute_definitions(attribute.build().expect("it has a name and a type"))
            .key_schema(key.build().expect("it has a name and a role"));
    }
    if let Err(error) = create.send().await {
        let exists =
            error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception());
        if !exists {
            return Err(fault(error));
        }
    }
    let usable = client.wait_until_table_exists().table_name(&config.table_name);
    let waited = usable.wait(Duration::from_secs(10)).await;
    waited.map_err(|error| Fault::timed_out(Backend::DynamoDb, error))?;
    Ok(())
}
