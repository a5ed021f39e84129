//! An image's own partition: its record, and what names it.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::transaction::{Condition, number_value};
use super::{Catalog, Item, digest, digests, keys, number, optional_number, string};
use crate::fault::Fault;
use crate::types::{Digest, ImageTag, Repository};

/// An image's record.
#[derive(Debug, Clone)]
pub(super) struct ImageRecord {
    /// The digest of its manifest.
    pub(super) digest: Digest,
    /// All layers that it may have references to.
    pub(super) layers: Vec<Digest>,
    /// The images of an index.
    pub(super) images: Vec<Digest>,
    /// When its publishing began. Tells this record from an earlier or later one with the same digest.
    pub(super) begun_at: u64,
    /// Grows with each change of what names the image.
    pub(super) revision: u64,
    /// Whether its publishing has ended.
    pub(super) is_published: bool,
    /// The id of its deletion, if that has begun.
    pub(super) deletion: Option<u64>,
    /// Whether that deletion keeps the images of the index.
    pub(super) keeps_images: bool,
}

impl ImageRecord {
    fn read(item: &Item, digest: &Digest) -> Result<Self, Fault> {
        Ok(Self {
            digest: digest.clone(),
            layers: digests(item, "layers")?,
            images: digests(item, "images")?,
            begun_at: number(item, "begun_at")?,
            revision: number(item, "revision")?,
            is_published: item.contains_key("pushed_at"),
            deletion: optional_number(item, "deleting")?,
            keeps_images: item.contains_key("keeps_images"),
        })
    }
}

impl Catalog {
    /// An image's record. One request.
    pub(super) async fn image(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ImageRecord>, Fault> {
        let record = self.record(keys::image(repository, digest)).await?;
        record.map(|item| ImageRecord::read(&item, digest)).transpose()
    }

    /// Some of an image's tags, at most `count`.
    pub(super) async fn tags_of(
        &self,
        repository: &Repository,
        image: &Digest,
        count: usize,
    ) -> Result<Vec<ImageTag>, Fault> {
        let page = i32::try_from(count).unwrap_or(i32::MAX);
        let mut rows = self.rows(keys::image_partition(repository, image), keys::TAG_PREFIX, page);
        let tag = |row: &Item| {
            let tag = string(row, "sk")?.strip_prefix(keys::TAG_PREFIX);
            tag.and_then(|tag| ImageTag::parse(tag).ok()).ok_or(Fault::BrokenRecord("sk"))
        };
        rows.take(count).await?.iter().map(tag).collect()
    }

    /// An index that names the image, other than `except`.
    pub(super) async fn index_of(
        &self,
        repository: &Repository,
        image: &Digest,
        except: Option<&Digest>,
    ) -> Result<Option<Digest>, Fault> {
        let mut rows = self.rows(keys::image_partition(repository, image), keys::INDEX_PREFIX, 100);
        while let Some(row) = rows.next().await? {
            let index = string(&row, "sk")?.strip_prefix(keys::INDEX_PREFIX);
            let index = digest(index.ok_or(Fault::BrokenRecord("sk"))?)?;
            if Some(&index) != except {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// An item that increases an image's revision, because what names the image changes.
    pub(super) fn count_change(
        &self,
        repository: &Repository,
        image: &Digest,
        condition: Condition,
    ) -> TransactWriteItem {
        let one = [(":one", number_value(1))];
        self.update(keys::image(repository, image), "ADD revision :one", one, Some(condition))
    }
}

pub(super) fn digest_value(digest: &Digest) -> AttributeValue {
    AttributeValue::S(digest.canonical())
}

pub(super) fn digest_values<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> AttributeValue {
    AttributeValue::L(digests.into_iter().map(digest_value).collect())
}
