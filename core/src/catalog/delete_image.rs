//! Deleting images, in the opposite order of publishing. It is safe to stop between any two of
//! these steps; deleting again does the rest:
//!
//! 1. The image is marked with `deleting`, unless what names it has changed since it was read. From
//!    then on nothing is added to the image. The mark is never replaced, so a record with another
//!    mark, or without one, is a later record with the same digest.
//! 2. If the image is an index, each of its images loses the row that names the index. Images that
//!    nothing else names are marked too.
//! 3. The references to the image's layers are deleted.
//! 4. The record is deleted, together with the tags, by which it was found. The record of an index
//!    is deleted after those of its images, because it lists them.

use std::time::SystemTime;

use super::condition::Condition;
use super::id::UniqueId;
use super::image::{ImageRecord, count_change};
use super::item::{digest_value, string};
use super::transaction::{LARGEST_TRANSACTION, Outcome, Transaction};
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Cleaner, Publisher, Role};
use crate::types::{Digest, ImageId, ImageTag, Repository};

/// The outcome of deleting an image.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageDeletion {
    /// These images are gone: the image itself and, if it was an index, those of its images that
    /// nothing else named.
    Deleted(Vec<Digest>),
    /// Only the tag is gone; the image stays.
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

/// What must hold for a step of deleting.
#[derive(Debug, PartialEq, Eq)]
enum Guard {
    /// The image is as it was read, or is marked by this deletion.
    Image,
    /// The index is marked by this deletion.
    Index,
    /// The tag names the image.
    Tag,
    /// The repository is marked by this deletion.
    Repository,
}

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

/// Decides about an image that has these `tags` and is named by this `index`. Two tags are enough:
/// they tell whether the image has others than the given one.
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

impl Catalog<Publisher> {
    /// Deletes an image with its tags; but if `id` is a tag and the image has other tags, only that
    /// tag. The layers of a deleted image are inaccessible, except those that another image
    /// references.
    pub async fn delete_image(
        &self,
        repository: &Repository,
        id: &ImageId,
    ) -> Result<ImageDeletion, Fault> {
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
                    if self.untag(repository, &image, &tag).await?.is_written() {
                        return Ok(ImageDeletion::Untagged(tag));
                    }
                }
                Decision::Delete => {
                    let deletion = UniqueId::draw();
                    let mut write = self.table.transaction();
                    mark(&mut write, repository, &image, deletion);
                    if write.commit().await?.is_written() {
                        break Marked { image, deletion };
                    }
                }
                Decision::LookAgain => {}
            }
        };
        let going = self.sweep_with_images_of_indexes(repository, marked, id).await?;
        Ok(ImageDeletion::Deleted(going))
    }

    /// Takes a tag from its image, and keeps the image: also if it has no other tag, or an index
    /// names it. [`ImageDeletion::Untagged`], unless there is no such tag.
    pub async fn delete_tag(
        &self,
        repository: &Repository,
        tag: &ImageTag,
    ) -> Result<ImageDeletion, Fault> {
        loop {
            let image = match self.tagged(repository, tag).await? {
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
                // Its deletion takes the tag, too.
                let id = ImageId::Tag(tag.clone());
                self.sweep_with_images_of_indexes(repository, Marked { image, deletion }, &id)
                    .await?;
                return Ok(ImageDeletion::Untagged(tag.clone()));
            }
            if self.untag(repository, &image, tag).await?.is_written() {
                return Ok(ImageDeletion::Untagged(tag.clone()));
            }
        }
    }
}

impl Catalog<Cleaner> {
    /// Deletes an image whose publishing began before `begun_before` and never ended; or whose
    /// deletion did not end. The images of an index whose publishing never ended stay: they were
    /// published. Returns whether there was anything to delete; `is_dry_run` only looks.
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
            let mut write = self.table.transaction();
            write.update_if(
                Guard::Image,
                Condition::is_unfinished(image.revision),
                schema::image(repository, digest),
                "SET deleting = :deletion, keeps_images = :deletion",
                [(":deletion", deletion.value())],
            );
            if write.commit().await?.is_written() {
                break Marked { image: ImageRecord { keeps_images: true, ..image }, deletion };
            }
        };
        let id = ImageId::Digest(digest.clone());
        self.sweep_with_images_of_indexes(repository, marked, &id).await?;
        Ok(true)
    }
}

impl<R: Role> Catalog<R> {
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

    /// Takes a tag from an image, if what names the image has not changed since it was read.
    async fn untag(
        &self,
        repository: &Repository,
        image: &ImageRecord,
        tag: &ImageTag,
    ) -> Result<Outcome<Guard>, Fault> {
        let is_as_seen = Condition::has_revision(image.revision);
        let mut write = self.table.transaction();
        count_change(&mut write, Guard::Image, is_as_seen, repository, &image.digest);
        take_tag(&mut write, repository, &image.digest, tag);
        write.commit().await
    }

    /// All that is deleted with a marked image, the image included. If it is an index, these are
    /// those of its images that nothing else names; they are marked too. The index's other images
    /// lose the row that names it. In the result, an index comes before its images.
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
                    && let Some(marked) =
                        self.take_from_index(repository, image, &index, deletion).await?
                {
                    going.push(marked);
                }
            }
            next += 1;
        }
        Ok(going)
    }

    /// Removes the row of an image that names an index, because the index is being deleted. If
    /// nothing else names the image, marks it instead, and returns it, unless the index's deletion
    /// keeps its images. If another index names it that is being deleted too, the image is left to
    /// that one.
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
            let mut write = self.table.transaction();
            let index_goes = Condition::is_marked(deletion_of_index);
            write.check(Guard::Index, index_goes, schema::image(repository, &index.digest));
            let deletion = UniqueId::draw();
            let stays = index.keeps_images || !tags.is_empty() || other_index.is_some();
            if stays {
                let is_as_seen = Condition::has_revision(image.revision);
                count_change(&mut write, Guard::Image, is_as_seen, repository, &image.digest);
                write.delete(schema::index_of_image(repository, &image.digest, &index.digest));
            } else {
                mark(&mut write, repository, &image, deletion);
            }
            match write.commit().await? {
                Outcome::Written if stays => return Ok(None),
                Outcome::Written => return Ok(Some(Marked { image, deletion })),
                // Another command has completed the index's deletion.
                Outcome::Refused(Guard::Index) => return Ok(None),
                Outcome::Refused(_) => {}
            }
        }
    }

    /// Removes the row that names an index which is being deleted, of an image that was never
    /// fetched from the index's registry. `false` if the image has come meanwhile.
    async fn forget_index(
        &self,
        repository: &Repository,
        image: &Digest,
        index: &ImageRecord,
        deletion_of_index: UniqueId,
    ) -> Result<bool, Fault> {
        let mut write = self.table.transaction();
        let index_goes = Condition::is_marked(deletion_of_index);
        write.check(Guard::Index, index_goes, schema::image(repository, &index.digest));
        write.check(Guard::Image, Condition::is_absent(), schema::image(repository, image));
        write.delete(schema::index_of_image(repository, image, &index.digest));
        Ok(write.commit().await? != Outcome::Refused(Guard::Image))
    }

    /// Deletes everything that belongs to a marked image: last its record, and with it the tag that
    /// it was found by. Stops without an error if somebody else has completed the deletion.
    async fn sweep_image(
        &self,
        repository: &Repository,
        marked: &Marked,
        found_by: &ImageId,
    ) -> Result<(), Fault> {
        let Marked { image, deletion } = marked;
        let record = schema::image(repository, &image.digest);
        let is_marked = || Condition::is_marked(*deletion);

        let references = image.layers.iter();
        let references =
            references.map(|layer| schema::reference(repository, layer, &image.digest));
        let mut rows: Vec<_> = references.collect();
        let mut indexes = self.table.rows(record.0.clone(), schema::INDEX_PREFIX, 100);
        while let Some(row) = indexes.next().await? {
            rows.push((record.0.clone(), string(&row, "sk")?.to_owned()));
        }
        if image.is_from_upstream {
            // Those of its images that are not here have nothing but this row.
            let names = image.images.iter();
            let names = names.map(|named| schema::index_of_image(repository, named, &image.digest));
            rows.extend(names);
        }
        for rows in rows.chunks(LARGEST_TRANSACTION - 1) {
            let mut write = self.table.transaction();
            rows.iter().for_each(|row| write.delete(row.clone()));
            write.check(Guard::Image, is_marked(), record.clone());
            if !write.commit().await?.is_written() {
                return Ok(());
            }
        }

        // The last transaction deletes two rows besides.
        const TAGS_AT_ONCE: usize = (LARGEST_TRANSACTION - 2) / ROWS_OF_A_TAG;
        loop {
            // One more than fit, to see whether these are the last.
            let mut tags = self.tags_of(repository, &image.digest, TAGS_AT_ONCE + 1).await?;
            // The tag that the image was found by goes last, so that the same command finds the
            // image again if this one is stopped.
            tags.sort_by_key(|tag| matches!(found_by, ImageId::Tag(found_by) if found_by == tag));
            let are_last = tags.len() <= TAGS_AT_ONCE;
            tags.truncate(TAGS_AT_ONCE);
            let mut write = self.table.transaction();
            tags.iter().for_each(|tag| take_tag(&mut write, repository, &image.digest, tag));
            if are_last {
                write.delete_if(Guard::Image, is_marked(), record.clone());
                write.delete(schema::image_listing(repository, &image.digest));
            } else {
                write.check(Guard::Image, is_marked(), record.clone());
            }
            match write.commit().await? {
                Outcome::Written if are_last => return Ok(()),
                // The record is gone, or a later one is there: another command has completed the
                // deletion.
                Outcome::Refused(Guard::Image) => return Ok(()),
                // There are more tags; or one of these was moved to another image meanwhile, and
                // stays there.
                Outcome::Written | Outcome::Refused(_) => {}
            }
        }
    }

    /// Deletes an image of a repository that is being deleted, whatever names the image. Does not
    /// begin if the repository's deletion has ended.
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
                let mut write = self.table.transaction();
                write.check(Guard::Repository, goes_on, schema::repository(repository));
                mark(&mut write, repository, &image, deletion);
                if !write.commit().await?.is_written() {
                    return Ok(()); // if the deletion goes on, its next pass looks at the image again
                }
                deletion
            }
        };
        let id = ImageId::Digest(image.digest.clone());
        self.sweep_image(repository, &Marked { image, deletion }, &id).await
    }
}

/// Takes a tag from an image. Refused if the tag names another image.
fn take_tag(
    write: &mut Transaction<'_, Guard>,
    repository: &Repository,
    image: &Digest,
    tag: &ImageTag,
) {
    let names_it = Condition::names(digest_value(image));
    write.delete_if(Guard::Tag, names_it, schema::tag(repository, tag));
    write.delete(schema::tag_of_image(repository, image, tag));
    write.delete(schema::tag_listing(repository, image, tag));
    write.delete(schema::tag_name_listing(repository, tag));
}

/// Marks an image. Refused if what names the image has changed since it was read.
fn mark(
    write: &mut Transaction<'_, Guard>,
    repository: &Repository,
    image: &ImageRecord,
    deletion: UniqueId,
) {
    write.update_if(
        Guard::Image,
        Condition::has_revision(image.revision),
        schema::image(repository, &image.digest),
        "SET deleting = :deletion",
        [(":deletion", deletion.value())],
    );
    let listing = schema::image_listing(repository, &image.digest);
    write.update_if(Guard::Image, Condition::exists(), listing, "REMOVE pushed_at", []);
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
            (
                "by digest, in an index",
                &by_digest,
                &["a"],
                Some(&index),
                Decision::KeptBy(index.clone()),
            ),
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
            (
                "by its only tag, in an index",
                &by_tag,
                &["b"],
                Some(&index),
                Decision::KeptBy(index.clone()),
            ),
            ("by a tag that it has lost", &by_tag, &["a"], None, Decision::LookAgain),
        ];
        for (description, id, tags, index, expected) in cases {
            let tags: Vec<_> = tags.iter().copied().map(tag).collect();
            assert_eq!(decide(id, &tags, index.cloned()), expected, "{description}");
        }
    }
}
