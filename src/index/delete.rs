//! Deleting from the index, in the opposite order of publishing. Every stop between two steps is safe, and
//! deleting it again completes it:
//!
//! 1. An image is claimed, by `deleting`: nothing is added to it and no tag or index gets it any more.
//! 2. If one has got it before that, the claim is taken back.
//! 3. Else it is condemned: it is no longer published, and there is no way back.
//! 4. The references to its layers go, then its record together with its tags, by which it was found.

use aws_sdk_dynamodb::types::AttributeValue;

use super::contents::{Contents, ImageRecord};
use super::transaction::{LARGEST_TRANSACTION, Outcome};
use super::{Key, LayerIndex, keys, layer_partition, repository_key, string};
use crate::error::Error;
use crate::types::{Digest, ImageTag, Repository};

/// The condition that an image is being deleted for good.
const IS_CONDEMNED: &str = "attribute_exists(deleting) AND attribute_not_exists(pushed_at)";

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

/// How deleting an image went.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageDeletion {
    /// These are gone: the image, and if it was an index those of its images that nothing else names.
    Done(Vec<Digest>),
    /// Only the tag is gone, because the image has others.
    Untagged,
    /// There is no such image.
    Missing,
    /// It belongs to this index, so nothing was done.
    PartOf(Digest),
}

impl LayerIndex {
    /// Deletes an image with its tags; if it is deleted by a tag and has others, only that tag. The layers are
    /// inaccessible from then on, but for those that another image references.
    pub async fn delete_image(
        &self,
        repository: &Repository,
        image: &Digest,
        by_tag: Option<&ImageTag>,
    ) -> Result<ImageDeletion, Error> {
        loop {
            let contents = self.contents(repository).await?;
            let Some(record) = contents.image(image) else { return Ok(ImageDeletion::Missing) };
            let deletion = deletion_of(record, &contents, by_tag);
            let going = if let ImageDeletion::Done(images) = &deletion { images.as_slice() } else { &[] };
            if self.adjust_claims(repository, record, &contents, going).await? {
                continue; // to see what was added before
            }
            if let (ImageDeletion::Untagged, Some(tag)) = (&deletion, by_tag) {
                self.transact(vec![self.delete_tag_of(repository, tag.as_ref(), image)]).await?;
            }
            if self.condemn(repository, going).await? {
                // The index last: by it the others are found if this is stopped.
                for image in going.iter().rev() {
                    self.delete_references(repository, image, &contents).await?;
                    self.delete_image_record(repository, image, &contents).await?;
                }
                return Ok(deletion);
            }
        }
    }

    /// Claims what is `going` of an image and those below it, and takes back the claims on what has got a name.
    /// `false` if there was nothing to do.
    async fn adjust_claims(
        &self,
        repository: &Repository,
        image: &ImageRecord,
        contents: &Contents,
        going: &[Digest],
    ) -> Result<bool, Error> {
        let mut has_changed = false;
        for image in family(image, contents) {
            let key = keys::image(repository, &image.digest);
            if going.contains(&image.digest) {
                if !image.deleting {
                    self.claim(key).await?;
                    has_changed = true;
                }
            } else if image.is_claimed() && is_named(image, contents) {
                self.transact(vec![self.remove(key, "deleting", "attribute_exists(pushed_at)")]).await?;
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    /// Condemns claimed images; `false` if one is not claimed any more. An index comes before its images: while it
    /// is published they are.
    async fn condemn(&self, repository: &Repository, images: &[Digest]) -> Result<bool, Error> {
        for image in images {
            let record = keys::image(repository, image);
            let condemn = self.remove(record, "pushed_at", "attribute_exists(deleting)");
            if self.transact(vec![condemn]).await? == Outcome::Refused {
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
        for layers in layers.chunks(LARGEST_TRANSACTION - 1) {
            let references = layers.iter().map(|layer| keys::reference(repository, layer, image));
            let mut items: Vec<_> = references.map(|reference| self.delete(reference)).collect();
            // Or somebody else has deleted it and published it again: these are new ones.
            items.push(self.check(keys::image(repository, image), IS_CONDEMNED));
            self.transact(items).await?;
        }
        Ok(())
    }

    /// Deletes an image's record together with its tags, by which it is found if this is stopped.
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
                true => self.delete_if(record.clone(), IS_CONDEMNED),
                false => self.check(record.clone(), IS_CONDEMNED),
            });
            if self.transact(items).await? == Outcome::Written {
                if is_all {
                    return Ok(());
                }
                tags.drain(..some);
                continue;
            }
            // Another image has got one of the tags meanwhile, and keeps it; or somebody else has deleted this one.
            let contents = self.contents(repository).await?;
            if !contents.image(image).is_some_and(ImageRecord::is_condemned) {
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
        let count = self.contents(repository).await?.images.len();
        if count > 0 && !with_images {
            return Ok(Deletion::HasImages(count));
        }
        let record = repository_key(repository);
        if !self.claim(record.clone()).await? {
            return Ok(Deletion::Missing);
        }
        let images = self.contents(repository).await?.images;
        if !images.is_empty() && !with_images {
            // One was published since the first look.
            self.transact(vec![self.remove(record, "deleting", "attribute_exists(deleting)")]).await?;
            return Ok(Deletion::HasImages(images.len()));
        }
        for image in images {
            self.claim(keys::image(repository, &image.digest)).await?;
            self.condemn(repository, &[image.digest]).await?;
        }
        // Nobody can add to the repository any more: this is all of it.
        let contents = self.contents(repository).await?;
        for layer in &contents.layers {
            let pk = layer_partition(repository, layer);
            let mut records = Vec::new();
            for item in self.partition(pk.clone()).await? {
                records.push((pk.clone(), string(&item, "sk")?.to_owned()));
            }
            self.delete_records(records).await?;
        }
        let layers = contents.layers.iter().map(|layer| keys::layer_listing(repository, layer));
        let tags = contents.tags.keys().map(|tag| keys::tag(repository, tag));
        let images = contents.images.iter().map(|image| keys::image(repository, &image.digest));
        self.delete_records(layers.chain(tags).chain(images).collect()).await?;
        self.delete_records(vec![keys::repository_listing(repository), record]).await?;
        Ok(Deletion::Done)
    }

    /// `false` if there is no such record.
    async fn claim(&self, record: Key) -> Result<bool, Error> {
        let claim = self.set(record, "deleting", AttributeValue::Bool(true), "attribute_exists(pk)");
        Ok(self.transact(vec![claim]).await? == Outcome::Written)
    }

    async fn delete_records(&self, records: Vec<Key>) -> Result<(), Error> {
        for records in records.chunks(LARGEST_TRANSACTION) {
            let items = records.iter().map(|key| self.delete(key.clone())).collect();
            self.transact(items).await?;
        }
        Ok(())
    }
}

/// What deleting an image comes to, as things are.
fn deletion_of(image: &ImageRecord, contents: &Contents, by_tag: Option<&ImageTag>) -> ImageDeletion {
    if !image.is_condemned() {
        if by_tag.is_some_and(|tag| contents.tags_of(&image.digest).any(|other| other != tag.as_ref())) {
            return ImageDeletion::Untagged;
        }
        if let Some(index) = contents.images.iter().find(|index| index.images.contains(&image.digest)) {
            return ImageDeletion::PartOf(index.digest.clone());
        }
    }
    ImageDeletion::Done(goes_with(image, contents))
}

/// An image, and if it is an index all the images below it.
fn family<'a>(image: &'a ImageRecord, contents: &'a Contents) -> Vec<&'a ImageRecord> {
    let mut family = vec![image];
    let mut next = 0;
    while let Some(index) = family.get(next) {
        for child in index.images.iter().filter_map(|child| contents.image(child)) {
            if !family.iter().any(|known| known.digest == child.digest) {
                family.push(child);
            }
        }
        next += 1;
    }
    family
}

/// Whether a tag has the image, or an index that nobody is deleting.
fn is_named(image: &ImageRecord, contents: &Contents) -> bool {
    let indexes = contents.images.iter().filter(|index| !index.deleting);
    contents.tags_of(&image.digest).next().is_some()
        || indexes.into_iter().any(|index| index.images.contains(&image.digest))
}

/// The image, and if it is an index those of its images that go with it: no tag has them, and no other index; or
/// they are condemned. An index comes before its images.
fn goes_with(image: &ImageRecord, contents: &Contents) -> Vec<Digest> {
    let mut going = vec![image.digest.clone()];
    let mut next = 0;
    while let Some(index) = going.get(next).and_then(|digest| contents.image(digest)) {
        for child in index.images.iter().filter_map(|child| contents.image(child)) {
            let in_other_index = contents
                .images
                .iter()
                .any(|other| other.images.contains(&child.digest) && !going.contains(&other.digest));
            let is_named = contents.tags_of(&child.digest).next().is_some() || in_other_index;
            if (child.is_condemned() || !is_named) && !going.contains(&child.digest) {
                going.push(child.digest.clone());
            }
        }
        next += 1;
    }
    going
}
