//! Writing tags: each names one image.

use super::condition::Condition;
use super::fill::Fill;
use super::image::{Tagged, count_change};
use super::item::{digest_value, now};
use super::publish::PublishError;
use super::transaction::Outcome;
use super::{Catalog, Consistency, schema};
use crate::role::Publisher;
use crate::types::{Digest, ImageTag, Repository};

/// What must hold for a tag to be written.
enum Guard {
    /// The image is published.
    Image,
    /// The tag is as it was read, and so is the image that it named.
    Tag,
    /// The fill's lease is that of this worker.
    Fill,
}

impl Catalog<Publisher> {
    /// Tags a published image. Takes the tag from the image that had it.
    pub async fn tag_image(
        &self,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
    ) -> Result<(), PublishError> {
        self.write_tag(repository, image, tag, None).await
    }

    /// Tags an image that came from another registry, which has just said that this is its tag, and
    /// ends the fill of the tag. A tag that was given here meanwhile stays. Nothing is written if
    /// the lease is another's.
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
            let mut write = self.table.transaction();
            count_change(&mut write, Guard::Image, Condition::is_published(), repository, image);
            write.put_if(
                Guard::Tag,
                is_unchanged,
                schema::tag(repository, tag),
                pointer.clone().into_iter().chain(checked_at),
            );
            write.put(schema::tag_of_image(repository, image, tag), []);
            write.put(schema::tag_listing(repository, image, tag), []);
            write.put(schema::tag_name_listing(repository, tag), pointer);
            if let Some(fill) = fill {
                fill.end(&mut write, Guard::Fill);
            }
            if let Some(former) = former.filter(|former| former != image) {
                count_change(&mut write, Guard::Tag, Condition::exists(), repository, &former);
                write.delete(schema::tag_of_image(repository, &former, tag));
                write.delete(schema::tag_listing(repository, &former, tag));
            }
            match write.commit().await? {
                Outcome::Written | Outcome::Refused(Guard::Fill) => return Ok(()),
                Outcome::Refused(Guard::Image) => {
                    return Err(PublishError::ImageDeleted(image.clone()));
                }
                Outcome::Refused(Guard::Tag) => {}
            }
        }
    }
}
