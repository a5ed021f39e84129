//! An image's own partition: its record, and what names it.

use super::condition::Condition;
use super::id::UniqueId;
use super::item::{
    Item, digest, digests, number, number_value, optional_number, optional_string, string,
};
use super::schema::ImageRow;
use super::transaction::Transaction;
use super::{Catalog, Consistency, schema};
use crate::fault::Fault;
use crate::role::Role;
use crate::types::{Digest, ImageId, ImageTag, Repository};

/// An image's record.
#[derive(Debug, Clone)]
pub(super) struct ImageRecord {
    /// The digest of its manifest.
    pub(super) digest: Digest,
    /// All layers that it may have references to.
    pub(super) layers: Vec<Digest>,
    /// The images of an index.
    pub(super) images: Vec<Digest>,
    /// Drawn when its publishing began. Tells this record from an earlier or later one with the
    /// same digest.
    pub(super) begun_at: UniqueId,
    /// Grows with each change of what names the image.
    pub(super) revision: UniqueId,
    /// Whether its publishing has ended.
    pub(super) is_published: bool,
    /// The id of its deletion, if that has begun.
    pub(super) deletion: Option<UniqueId>,
    /// Whether that deletion keeps the images of the index.
    pub(super) keeps_images: bool,
    /// Whether it comes from another registry. Then the images of an index need not be here.
    pub(super) is_from_upstream: bool,
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
            is_from_upstream: item.contains_key("upstream"),
        })
    }
}

/// A published image.
#[derive(Debug)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The media type of its config blob; `None` for an index, or if the image was published before
    /// this was recorded.
    pub config_media_type: Option<String>,
    /// How many bytes the manifest has.
    pub manifest_size: u64,
    /// How many bytes its layers have, each counted once; `None` for an index, or if the image was
    /// published before this was recorded.
    pub size: Option<u64>,
    /// When it was published, in seconds since 1970.
    pub pushed_at: u64,
    /// When another registry said last that the tag names this image, in seconds since 1970; `None`
    /// if it was looked up by digest, or the tag was given here.
    pub checked_at: Option<u64>,
}

impl Image {
    /// Reads an image's record or its row in the listing; `None` if the image is not published, or
    /// is being deleted.
    pub(super) fn read(item: &Item, digest: &Digest) -> Result<Option<Self>, Fault> {
        let Some(pushed_at) =
            optional_number(item, "pushed_at")?.filter(|_| !item.contains_key("deleting"))
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            digest: digest.clone(),
            media_type: string(item, "media_type")?.to_owned(),
            config_media_type: optional_string(item, "config_media_type")?
                .filter(|media_type| !media_type.is_empty()),
            manifest_size: number(item, "manifest_size")?,
            size: optional_number(item, "image_size")?.filter(|&size| size > 0),
            pushed_at,
            checked_at: None,
        }))
    }
}

/// What a tag names.
#[derive(Debug)]
pub(super) struct Tagged {
    /// The image.
    pub(super) image: Digest,
    /// When another registry said so last, in seconds since 1970; `None` if the tag was given here.
    pub(super) checked_at: Option<u64>,
}

impl<R: Role> Catalog<R> {
    /// A published image: neither one whose publishing has not ended, nor one that is being
    /// deleted. One request by digest, two by tag.
    pub async fn published_image(
        &self,
        repository: &Repository,
        id: &ImageId,
        consistency: Consistency,
    ) -> Result<Option<Image>, Fault> {
        let (digest, checked_at) = match id {
            ImageId::Digest(digest) => (digest.clone(), None),
            ImageId::Tag(tag) => match self.tag_as_of(repository, tag, consistency).await? {
                Some(Tagged { image, checked_at }) => (image, checked_at),
                None => return Ok(None),
            },
        };
        let key = schema::image(repository, &digest);
        let record = self.table.record_as_of(key, consistency == Consistency::Strong).await?;
        let image = record.map_or(Ok(None), |record| Image::read(&record, &digest))?;
        Ok(image.map(|image| Image { checked_at, ..image }))
    }

    /// An image's record. One request.
    pub(super) async fn image(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ImageRecord>, Fault> {
        let record = self.table.record(schema::image(repository, digest)).await?;
        record.map(|item| ImageRecord::read(&item, digest)).transpose()
    }

    /// The image that a tag names, read with strong consistency. One request.
    pub(super) async fn tagged(
        &self,
        repository: &Repository,
        tag: &ImageTag,
    ) -> Result<Option<Digest>, Fault> {
        Ok(self.tag_as_of(repository, tag, Consistency::Strong).await?.map(|tagged| tagged.image))
    }

    /// What a tag names. One request.
    pub(super) async fn tag_as_of(
        &self,
        repository: &Repository,
        tag: &ImageTag,
        consistency: Consistency,
    ) -> Result<Option<Tagged>, Fault> {
        let is_consistent = consistency == Consistency::Strong;
        let record = self.table.record_as_of(schema::tag(repository, tag), is_consistent).await?;
        let read = |item: Item| {
            let checked_at = optional_number(&item, "checked_at")?;
            Ok(Tagged { image: digest(&item, "image_digest")?, checked_at })
        };
        record.map(read).transpose()
    }

    /// Some of an image's tags, at most `count`. One query for each 1 MB.
    pub async fn tags_of(
        &self,
        repository: &Repository,
        image: &Digest,
        count: usize,
    ) -> Result<Vec<ImageTag>, Fault> {
        let page = i32::try_from(count).unwrap_or(i32::MAX);
        let mut rows =
            self.table.rows(schema::image_partition(repository, image), schema::TAG_PREFIX, page);
        let tag = |row: &Item| match ImageRow::of(row)? {
            ImageRow::Tag(tag) => Ok(tag),
            ImageRow::Image | ImageRow::Index(_) => Err(Fault::BrokenRecord("sk")),
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
        let mut rows =
            self.table.rows(schema::image_partition(repository, image), schema::INDEX_PREFIX, 100);
        while let Some(row) = rows.next().await? {
            if let ImageRow::Index(index) = ImageRow::of(&row)?
                && Some(&index) != except
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

/// Increases an image's revision, because what names the image changes.
pub(super) fn count_change<G>(
    write: &mut Transaction<'_, G>,
    guard: G,
    condition: Condition,
    repository: &Repository,
    image: &Digest,
) {
    let one = [(":one", number_value(1))];
    write.update_if(guard, condition, schema::image(repository, image), "ADD revision :one", one);
}
