//! Deleting from the index, in the opposite order of publishing. Every stop between two steps is safe, and
//! deleting it again completes it:
//!
//! 1. What goes is decided by a look at the whole repository, and all of it gets `deleting` at once, unless the
//!    repository's `changes` show that something was added since that look. There is no way back from here, and
//!    nothing is added to it any more.
//! 2. The references to its layers go.
//! 3. Its record goes together with its tags, by which it was found.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::contents::{Contents, ImageRecord};
use super::transaction::{LARGEST_TRANSACTION, Outcome, number_value};
use super::{Key, LayerIndex, keys, layer_partition, repository_key, string};
use crate::error::Error;
use crate::types::{Digest, ImageTag, Repository};

/// The condition that an image or a repository is being deleted. If not, somebody else has ended that, and what is
/// there now is another of the same name.
const IS_BEING_DELETED: &str = "attribute_exists(deleting)";

/// How an image is named.
#[derive(Debug, Clone)]
pub enum ImageId {
    /// By a tag.
    Tag(ImageTag),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// How deleting an image went.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageDeletion {
    /// These are gone: the image, and if it was an index those of its images that nothing else names.
    Done(Vec<Digest>),
    /// Only the tag is gone, because the image has others.
    Untagged(ImageTag),
    /// There is no such image.
    Missing,
    /// Nothing was done, because the image is one of an index's.
    PartOf {
        /// The image.
        image: Digest,
        /// The index.
        index: Digest,
    },
}

/// How deleting a repository went.
#[derive(Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// There is no such repository.
    Missing,
    /// It has so many images, and that was not to be.
    HasImages(usize),
}

impl LayerIndex {
    /// Deletes an image with its tags; if it is named by a tag and has others, only that tag. The layers are
    /// inaccessible from then on, but for those that another image references.
    pub async fn delete_image(&self, repository: &Repository, id: &ImageId) -> Result<ImageDeletion, Error> {
        loop {
            let contents = self.contents(repository).await?;
            let Some(record) = &contents.record else { return Ok(ImageDeletion::Missing) };
            let deletion = deletion_of(id, &contents);
            let changes: Vec<_> = match &deletion {
                ImageDeletion::Missing | ImageDeletion::PartOf { .. } => return Ok(deletion),
                ImageDeletion::Untagged(tag) => vec![self.delete(keys::tag(repository, tag.as_ref()))],
                ImageDeletion::Done(images) => {
                    let images = images.iter().filter_map(|image| contents.image(image));
                    let images = images.filter(|image| !image.deleting);
                    images.map(|image| self.set_deleting(keys::image(repository, &image.digest))).collect()
                }
            };
            if !self.change_since(repository, record.changes, &changes).await? {
                continue;
            }
            if let ImageDeletion::Done(images) = &deletion {
                // The index last: by it the others are found if this is stopped.
                for image in images.iter().rev() {
                    self.delete_references(repository, image, &contents).await?;
                    self.delete_image_record(repository, image, &contents).await?;
                }
            }
            return Ok(deletion);
        }
    }

    /// Writes `items` if the repository's `changes` are these; `false` if not, or no more after some of them.
    async fn change_since(
        &self,
        repository: &Repository,
        changes: u64,
        items: &[TransactWriteItem],
    ) -> Result<bool, Error> {
        for (changes, items) in (changes..).zip(items.chunks(LARGEST_TRANSACTION - 1)) {
            let next = ("changes", number_value(changes + 1));
            let seen = [(":seen", number_value(changes))];
            let mut items = items.to_vec();
            items.push(self.set(repository_key(repository), next, "changes = :seen", seen));
            if self.transact(items).await? == Outcome::Refused {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn delete_references(
        &self,
        repository: &Repository,
        image: &Digest,
        contents: &Contents,
    ) -> Result<(), Error> {
        let layers = contents.image(image).map(|image| image.layers.as_slice()).unwrap_or_default();
        let references = layers.iter().map(|layer| keys::reference(repository, layer, image));
        self.delete_records(references.collect(), keys::image(repository, image)).await
    }

    /// Deletes an image's record together with its tags.
    async fn delete_image_record(
        &self,
        repository: &Repository,
        image: &Digest,
        contents: &Contents,
    ) -> Result<(), Error> {
        let record = keys::image(repository, image);
        let mut tags: Vec<_> = contents.tags_of(image).map(str::to_owned).collect();
        loop {
            let some = tags.len().min(LARGEST_TRANSACTION - 1);
            let is_all = some == tags.len();
            let items = tags[..some].iter().map(|tag| self.delete_tag_of(repository, tag, image));
            let mut items: Vec<_> = items.collect();
            items.push(match is_all {
                true => self.delete_if(record.clone(), IS_BEING_DELETED),
                false => self.check(record.clone(), IS_BEING_DELETED, []),
            });
            if self.transact(items).await? == Outcome::Written {
                if is_all {
                    return Ok(());
                }
                tags.drain(..some);
                continue;
            }
            // Another image has got one of the tags meanwhile, and keeps it; or somebody else has ended this.
            let contents = self.contents(repository).await?;
            if !contents.image(image).is_some_and(|image| image.deleting) {
                return Ok(());
            }
            tags.retain(|tag| contents.tags.get(tag) == Some(image));
        }
    }

    /// Deletes a repository; one that has images only if `with_images` says so.
    pub async fn delete_repository(
        &self,
        repository: &Repository,
        with_images: bool,
    ) -> Result<Deletion, Error> {
        let key = repository_key(repository);
        loop {
            let contents = self.contents(repository).await?;
            let Some(record) = contents.record else { return Ok(Deletion::Missing) };
            if record.deleting {
                break;
            }
            if !contents.images.is_empty() && !with_images {
                return Ok(Deletion::HasImages(contents.images.len()));
            }
            let deleting = ("deleting", AttributeValue::Bool(true));
            let seen = [(":seen", number_value(record.changes))];
            let mark = self.set(key.clone(), deleting, "changes = :seen", seen);
            if self.transact(vec![mark]).await? == Outcome::Written {
                break;
            }
        }
        // No image is begun any more; those that were are marked, so that nothing is added to them.
        for image in self.contents(repository).await?.images {
            let mark = self.set_deleting(keys::image(repository, &image.digest));
            let is_ours = self.check(key.clone(), IS_BEING_DELETED, []);
            self.transact(vec![mark, is_ours]).await?; // refused if the image is gone already
        }
        let contents = self.contents(repository).await?;
        for layer in &contents.layers {
            let pk = layer_partition(repository, layer);
            let mut records = Vec::new();
            for item in self.partition(pk.clone()).await? {
                records.push((pk.clone(), string(&item, "sk")?.to_owned()));
            }
            self.delete_records(records, key.clone()).await?;
        }
        let layers = contents.layers.iter().map(|layer| keys::layer_listing(repository, layer));
        let tags = contents.tags.keys().map(|tag| keys::tag(repository, tag));
        let images = contents.images.iter().map(|image| keys::image(repository, &image.digest));
        self.delete_records(layers.chain(tags).chain(images).collect(), key.clone()).await?;
        let listing = self.delete(keys::repository_listing(repository));
        self.transact(vec![listing, self.delete_if(key, IS_BEING_DELETED)]).await?;
        Ok(Deletion::Done)
    }

    fn set_deleting(&self, image: Key) -> TransactWriteItem {
        self.set(image, ("deleting", AttributeValue::Bool(true)), "attribute_exists(pk)", [])
    }

    /// Deletes what belongs to the record at `owner`, while that is being deleted.
    async fn delete_records(&self, records: Vec<Key>, owner: Key) -> Result<(), Error> {
        for records in records.chunks(LARGEST_TRANSACTION - 1) {
            let mut items: Vec<_> = records.iter().map(|key| self.delete(key.clone())).collect();
            items.push(self.check(owner.clone(), IS_BEING_DELETED, []));
            if self.transact(items).await? == Outcome::Refused {
                break; // somebody else has deleted it
            }
        }
        Ok(())
    }
}

/// What deleting an image comes to, as things are.
fn deletion_of(id: &ImageId, contents: &Contents) -> ImageDeletion {
    let digest = match id {
        ImageId::Digest(digest) => Some(digest),
        ImageId::Tag(tag) => contents.tagged(tag),
    };
    let Some(image) = digest.and_then(|digest| contents.image(digest)) else { return ImageDeletion::Missing };
    if !image.deleting {
        if let ImageId::Tag(tag) = id
            && contents.tags_of(&image.digest).count() > 1
        {
            return ImageDeletion::Untagged(tag.clone());
        }
        if let Some(index) = index_of(image, contents, &[]) {
            return ImageDeletion::PartOf { image: image.digest.clone(), index: index.digest.clone() };
        }
    }
    ImageDeletion::Done(goes_with(image, contents))
}

/// The image, and if it is an index those of its images that go with it: no tag has them, and no other index; or
/// they are being deleted. An index comes before its images.
fn goes_with(image: &ImageRecord, contents: &Contents) -> Vec<Digest> {
    let mut going = vec![image.digest.clone()];
    let mut next = 0;
    while let Some(index) = going.get(next).and_then(|digest| contents.image(digest)) {
        for child in index.images.iter().filter_map(|child| contents.image(child)) {
            let is_named = contents.tags_of(&child.digest).next().is_some()
                || index_of(child, contents, &going).is_some();
            if (child.deleting || !is_named) && !going.contains(&child.digest) {
                going.push(child.digest.clone());
            }
        }
        next += 1;
    }
    going
}

/// An index that the image belongs to, other than those that are `going` or being deleted.
fn index_of<'a>(image: &ImageRecord, contents: &'a Contents, going: &[Digest]) -> Option<&'a ImageRecord> {
    contents.images.iter().find(|index| {
        index.images.contains(&image.digest) && !index.deleting && !going.contains(&index.digest)
    })
}
