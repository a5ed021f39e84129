//! Tags: each names one image.

use super::fill::Fill;
use super::image::digest_value;
use super::publish::PublishError;
use super::transaction::{Condition, Outcome, now};
use super::{Catalog, Consistency, Item, digest, keys, optional_number, string};
use crate::fault::Fault;
use crate::types::{Digest, ImageTag, Repository};

/// How many items there are before the one that ends the fill.
const PLACE_OF_FILL: usize = 5;

/// What a tag names.
#[derive(Debug)]
pub(super) struct Tagged {
    /// The image.
    pub(super) image: Digest,
    /// When another registry said so last, in seconds since 1970; `None` if the tag was given here.
    pub(super) checked_at: Option<u64>,
}

impl Catalog {
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
        let record = self.record_as_of(keys::tag(repository, tag), consistency).await?;
        let read = |item: Item| {
            let checked_at = optional_number(&item, "checked_at")?;
            Ok(Tagged { image: digest(string(&item, "image_digest")?)?, checked_at })
        };
        record.map(read).transpose()
    }

    /// Tags a published image. Takes the tag from the image that had it.
    pub async fn tag_image(
        &self,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
    ) -> Result<(), PublishError> {
        self.write_tag(repository, image, tag, None).await
    }

    /// Tags an image that came from another registry, which has just said that this is its tag, and ends the fill of the tag. A
    /// tag that was given here meanwhile stays. Nothing is written if the lease is another's.
    pub async fn tag_from_upstream(
        &self,
        fill: &Fill,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
    ) -> Result<(), PublishError> {
        self.write_tag(repository, image, tag, Some(fill)).await
    }

    async fn write_tag(
        &self,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
        fill: Option<&Fill>,
    ) -> Result<(), PublishError> {
        loop {
            let former = self.tag_as_of(repository, tag, Consistency::Strong).await?;
            if let (Some(Tagged { checked_at: None, .. }), Some(fill)) = (&former, fill) {
                return Ok(self.end_fill(fill).await?);
            }
            let former = former.map(|former| former.image);
            let is_unchanged = match &former {
                None => Condition::is_absent(),
                Some(former) => Condition::names(digest_value(former)),
            };
            let pointer = [("image_digest", digest_value(image))];
            let checked_at = fill.map(|_| ("checked_at", now()));
            let mut items = vec![
                self.count_change(repository, image, Condition::is_published()),
                self.put(
                    keys::tag(repository, tag),
                    pointer.clone().into_iter().chain(checked_at),
                    Some(is_unchanged),
                ),
                self.put(keys::tag_of_image(repository, image, tag), [], None),
                self.put(keys::tag_listing(repository, image, tag), [], None),
                self.put(keys::tag_name_listing(repository, tag), pointer, None),
            ];
            items.extend(fill.map(|fill| self.ends(fill)));
            if let Some(former) = former.filter(|former| former != image) {
                items.extend([
                    self.count_change(repository, &former, Condition::exists()),
                    self.delete(keys::tag_of_image(repository, &former, tag), None),
                    self.delete(keys::tag_listing(repository, &former, tag), None),
                ]);
            }
            match self.transact(items).await? {
                Outcome::Written => return Ok(()),
                Outcome::Refused(0) => return Err(PublishError::ImageDeleted),
                Outcome::Refused(PLACE_OF_FILL) if fill.is_some() => return Ok(()), // another worker has the lease
                Outcome::Refused(_) => {} // the tag was changed meanwhile
            }
        }
    }
}
