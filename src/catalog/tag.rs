//! Tags: each names one image.

use super::image::digest_value;
use super::publish::PublishError;
use super::transaction::{Condition, Outcome, now};
use super::{Catalog, Consistency, Item, digest, keys, optional_number, string};
use crate::fault::Fault;
use crate::types::{Digest, ImageTag, Repository};

/// What a tag names.
#[derive(Debug)]
pub(super) struct Tagged {
    /// The image.
    pub(super) image: Digest,
    /// When another registry said so last, in seconds since 1970; `None` if the tag was given here.
    pub(super) checked_at: Option<u64>,
}

/// Who says that a tag names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagSource {
    /// Somebody who publishes here.
    Publisher,
    /// The registry that the image comes from, just now.
    Upstream,
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
        source: TagSource,
    ) -> Result<(), PublishError> {
        loop {
            let former = self.tagged(repository, tag).await?;
            let is_unchanged = match &former {
                None => Condition::is_absent(),
                Some(former) => Condition::names(digest_value(former)),
            };
            let pointer = [("image_digest", digest_value(image))];
            let checked_at = (source == TagSource::Upstream).then(|| ("checked_at", now()));
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
                Outcome::Refused(_) => {} // the tag was changed meanwhile
            }
        }
    }
}
