//! Deleting from the index, in the opposite order of publishing: first what is deleted is marked, so that
//! nothing is added to it any more, then what belongs to it goes, then its own record with the names it is found
//! by. Every stop between two steps is safe, and deleting it again completes it.

use aws_sdk_dynamodb::types::AttributeValue;

use super::contents::Contents;
use super::transaction::{LARGEST_TRANSACTION, Outcome};
use super::{Key, LayerIndex, keys, layer_partition, repository_key, string};
use crate::error::Error;
use crate::types::{Digest, ImageTag, Repository};

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
    /// Deletes images with their tags; an index comes before its images. Their layers are inaccessible from then
    /// on, but for those that another image references.
    pub async fn delete_images(&self, repository: &Repository, images: &[&Digest]) -> Result<(), Error> {
        for image in images {
            self.mark_deleting(keys::image(repository, image)).await?;
        }
        // Nobody can reference a layer by these images, or tag them, any more.
        let contents = self.contents(repository).await?;
        // The index last: by it the others are found if this is stopped.
        for image in images.iter().rev() {
            let layers = contents.image(image).map(|image| image.layers.as_slice()).unwrap_or_default();
            let references = layers.iter().map(|layer| keys::reference(repository, layer, image));
            self.delete_records(references.collect()).await?;
            self.delete_image_record(repository, image, &contents).await?;
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
        let mut tags: Vec<_> = contents.tags_of(image).map(str::to_owned).collect();
        while tags.len() >= LARGEST_TRANSACTION {
            if let Some(tag) = tags.pop() {
                self.transact(vec![self.delete_tag_of(repository, &tag, image)]).await?;
            }
        }
        loop {
            let mut items: Vec<_> =
                tags.iter().map(|tag| self.delete_tag_of(repository, tag, image)).collect();
            items.push(self.delete(keys::image(repository, image)));
            if self.transact(items).await? == Outcome::Written {
                return Ok(());
            }
            // Another image has got one of the tags meanwhile, and keeps it.
            let contents = self.contents(repository).await?;
            tags.retain(|tag| contents.tags.get(tag) == Some(image));
        }
    }

    /// Takes a tag off an image; leaves it alone if another image has got it meanwhile.
    pub async fn delete_tag(
        &self,
        repository: &Repository,
        tag: &ImageTag,
        image: &Digest,
    ) -> Result<(), Error> {
        self.transact(vec![self.delete_tag_of(repository, tag.as_ref(), image)]).await?;
        Ok(())
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
        if !self.mark_deleting(record.clone()).await? {
            return Ok(Deletion::Missing);
        }
        let images = self.contents(repository).await?.images;
        if !images.is_empty() && !with_images {
            // One was published since the first look.
            self.transact(vec![self.remove(record, "deleting")]).await?;
            return Ok(Deletion::HasImages(images.len()));
        }
        for image in images {
            self.mark_deleting(keys::image(repository, &image.digest)).await?;
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

    async fn mark_deleting(&self, record: Key) -> Result<bool, Error> {
        let mark = self.set(record, "deleting", AttributeValue::Bool(true), "attribute_exists(pk)");
        Ok(self.transact(vec![mark]).await? == Outcome::Written)
    }

    async fn delete_records(&self, records: Vec<Key>) -> Result<(), Error> {
        for records in records.chunks(LARGEST_TRANSACTION) {
            let items = records.iter().map(|key| self.delete(key.clone())).collect();
            self.transact(items).await?;
        }
        Ok(())
    }
}
