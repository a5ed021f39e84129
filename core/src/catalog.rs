//! The catalog: which image of which repository references which layer, in one DynamoDB table.
//!
//! This is layout 4. A repository is written here as `R`, for `<registryId>/<name>`.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `layer#R@<digest>` | `layer` | a layer: `size`, `media_type`; `object_key` once it is stored; `upstream` if it comes from another registry |
//! | `layer#R@<digest>` | `reference#<image digest>` | that image references this layer |
//! | `image#R@<digest>` | `image` | an image: `media_type`, `config_media_type`, `manifest_size`, `image_size`, `layers`, `images`, `begun_at`, `revision`; `pushed_at` once it is published; `upstream` if it comes from another registry |
//! | `image#R@<digest>` | `index#<image digest>` | that index names this image, which need not be here yet if the index comes from another registry |
//! | `image#R@<digest>` | `tag#<tag>` | that tag names this image |
//! | `tag#R:<tag>` | `tag` | a tag: `image_digest`; `checked_at` if it comes from another registry: when that was asked last |
//! | `repository#R` | `repository` | the repository: `created_at`, `accounts` that may read it; `cache` if a pull through cache rule has made it |
//! | `repository#R` | `image#<digest>` | listing: the repository has this image: `media_type`, `config_media_type`, `manifest_size`, `image_size`, `layers`, `images`, `pushed_at` |
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
//! | `table` | `layout` | the layout of this table: `version`; and its bucket: `bucket_name` |
//!
//! Each layer, image and tag has a partition of its own: first its record, then what refers to it.
//! One partition serves 3,000 read units a second, and a fleet pulls one repository's layers all at
//! once. `layer` sorts before `reference#…`. So one query for two items tells whether a layer is
//! stored and whether any image references it, however many do. Listings serve only to list.
//! Publishing and deleting an image read only what belongs to that image. So their cost does not
//! depend on what else the repository has, and work on different images has no item in common.
//!
//! `deleting` in the record of a repository or an image is a mark: its deletion has begun. The
//! value is the id of that deletion. The mark is never replaced or taken back, and stays until the
//! record is gone. There is one exception: a repository's mark with `tentative` is taken back if
//! the repository turns out to have images. `keeps_images` beside the mark of an index means that a
//! cleaner deletes it, because its publishing never ended: its images lose only the row that names
//! it.
//! `begun_at` tells an image's record from an earlier or later one with the same digest. `revision`
//! grows with each change of what names the image. A decision that depends on the names is written
//! only if the revision is still the one that was read before the names.
//!
//! What these guarantee, and why, is in `docs/architecture.md`.

mod cache;
mod cleaner;
mod cleaning_position;
mod condition;
mod create_table;
mod delete_image;
mod delete_repository;
mod fill;
mod id;
mod image;
mod intent;
mod item;
mod layer;
mod layout;
pub mod list;
pub mod page;
mod publish;
mod repository;
mod rule;
mod schema;
pub mod sweep;
mod table;
mod tag;
mod transaction;

use std::marker::PhantomData;
use std::sync::OnceLock;

use aws_config::SdkConfig;

use crate::config::Config;
use crate::role::Role;
use cache::ReferencedLayers;
use table::Table;

pub use cleaner::{CleanError, CleaningLease, LARGEST_CLAIM};
pub use create_table::create_table_if_missing;
pub use delete_image::ImageDeletion;
pub use delete_repository::RepositoryDeletion;
pub use fill::{Fill, FillFailure, FillState};
pub use id::UniqueId;
pub use image::Image;
pub use intent::{Claimed, Intent, PATIENCE_WITH_CLEANERS};
pub use layer::LayerState;
pub use publish::{Begun, NewImage, PublishError};
pub use repository::{RepositoryMark, RepositoryRecord};
pub use rule::{BeforeStored, PullThroughRule, RuleList};

/// The table, with what the role `R` may do with it. All roles may read all of it.
#[derive(Debug)]
pub struct Catalog<R> {
    table: Table,
    referenced: Option<ReferencedLayers>,
    bucket_name: String,
    /// Whether the table is known to have this layout and to belong to the bucket. Neither changes
    /// while a program runs.
    layout_is_known: OnceLock<()>,
    role: PhantomData<R>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// From the cache, if the layer was found referenced less than `CACHE_SECONDS` ago; else like
    /// `Eventual`.
    Remembered,
    /// Half the price, but may miss what was written in the last moments.
    Eventual,
    /// Sees every write that was answered before it.
    Strong,
}

impl<R: Role> Catalog<R> {
    /// The table that `config` names, to be used with its bucket. `sdk` has the region, the credentials and the time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            table: Table::new(sdk, config, R::PERMISSIONS),
            referenced: ReferencedLayers::new(config.cache_life),
            bucket_name: config.bucket_name.clone(),
            layout_is_known: OnceLock::new(),
            role: PhantomData,
        }
    }
}
