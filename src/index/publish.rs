//! Writing images into the index. Every stop between two of these steps is safe, and doing them again
//! completes them:
//!
//! 1. [`LayerIndex::begin_image`], once all the image's bytes are in the store: the image is known, unfinished.
//! 2. [`LayerIndex::add_layers`]: its layers, each with the reference that makes it downloadable.
//! 3. [`LayerIndex::finish_image`]: the image is published.
//! 4. [`LayerIndex::tag_image`].
//!
//! The image's record comes first, so that whatever references a stopped publishing leaves can be found and
//! deleted. Each step checks, in the transaction that does it, that what it builds on was not deleted meanwhile:
//! `begun_at` tells the image's record from one that was begun anew after that. Steps that give an image a name, by
//! an index or by a tag, count in the repository's `changes`, by which deleting sees that it has to look again.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::transaction::{
    COMPLETE, LARGEST_TRANSACTION, Outcome, nanoseconds_since_1970, number_value, update,
};
use super::{LayerIndex, keys, repository_key};
use crate::error::Error;
use crate::types::{Digest, ImageTag, ObjectKey, Repository};

/// The condition that a repository is there and nobody is deleting it.
const IS_ALIVE: &str = "attribute_exists(pk) AND attribute_not_exists(deleting)";

/// The condition that an image is the one that was begun and nobody is deleting it.
const IS_STILL_BEGUN: &str = "begun_at = :begun_at AND attribute_not_exists(deleting)";

/// The condition that an image is published and nobody is deleting it.
const IS_PUBLISHED: &str = "attribute_exists(pushed_at) AND attribute_not_exists(deleting)";

/// A layer of an image. Its config blob is one too.
#[derive(Debug, Clone)]
pub struct LayerRecord {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Its media type, as the manifest has it.
    pub media_type: String,
}

/// An image to publish.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// How many bytes the manifest has.
    pub size: u64,
    /// Its layers that are in the store, each once. None if it is an index of images.
    pub layers: Vec<LayerRecord>,
    /// Its layers that are not. An earlier publishing may have had them.
    pub absent_layers: Vec<Digest>,
    /// The images of an index, such as those for its platforms, each once. None if it is a single image.
    pub images: Vec<Digest>,
}

/// An image whose publishing has begun.
#[derive(Debug)]
pub struct Begun<'a> {
    repository: &'a Repository,
    image: &'a NewImage,
    at: AttributeValue,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is done.
    Done,
    /// What it builds on is not there or is being deleted. Nothing was written.
    Gone,
}

impl From<Outcome> for Step {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Written => Self::Done,
            Outcome::Refused => Self::Gone,
        }
    }
}

impl LayerIndex {
    /// Creates a repository; `false` if it exists.
    pub async fn create_repository(&self, repository: &Repository) -> Result<bool, Error> {
        let attributes = [("created_at", now()), ("changes", number_value(nanoseconds_since_1970()))];
        let record = self.put_new(repository_key(repository), attributes);
        let listing = self.put(keys::repository_listing(repository), []);
        Ok(self.transact(vec![record, listing]).await? == Outcome::Written)
    }

    /// Step 1. `None` if the repository is missing or being deleted, or the image is being deleted.
    pub async fn begin_image<'a>(
        &self,
        repository: &'a Repository,
        image: &'a NewImage,
    ) -> Result<Option<Begun<'a>>, Error> {
        // All that it may reference, so that deleting it takes every reference away.
        let layers = image.layers.iter().map(|layer| &layer.digest).chain(&image.absent_layers);
        // An update, because publishing an image again must not take it back meanwhile.
        let record = update(self, keys::image(repository, &image.digest))
            .update_expression(
                "SET media_type = :media_type, #size = :size, layers = :layers, images = :images, \
                 begun_at = if_not_exists(begun_at, :now)",
            )
            .condition_expression("attribute_not_exists(deleting)")
            .expression_attribute_names("#size", "size") // a reserved word
            .expression_attribute_values(":media_type", AttributeValue::S(image.media_type.clone()))
            .expression_attribute_values(":size", number_value(image.size))
            .expression_attribute_values(":layers", digests(layers))
            .expression_attribute_values(":images", digests(&image.images))
            .expression_attribute_values(":now", number_value(nanoseconds_since_1970()));
        let record = record.build().expect(COMPLETE);
        let record = TransactWriteItem::builder().update(record).build();
        if self.transact(vec![self.change(repository), record]).await? == Outcome::Refused {
            return Ok(None);
        }
        let record = self.record(keys::image(repository, &image.digest)).await?;
        let at = record.and_then(|mut record| record.remove("begun_at"));
        Ok(at.map(|at| Begun { repository, image, at }))
    }

    /// Step 2. [`Step::Gone`] if the image was deleted meanwhile.
    pub async fn add_layers(&self, begun: &Begun<'_>) -> Result<Step, Error> {
        const ITEMS_PER_LAYER: usize = 3;
        let Begun { repository, image, at } = begun;
        for layers in image.layers.chunks((LARGEST_TRANSACTION - 1) / ITEMS_PER_LAYER) {
            let key = keys::image(repository, &image.digest);
            let mut items = vec![self.check(key, IS_STILL_BEGUN, [(":begun_at", at.clone())])];
            for layer in layers {
                let object_key = ObjectKey::of_layer(&repository.registry, &layer.digest);
                let record = [
                    ("object_key", AttributeValue::S(object_key.to_string())),
                    ("size", number_value(layer.size)),
                    ("media_type", AttributeValue::S(layer.media_type.clone())),
                ];
                items.extend([
                    self.put(keys::layer(repository, &layer.digest), record),
                    self.put(keys::reference(repository, &layer.digest, &image.digest), []),
                    self.put(keys::layer_listing(repository, &layer.digest), []),
                ]);
            }
            if self.transact(items).await? == Outcome::Refused {
                return Ok(Step::Gone);
            }
        }
        Ok(Step::Done)
    }

    /// Step 3. [`Step::Gone`] if the image was deleted meanwhile, or one of an index's images.
    pub async fn finish_image(&self, begun: &Begun<'_>) -> Result<Step, Error> {
        let Begun { repository, image, at } = begun;
        // What is there now stays: since step 1 the index names it.
        for images in image.images.chunks(LARGEST_TRANSACTION) {
            let are_published =
                images.iter().map(|image| self.check(keys::image(repository, image), IS_PUBLISHED, []));
            if self.transact(are_published.collect()).await? == Outcome::Refused {
                return Ok(Step::Gone);
            }
        }
        let key = keys::image(repository, &image.digest);
        let pushed_at = ("pushed_at", now());
        let record = self.set(key, pushed_at, IS_STILL_BEGUN, [(":begun_at", at.clone())]);
        Ok(self.transact(vec![record]).await?.into())
    }

    /// Step 4. Takes the tag from the image that had it. [`Step::Gone`] if the image was deleted meanwhile.
    pub async fn tag_image(
        &self,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
    ) -> Result<Step, Error> {
        let image_is_published = self.check(keys::image(repository, image), IS_PUBLISHED, []);
        let record = [("image_digest", AttributeValue::S(image.canonical()))];
        let record = self.put(keys::tag(repository, tag.as_ref()), record);
        Ok(self.transact(vec![self.change(repository), image_is_published, record]).await?.into())
    }

    /// An item that counts a change of a repository, which must be there and not be being deleted.
    fn change(&self, repository: &Repository) -> TransactWriteItem {
        let update = update(self, repository_key(repository))
            .update_expression("ADD changes :one")
            .expression_attribute_values(":one", number_value(1))
            .condition_expression(IS_ALIVE);
        TransactWriteItem::builder().update(update.build().expect(COMPLETE)).build()
    }
}

/// In seconds since 1970.
fn now() -> AttributeValue {
    number_value(nanoseconds_since_1970() / 1_000_000_000)
}

fn digests<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> AttributeValue {
    AttributeValue::L(digests.into_iter().map(|digest| AttributeValue::S(digest.canonical())).collect())
}
