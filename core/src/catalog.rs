//! The catalog: which image of which repository references which layer, in one DynamoDB table.
//!
//! This is layout 4. A repository is written here as `R`, for `<registryId>/<name>`.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `layer#R@<digest>` | `layer` | a layer: `size`, `media_type`; `object_key` once it is stored; `upstream` if it comes from another registry |
//! | `layer#R@<digest>` | `reference#<image digest>` | that image references this layer |
//! | `image#R@<digest>` | `image` | an image: `media_type`, `manifest_size`, `image_size`, `layers`, `images`, `begun_at`, `revision`; `pushed_at` once it is published; `upstream` if it comes from another registry |
//! | `image#R@<digest>` | `index#<image digest>` | that index names this image, which need not be here yet if the index comes from another registry |
//! | `image#R@<digest>` | `tag#<tag>` | that tag names this image |
//! | `tag#R:<tag>` | `tag` | a tag: `image_digest`; `checked_at` if it comes from another registry: when that was asked last |
//! | `repository#R` | `repository` | the repository: `created_at`, `accounts` that may read it; `cache` if a pull through cache rule has made it |
//! | `repository#R` | `image#<digest>` | listing: the repository has this image: `media_type`, `manifest_size`, `image_size`, `layers`, `images`, `pushed_at` |
//! | `repository#R` | `image#<digest>#tag#<tag>` | listing: the image has this tag |
//! | `repository#R` | `layer#<digest>` | listing: the repository has a record of this layer |
//! | `repository#R` | `tag#<tag>` | listing: the repository has this tag: `image_digest` |
//! | `registry#<registryId>` | `repository#<name>` | listing: the registry has this repository: `created_at` |
//! | `registry#<registryId>` | `pull-through#<prefix>` | a pull through cache rule: `upstream_url`, `before_stored`, `created_at`; perhaps `upstream_prefix`, `credential_arn`, `accounts`, `allowed_hosts`, `realm` |
//! | `fill#R@<digest>` or `fill#R:<tag>` | `layer` or `image` | a layer or an image on its way from another registry: `lease_id`, `ends_at`, `expires_at`; `claimed_at` once a worker is at it; `redirect_url` until `redirect_ends`; `failure` if it failed |
//! | `registry#<registryId>` | `publishing#<id>` and `publishing#<id>#<n>` | the intent of a publishing: `digests` that it relies on; `ended_at` once nothing more is written under it |
//! | `registry#<registryId>` | `cleaning#<id>` | a cleaner at work: `lease_ends` |
//! | `registry#<registryId>` | `cleaning#<id>#claim` | the `digests` that this cleaner is about to remove |
//! | `registry#<registryId>` | `position` | where the scheduled cleaning goes on: `position` |
//! | `table` | `layout` | the layout of this table: `version` |
//!
//! Each layer, image and tag has a partition of its own: first its record, then what refers to it. One partition
//! serves 3,000 read units a second, and a fleet pulls one repository's layers all at once. `layer` sorts before
//! `reference#…`. So one query for two items tells whether a layer is stored and whether any image references it,
//! however many do. Listings serve only to list. Publishing and deleting an image read only what belongs to that
//! image. So their cost does not depend on what else the repository has, and work on different images has no item in
//! common.
//!
//! `deleting` in the record of a repository or an image is a mark: its deletion has begun. The value is the id of
//! that deletion. The mark is never replaced or taken back, and stays until the record is gone. There is one
//! exception: a repository's mark with `tentative` is taken back if the repository turns out to have images.
//! `keeps_images` beside the mark of an index means that a cleaner deletes it, because its publishing never ended: its
//! images lose only the row that names it.
//! `begun_at` tells an image's record from an earlier or later one with the same digest. `revision` grows with each
//! change of what names the image. A decision that depends on the names is written only if the revision is still the
//! one that was read before the names.
//!
//! What these guarantee, and why, is in `docs/architecture.md`.

mod cache;
mod cleaner;
mod cleaning_position;
mod create_table;
mod delete_image;
mod delete_repository;
mod fill;
mod grant;
mod id;
mod image;
mod intent;
mod keys;
mod layout;
pub mod list;
pub mod page;
mod publish;
mod rule;
pub mod sweep;
mod tag;
mod transaction;

use std::collections::HashMap;
use std::str::FromStr;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::types::{AccountId, Digest, ObjectKey, RegistryId, Repository};
use cache::ReferencedLayers;
use keys::Key;

pub use cleaner::{CleanError, Cleaner, LARGEST_CLAIM};
pub use delete_image::{ImageDeletion, ImageId};
pub use delete_repository::RepositoryDeletion;
pub use fill::{Fill, FillFailure, FillState, Wanted};
pub use id::UniqueId;
pub use image::Image;
pub use intent::{Claimed, Intent, PATIENCE_WITH_CLEANERS};
pub use publish::{Begun, LayerRecord, NewImage, PublishError};
pub use rule::{BeforeStored, Rule, RuleList};

/// The longest partition key, in bytes.
/// Source: [Quotas in DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html).
const LONGEST_KEY: usize = 2048;

type Item = HashMap<String, AttributeValue>;

/// The table. The function reads it; publishing and deleting write it.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
    table_name: String,
    referenced: Option<ReferencedLayers>,
    layout: layout::Checked,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// From the cache, if the layer was found referenced less than `CACHE_SECONDS` ago; else like `Eventual`.
    Remembered,
    /// Half the price, but may miss what was written in the last moments.
    Eventual,
    /// Sees every write that was answered before it.
    Strong,
}

/// What the catalog knows about a layer in a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum LayerState {
    /// The repository has no such layer.
    Absent,
    /// No image references it.
    Unreferenced,
    /// An image references it, and its bytes are still in another registry.
    Upstream(LayerDescription),
    /// An image references it. Its bytes are the object with this key.
    Referenced(ObjectKey),
}

/// A layer that an image references.
#[derive(Debug, PartialEq, Eq)]
pub struct LayerDescription {
    /// How many bytes it has.
    pub size: u64,
    /// Its media type, as the manifest states it.
    pub media_type: String,
}

impl LayerDescription {
    fn read(layer: &Item) -> Result<Self, Fault> {
        Ok(Self { size: number(layer, "size")?, media_type: string(layer, "media_type")?.to_owned() })
    }
}

/// A repository's record.
#[derive(Debug)]
pub struct RepositoryRecord {
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
    /// The accounts, besides the registry's own, that may read it.
    pub accounts: Vec<String>,
    /// Whether a pull through cache rule has made it. Only then it is filled from another registry.
    pub is_cache: bool,
    /// The mark of its deletion, if that has begun: nothing can be published into the repository any more.
    pub deleting: Option<RepositoryMark>,
}

/// The mark of a repository's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryMark {
    id: UniqueId,
    is_tentative: bool,
}

impl RepositoryRecord {
    fn read(item: &Item) -> Result<Self, Fault> {
        let is_tentative = item.contains_key("tentative");
        Ok(Self {
            created_at: number(item, "created_at")?,
            is_cache: item.contains_key("cache"),
            accounts: item.get("accounts").and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default(),
            deleting: optional_number(item, "deleting")?.map(|id| RepositoryMark { id, is_tentative }),
        })
    }

    /// Whether the record lets `account` read the repository.
    pub fn grants(&self, account: &AccountId) -> bool {
        self.accounts.iter().any(|granted| granted == account.as_ref())
    }
}

impl Catalog {
    /// The table that `config` names. `sdk` has the region, the credentials and the time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        let mut builder = aws_sdk_dynamodb::config::Builder::from(sdk);
        if let Some(endpoint) = &config.dynamodb_endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
            table_name: config.table_name.clone(),
            referenced: ReferencedLayers::new(config.cache_life),
            layout: layout::Checked::default(),
        }
    }

    /// What is known about a layer. One request, or none if the cache has the answer.
    pub async fn layer(
        &self,
        repository: &Repository,
        digest: &Digest,
        consistency: Consistency,
    ) -> Result<LayerState, Fault> {
        let pk = keys::layer_partition(repository, digest);
        if pk.len() > LONGEST_KEY {
            return Ok(LayerState::Absent); // DynamoDB would refuse a query for a longer key
        }
        if let (Consistency::Remembered, Some(referenced)) = (consistency, &self.referenced)
            && let Some(object_key) = referenced.get(&pk)
        {
            return Ok(LayerState::Referenced(object_key));
        }
        let state = layer_state(&repository.registry, self.first_two(pk.clone(), consistency).await?)?;
        if let (LayerState::Referenced(object_key), Some(referenced)) = (&state, &self.referenced) {
            referenced.insert(pk, object_key.clone());
        }
        Ok(state)
    }

    /// What is recorded of a layer, if an image references it. Read with strong consistency. One request.
    pub async fn layer_description(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<LayerDescription>, Fault> {
        let pk = keys::layer_partition(repository, digest);
        if pk.len() > LONGEST_KEY {
            return Ok(None); // DynamoDB would refuse a query for a longer key
        }
        let items = self.first_two(pk, Consistency::Strong).await?;
        let [layer, _reference] = &items[..] else { return Ok(None) };
        is_layer(layer).then(|| LayerDescription::read(layer)).transpose()
    }

    /// The first two items of a partition. One request.
    async fn first_two(&self, pk: String, consistency: Consistency) -> Result<Vec<Item>, Fault> {
        let found = self
            .client
            .query()
            .table_name(&self.table_name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk))
            .consistent_read(consistency == Consistency::Strong)
            .limit(2)
            .send()
            .await
            .map_err(fault)?;
        found.items.ok_or_else(garbled)
    }

    /// A repository's record, read with strong consistency. One request.
    pub async fn repository(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Fault> {
        let record = self.record(keys::repository(repository)).await?;
        record.as_ref().map(RepositoryRecord::read).transpose()
    }

    /// A record, read with strong consistency. One request.
    async fn record(&self, key: Key) -> Result<Option<Item>, Fault> {
        self.record_as_of(key, Consistency::Strong).await
    }

    /// A record. One request. An answer without an item means that there is no such record; the capacity in the answer
    /// proves that it is DynamoDB's.
    async fn record_as_of(&self, (pk, sk): Key, consistency: Consistency) -> Result<Option<Item>, Fault> {
        if pk.len() > LONGEST_KEY {
            return Ok(None); // DynamoDB would refuse to look for a longer key
        }
        let found = self
            .client
            .get_item()
            .table_name(&self.table_name)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .consistent_read(consistency == Consistency::Strong)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(fault)?;
        found.consumed_capacity.ok_or_else(garbled)?;
        Ok(found.item)
    }
}

/// Reads the first two items of a layer's partition.
fn layer_state(registry: &RegistryId, items: Vec<Item>) -> Result<LayerState, Fault> {
    let mut items = items.into_iter();
    let Some(mut layer) = items.next().filter(is_layer) else {
        return Ok(LayerState::Absent);
    };
    if items.next().is_none() {
        return Ok(LayerState::Unreferenced);
    }
    let object_key = match layer.remove("object_key") {
        Some(AttributeValue::S(object_key)) => ObjectKey::parse_layer(registry, object_key),
        None if layer.contains_key("upstream") => {
            return Ok(LayerState::Upstream(LayerDescription::read(&layer)?));
        }
        _ => None,
    };
    object_key.map(LayerState::Referenced).ok_or(Fault::BrokenRecord("object_key"))
}

fn is_layer(item: &Item) -> bool {
    string(item, "sk").is_ok_and(|sk| sk == keys::LAYER)
}

fn string<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, Fault> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or(Fault::BrokenRecord(name))
}

/// A number of a record, or an id.
fn number<N: FromStr>(item: &Item, name: &'static str) -> Result<N, Fault> {
    let value = item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    value.ok_or(Fault::BrokenRecord(name))
}

fn optional_number<N: FromStr>(item: &Item, name: &'static str) -> Result<Option<N>, Fault> {
    item.contains_key(name).then(|| number(item, name)).transpose()
}

fn digest(value: &str) -> Result<Digest, Fault> {
    Digest::parse(value).map_err(|_| Fault::BrokenRecord("digest"))
}

fn digests(item: &Item, name: &'static str) -> Result<Vec<Digest>, Fault> {
    let values = item.get(name).and_then(|value| value.as_l().ok()).ok_or(Fault::BrokenRecord(name))?;
    let parse = |value: &AttributeValue| {
        value.as_s().ok().and_then(|value| Digest::parse(value).ok()).ok_or(Fault::BrokenRecord(name))
    };
    values.iter().map(parse).collect()
}

fn garbled() -> Fault {
    Fault::garbled(Backend::DynamoDb)
}

fn fault<E>(error: SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Fault::of(Backend::DynamoDb, error)
}
