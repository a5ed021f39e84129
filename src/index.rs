//! The index: which image of which repository references which layer, in one DynamoDB table.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `layer#<registryId>/<name>@<digest>` | `layer` | a stored layer: `object_key`, `size`, `media_type` |
//! | `layer#<registryId>/<name>@<digest>` | `reference#<image digest>` | that image references this layer |
//! | `repository#<registryId>/<name>` | `repository` | the repository: `created_at`, `accounts` that may read it; `changes`, a number that grows when an image or a tag comes or goes |
//! | `repository#<registryId>/<name>` | `image#<digest>` | an image: `media_type`, `size`, `layers`, `images`, `begun_at`; `pushed_at` once it is published |
//! | `repository#<registryId>/<name>` | `tag#<tag>` | a tag: `image_digest` |
//! | `repository#<registryId>/<name>` | `layer#<digest>` | the repository has a record of this layer |
//! | `registry#<registryId>` | `repository#<name>` | the registry has this repository |
//!
//! The function reads the first three; the others are for the tool. `deleting` on a repository or an image
//! means that somebody started to delete it, for good; its value tells one deletion from another.
//!
//! Each layer has a partition of its own, because one partition serves 3,000 read units a second and a fleet
//! pulls one repository's layers all at once. `layer` sorts before `reference#…`, so one query for two items
//! tells whether a layer is stored and whether any image references it, however many do.

mod cache;
#[cfg(feature = "cli")]
pub mod contents;
#[cfg(feature = "cli")]
mod create_table;
#[cfg(feature = "cli")]
pub mod delete;
#[cfg(feature = "cli")]
mod grant;
#[cfg(feature = "cli")]
mod keys;
#[cfg(feature = "cli")]
pub mod publish;
#[cfg(feature = "cli")]
mod transaction;

use std::collections::HashMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use crate::config::Config;
use crate::error::{EngineFault, Error};
use crate::types::{AccountId, Digest, ObjectKey, RegistryId, Repository};
use cache::ReferencedLayers;

const LAYER: &str = "layer";
const REPOSITORY: &str = "repository";

/// The longest partition key, in bytes.
/// Source: [Quotas in DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html).
const LONGEST_KEY: usize = 2048;

type Item = HashMap<String, AttributeValue>;

/// The table, read by the function and written by the tool.
#[derive(Debug)]
pub struct LayerIndex {
    client: Client,
    table_name: String,
    referenced: Option<ReferencedLayers>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// No read at all, where the layer was seen to be referenced less than `CACHE_SECONDS` ago; else eventual.
    Remembered,
    /// May miss what was written in the last moments, at half the price.
    Eventual,
    /// Sees every write that was answered before it.
    Strong,
}

/// What the index knows of a layer in a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Layer {
    /// The repository has no such layer.
    Absent,
    /// It is stored, and no image references it.
    Unreferenced,
    /// An image references it; its bytes are there.
    Referenced(ObjectKey),
}

/// A repository's record.
#[derive(Debug)]
pub struct RepositoryRecord {
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
    /// The accounts, besides the registry's own, that may read it.
    pub accounts: Vec<String>,
    /// The mark of its deletion, if it is being deleted: nothing may be published into it any more.
    pub deleting: Option<u64>,
}

impl RepositoryRecord {
    /// Whether the record lets `account` read the repository.
    pub fn grants(&self, account: &AccountId) -> bool {
        self.accounts.iter().any(|granted| granted == account.as_ref())
    }
}

impl LayerIndex {
    /// The table that `config` names, reached as `sdk` says.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        let mut builder = aws_sdk_dynamodb::config::Builder::from(sdk)
            // The SDK waits for ever by default. These give an answer within 5 s, whatever DynamoDB does.
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(1))
                    .operation_attempt_timeout(Duration::from_millis(1500))
                    .operation_timeout(Duration::from_secs(5))
                    .build(),
            )
            .retry_config(
                RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(50)),
            );
        if let Some(endpoint) = &config.dynamodb_endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
            table_name: config.table_name.clone(),
            referenced: ReferencedLayers::new(config.cache_life),
        }
    }

    /// What is known of a layer. One request, or none.
    pub async fn layer(
        &self,
        repository: &Repository,
        digest: &Digest,
        consistency: Consistency,
    ) -> Result<Layer, Error> {
        let pk = layer_partition(repository, digest);
        if pk.len() > LONGEST_KEY {
            return Ok(Layer::Absent); // DynamoDB refuses to look for what it cannot store
        }
        if let (Consistency::Remembered, Some(referenced)) = (consistency, &self.referenced)
            && let Some(object_key) = referenced.get(&pk)
        {
            return Ok(Layer::Referenced(object_key));
        }
        let found = self
            .client
            .query()
            .table_name(&self.table_name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.clone()))
            .consistent_read(consistency == Consistency::Strong)
            .limit(2)
            .send()
            .await
            .map_err(fault)?;
        let layer = layer(&repository.registry, found.items.ok_or_else(no_answer)?)?;
        if let (Layer::Referenced(object_key), Some(referenced)) = (&layer, &self.referenced) {
            referenced.insert(pk, object_key.clone());
        }
        Ok(layer)
    }

    /// A repository's record, as fresh as can be. One request.
    pub async fn repository(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Error> {
        let record = self.record(repository_key(repository)).await?;
        record.as_ref().map(repository_record).transpose()
    }

    /// A record, as fresh as can be.
    async fn record(&self, (pk, sk): Key) -> Result<Option<Item>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table_name)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(fault)?;
        found.consumed_capacity.ok_or_else(no_answer)?;
        Ok(found.item)
    }
}

/// A partition key and a sort key.
type Key = (String, String);

fn repository_partition(repository: &Repository) -> String {
    format!("repository#{repository}")
}

fn repository_key(repository: &Repository) -> Key {
    (repository_partition(repository), REPOSITORY.to_owned())
}

fn layer_partition(repository: &Repository, layer: &Digest) -> String {
    format!("layer#{repository}@{}", layer.canonical())
}

/// Reads the first two items of a layer's partition.
fn layer(registry: &RegistryId, items: Vec<Item>) -> Result<Layer, Error> {
    let mut items = items.into_iter();
    let Some(mut layer) = items.next().filter(|item| string(item, "sk") == Ok(LAYER)) else {
        return Ok(Layer::Absent);
    };
    if items.next().is_none() {
        return Ok(Layer::Unreferenced);
    }
    let object_key = match layer.remove("object_key") {
        Some(AttributeValue::S(object_key)) => ObjectKey::parse_layer(registry, object_key),
        _ => None,
    };
    object_key.map(Layer::Referenced).ok_or_else(|| broken("object_key"))
}

fn repository_record(item: &Item) -> Result<RepositoryRecord, Error> {
    Ok(RepositoryRecord {
        created_at: number(item, "created_at")?,
        accounts: item.get("accounts").and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default(),
        deleting: deletion_mark(item)?,
    })
}

fn string<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, BrokenRecord> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or(BrokenRecord(name))
}

fn number(item: &Item, name: &'static str) -> Result<u64, Error> {
    let value = item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    value.ok_or_else(|| broken(name))
}

fn deletion_mark(item: &Item) -> Result<Option<u64>, Error> {
    item.contains_key("deleting").then(|| number(item, "deleting")).transpose()
}

/// A record in the table lacks an attribute, or has it in the wrong form.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a record in the table has no usable attribute '{0}'")]
struct BrokenRecord(&'static str);

fn broken(attribute: &'static str) -> Error {
    BrokenRecord(attribute).into()
}

impl From<BrokenRecord> for Error {
    fn from(record: BrokenRecord) -> Self {
        Self::Server(record.into())
    }
}

/// For an answer without what DynamoDB always gives, which the SDK takes for an empty one: it must not read as
/// "no such record".
fn no_answer() -> Error {
    Error::not_an_answer_of("DynamoDB")
}

/// Sorts a failure of DynamoDB into what the client is told.
/// Names from [Error handling with DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html).
fn fault<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let throttled = matches!(
        error.code(),
        Some("ProvisionedThroughputExceededException" | "RequestLimitExceeded" | "ThrottlingException")
    );
    let cause = Box::new(EngineFault::of("DynamoDB", error));
    if throttled { Error::Throttling(cause) } else { Error::Server(cause) }
}
