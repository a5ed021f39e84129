//! Deleting images, in the opposite order of publishing. It is safe to stop between any two of these steps; deleting
//! again does the rest:
//!
//! 1. The image is marked with `deleting`, unless what names it has changed since it was read. From then on nothing
//!    is added to the image. The mark is never replaced, so a record with another mark, or without one, is a later
//!    record with the same digest.
//! 2. If the image is an index, each of its images loses the row that names the index. Images that nothing else names
//!    are marked too.
//! 3. The references to the image's layers are deleted.
//! 4. The record is deleted, together with the tags, by which it was found. The record of an index is deleted after
//!    those of its images, because it lists them.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::id::UniqueId;
use super::image::{ImageRecord, digest_value};
use super::transaction::{Condition, LARGEST_TRANSACTION, Outcome};
use super::{Catalog, keys};
use std::time::SystemTime;

use crate::fault::Fault;
use crate::types::{Digest, ImageTag, Repository};

/// How an image is named.
#[derive(Debug, Clone)]
pub enum ImageId {
    /// By a tag.
    Tag(ImageTag),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// The outcome of deleting an image.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageDeletion {
    /// These images are gone: the image itself and, if it was an index, those of its images that nothing else named.
    Deleted(Vec<Digest>),
    /// Only the tag is gone, because the image has others.
    Untagged(ImageTag),
    /// There is no such image.
    NoImage,
    /// There is no such repository.
    NoRepository,
    /// Nothing was done, because an index names the image.
    PartOf {
        /// The image.
        image: Digest,
        /// The index.
        index: Digest,
    },
}

/// How many rows a tag has.
const ROWS_OF_A_TAG: usize = 4;

/// What happens to an image that is to be deleted.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Only the tag is removed.
    Untag(ImageTag),
    /// Nothing is done, because this index names the image.
    KeptBy(Digest),
    /// The image is deleted.
    Delete,
    /// The tag was moved to another image after it was read.
    LookAgain,
}

/// Decides about an image that has these `tags` and is named by this `index`. Two tags are enough: they tell whether
/// the image has others than the given one.
fn decide(id: &ImageId, tags: &[ImageTag], index: Option<Digest>) -> Decision {
    match (id, tags, index) {
        (ImageId::Tag(tag), [_, _, ..], _) => Decision::Untag(tag.clone()),
        (ImageId::Tag(tag), tags, _) if !tags.contains(tag) => Decision::LookAgain,
        (_, _, Some(index)) => Decision::KeptBy(index),
        (_, _, None) => Decision::Delete,
    }
}

/// An image whose deletion has begun.
#[derive(Debug, Clone)]
struct Marked {
    image: ImageRecord,
    deletion: UniqueId,
}

impl Catalog {
    /// Deletes an image with its tags; but if `id` is a tag and the image has other tags, only that tag. The layers
    /// of a deleted image are inaccessible, except those that another image references.
    pub async fn delete_image(&self, repository: &Repository, id: &ImageId) -> Result<ImageDeletion, Fault> {
        let marked = loop {
            let digest = match id {
                ImageId::Digest(digest) => Some(digest.clone()),
                ImageId::Tag(tag) => self.tagged(repository, tag).await?,
            };
            let image = match digest {
                Some(digest) => self.image(repository, &digest).await?,
                None => None,
            };
            let Some(image) = image else {
                return Ok(match self.repository(repository).await? {
                    Some(_) => ImageDeletion::NoImage,
                    None => ImageDeletion::NoRepository,
                });
            };
            if let Some(deletion) = image.deletion {
                break Marked { image, deletion };
            }
            let (tags, index) = tokio::try_join!(
                self.tags_of(repository, &image.digest, 2),
                self.index_of(repository, &image.digest, None),
            )?;
            match decide(id, &tags, index) {
                Decision::KeptBy(index) => {
                    return Ok(ImageDeletion::PartOf { image: image.digest, index });
                }
                Decision::Untag(tag) => {
                    if self.untag(repository, &image, &tag).await? == Outcome::Written {
                        return Ok(ImageDeletion::Untagged(tag));
                    }
                }
                Decision::Delete => {
                    let deletion = UniqueId::draw();
                    let mark = self.mark(repository, &image, deletion);
                    if self.transact(mark.into()).await? == Outcome::Written {
                        break Marked { image, deletion };
                    }
                }
                Decision::LookAgain => {}
            }
        };
        let going = self.sweep_with_images_of_indexes(repository, marked, id).await?;
        Ok(ImageDeletion::Deleted(going))
    }

    /// Deletes an image whose publishing began before `begun_before` and never ended; or whose deletion did not end. The images of an index whose publishing never ended stay: they were published. Returns
    /// whether there was anything to delete; `is_dry_run` only looks.
    pub async fn delete_unfinished_image(
        &self,
        repository: &Repository,
        digest: &Digest,
        begun_before: SystemTime,
        is_dry_run: bool,
    ) -> Result<bool, Fault> {
        let marked = loop {
            let Some(image) = self.image(repository, digest).await? else { return Ok(false) };
            let is_left = image.deletion.is_some() || !image.is_published;
            let goes = is_left && image.begun_at.is_older_than(begun_before);
            if !goes || is_dry_run {
                return Ok(goes);
            }
            if let Some(deletion) = image.deletion {
                break Marked { image, deletion };
            }
            let deletion = UniqueId::draw();
            let mark = [(":deletion", deletion.value())];
            let item = self.update(
                keys::image(repository, digest),
                "SET deleting = :deletion, keeps_images = :deletion",
                mark,
                Some(Condition::is_unfinished(image.revision)),
            );
            if self.transact(vec![item]).await? == Outcome::Written {
                break Marked { image: ImageRecord { keeps_images: true, ..image }, deletion };
            }
        };
        let id = ImageId::Digest(digest.clone());
        self.sweep_with_images_of_indexes(repository, marked, &id).await?;
        Ok(true)
    }

    /// Deletes a marked image, and what is deleted with it. Returns all that is gone.
    async fn sweep_with_images_of_indexes(
        &self,
        repository: &Repository,
        marked: Marked,
        found_by: &ImageId,
    ) -> Result<Vec<Digest>, Fault> {
        let going = self.with_images_of_indexes(repository, marked).await?;
        for marked in going.iter().rev() {
            self.sweep_image(repository, marked, found_by).await?;
        }
        Ok(going.into_iter().map(|marked| marked.image.digest).collect())
    }

    /// Takes a tag from an image that has others.
    async fn untag(
        &self,
        repository: &Repository,
        image: &ImageRecord,
        tag: &ImageTag,
    ) -> Result<Outcome, Fault> {
        let has_others = Condition::has_revision(image.revision);
        let mut items = vec![self.count_change(repository, &image.digest, has_others)];
        items.extend(self.without_tag(repository, &image.digest, tag));
        self.transact(items).await
    }

    /// The items that take a tag from an image. They are refused if the tag names another image.
    fn without_tag(
        &self,
        repository: &Repository,
        image: &Digest,
        tag: &ImageTag,
    ) -> [TransactWriteItem; ROWS_OF_A_TAG] {
        let names_it = Condition::names(digest_value(image));
        [
            self.delete(keys::tag(repository, tag), Some(names_it)),
            self.delete(keys::tag_of_image(repository, image, tag), None),
            self.delete(keys::tag_listing(repository, image, tag), None),
            self.delete(keys::tag_name_listing(repository, tag), None),
        ]
    }

    /// The items that mark an image. They are refused if what names the image has changed since it was read.
    fn mark(
        &self,
        repository: &Repository,
        image: &ImageRecord,
        deletion: UniqueId,
    ) -> [TransactWriteItem; 2] {
        let mark = [(":deletion", deletion.value())];
        let is_as_seen = Condition::has_revision(image.revision);
        [
            self.update(
                keys::image(repository, &image.digest),
                "SET deleting = :deletion",
                mark,
                Some(is_as_seen),
            ),
            self.update(
                keys::image_listing(repository, &image.digest),
                "REMOVE pushed_at",
                [],
                Some(Condition::exists()),
            ),
        ]
    }

    /// All that is deleted with a marked image, the image included. If it is an index, these are those of its images
    /// that nothing else names; they are marked too. The index's other images lose the row that names it. In the
    /// result, an index comes before its images.
    async fn with_images_of_indexes(
        &self,
        repository: &Repository,
        marked: Marked,
    ) -> Result<Vec<Marked>, Fault> {
        let mut going = vec![marked];
        let mut next = 0;
        while let Some(Marked { image: index, deletion }) = going.get(next).cloned() {
            for image in &index.images {
                if !going.iter().any(|marked| marked.image.digest == *image)
                    && let Some(marked) = self.take_from_index(repository, image, &index, deletion).await?
                {
                    going.push(marked);
                }
            }
            next += 1;
        }
        Ok(going)
    }

    /// Removes the row of an image that names an index, because the index is being deleted. If nothing else names the
    /// image, marks it instead, and returns it, unless the index's deletion keeps its images. If another index names it that is being deleted too, the image is
    /// left to that one.
    async fn take_from_index(
        &self,
        repository: &Repository,
        image: &Digest,
        index: &ImageRecord,
        deletion_of_index: UniqueId,
    ) -> Result<Option<Marked>, Fault> {
        loop {
            let Some(image) = self.image(repository, image).await? else {
                if !index.is_from_upstream
                    || self.forget_index(repository, image, index, deletion_of_index).await?
                {
                    return Ok(None);
                }
                continue;
            };
            if let Some(deletion) = image.deletion {
                return Ok(Some(Marked { image, deletion }));
            }
            let (tags, other_index) = tokio::try_join!(
                self.tags_of(repository, &image.digest, 1),
                self.index_of(repository, &image.digest, Some(&index.digest)),
            )?;
            // Otherwise the row may be of a later index with the same digest.
            let while_index_goes =
                self.check(keys::image(repository, &index.digest), Condition::is_marked(deletion_of_index));
            let mut items = vec![while_index_goes];
            let deletion = UniqueId::draw();
            let stays = index.keeps_images || !tags.is_empty() || other_index.is_some();
            if stays {
                let is_as_seen = Condition::has_revision(image.revision);
                items.push(self.count_change(repository, &image.digest, is_as_seen));
                items.push(self.delete(keys::index_of_image(repository, &image.digest, &index.digest), None));
            } else {
                items.extend(self.mark(repository, &image, deletion));
            }
            match self.transact(items).await? {
                Outcome::Written if stays => return Ok(None),
                Outcome::Written => return Ok(Some(Marked { image, deletion })),
                Outcome::Refused(0) => return Ok(None), // somebody else has completed the index's deletion
                Outcome::Refused(_) => {}
            }
        }
    }

    /// Removes the row that names an index which is being deleted, of an image that was never fetched from the index's
    /// registry. `false` if the image has come meanwhile.
    async fn forget_index(
        &self,
        repository: &Repository,
        image: &Digest,
        index: &ImageRecord,
        deletion_of_index: UniqueId,
    ) -> Result<bool, Fault> {
        let items = vec![
            self.check(keys::image(repository, &index.digest), Condition::is_marked(deletion_of_index)),
            self.check(keys::image(repository, image), Condition::is_absent()),
            self.delete(keys::index_of_image(repository, image, &index.digest), None),
        ];
        Ok(self.transact(items).await? != Outcome::Refused(1))
    }

    /// Deletes everything that belongs to a marked image: last its record, and with it the tag that it was found by.
    /// Stops without an error if somebody else has completed the deletion.
    async fn sweep_image(
        &self,
        repository: &Repository,
        marked: &Marked,
        found_by: &ImageId,
    ) -> Result<(), Fault> {
        let Marked { image, deletion } = marked;
        let record = keys::image(repository, &image.digest);
        let is_marked = || Condition::is_marked(*deletion);

        let references = image
            .layers
            .iter()
            .map(|layer| self.delete(keys::reference(repository, layer, &image.digest), None));
        let mut records: Vec<_> = references.collect();
        let mut indexes = self.rows(record.0.clone(), keys::INDEX_PREFIX, 100);
        while let Some(row) = indexes.next().await? {
            records.push(self.delete((record.0.clone(), super::string(&row, "sk")?.to_owned()), None));
        }
        if image.is_from_upstream {
            // Those of its images that are not here have nothing but this row.
            let names = image.images.iter();
            let names = names.map(|named| keys::index_of_image(repository, named, &image.digest));
            records.extend(names.map(|row| self.delete(row, None)));
        }
        for records in records.chunks(LARGEST_TRANSACTION - 1) {
            let mut items = records.to_vec();
            items.push(self.check(record.clone(), is_marked()));
            if self.transact(items).await? != Outcome::Written {
                return Ok(());
            }
        }

        // The last transaction deletes two rows besides.
        const TAGS_AT_ONCE: usize = (LARGEST_TRANSACTION - 2) / ROWS_OF_A_TAG;
        loop {
            // One more than fit, to see whether these are the last.
            let mut tags = self.tags_of(repository, &image.digest, TAGS_AT_ONCE + 1).await?;
            // The tag that the image was found by goes last, so that the same command finds the image again if this
            // one is stopped.
            tags.sort_by_key(|tag| matches!(found_by, ImageId::Tag(found_by) if found_by == tag));
            let are_last = tags.len() <= TAGS_AT_ONCE;
            tags.truncate(TAGS_AT_ONCE);
            let mut items: Vec<_> =
                tags.iter().flat_map(|tag| self.without_tag(repository, &image.digest, tag)).collect();
            if are_last {
                items.push(self.delete(record.clone(), Some(is_marked())));
                items.push(self.delete(keys::image_listing(repository, &image.digest), None));
            } else {
                items.push(self.check(record.clone(), is_marked()));
            }
            match self.transact(items).await? {
                Outcome::Written if are_last => return Ok(()),
                // The record is gone, or a later one is there: somebody else has completed the deletion.
                Outcome::Refused(place) if place >= tags.len() * ROWS_OF_A_TAG => return Ok(()),
                // There are more tags; or one of these was moved to another image meanwhile, and stays there.
                Outcome::Written | Outcome::Refused(_) => {}
            }
        }
    }

    /// Deletes an image of a repository that is being deleted, whatever names the image. Does not begin if the
    /// repository's deletion has ended.
    pub(super) async fn delete_image_of_deleted_repository(
        &self,
        repository: &Repository,
        image: &Digest,
        deletion_of_repository: UniqueId,
    ) -> Result<(), Fault> {
        let Some(image) = self.image(repository, image).await? else { return Ok(()) };
        let deletion = match image.deletion {
            Some(deletion) => deletion,
            None => {
                let deletion = UniqueId::draw();
                let goes_on = Condition::is_marked(deletion_of_repository);
                let mut items = vec![self.check(keys::repository(repository), goes_on)];
                items.extend(self.mark(repository, &image, deletion));
                if self.transact(items).await? != Outcome::Written {
                    return Ok(()); // if the deletion goes on, its next pass looks at the image again
                }
                deletion
            }
        };
        let id = ImageId::Digest(image.digest.clone());
        self.sweep_image(repository, &Marked { image, deletion }, &id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> ImageTag {
        ImageTag::parse(name).expect("a tag")
    }

    #[test]
    fn what_names_an_image_decides_what_deleting_it_comes_to() {
        let digest = Digest::parse("sha256:00").expect("a digest");
        let index = Digest::parse("sha256:11").expect("a digest");
        let by_digest = ImageId::Digest(digest);
        let by_tag = ImageId::Tag(tag("b"));
        type Case<'a> = (&'a str, &'a ImageId, &'a [&'a str], Option<&'a Digest>, Decision);
        let cases: [Case; 9] = [
            ("by digest, whatever tags it has", &by_digest, &["a", "b"], None, Decision::Delete),
            ("by digest, without a tag", &by_digest, &[], None, Decision::Delete),
            ("by digest, in an index", &by_digest, &["a"], Some(&index), Decision::KeptBy(index.clone())),
            ("by its only tag", &by_tag, &["b"], None, Decision::Delete),
            ("by one of its tags", &by_tag, &["a", "b"], None, Decision::Untag(tag("b"))),
            (
                "by one of many, not among the two seen",
                &by_tag,
                &["a", "aa"],
                None,
                Decision::Untag(tag("b")),
            ),
            (
                "by one of its tags, in an index",
                &by_tag,
                &["a", "b"],
                Some(&index),
                Decision::Untag(tag("b")),
            ),
            ("by its only tag, in an index", &by_tag, &["b"], Some(&index), Decision::KeptBy(index.clone())),
            ("by a tag that it has lost", &by_tag, &["a"], None, Decision::LookAgain),
        ];
        for (description, id, tags, index, expected) in cases {
            let tags: Vec<_> = tags.iter().copied().map(tag).collect();
            assert_eq!(decide(id, &tags, index.cloned()), expected, "{description}");
        }
    }
}
