//! Deleting from the index, in the opposite order of publishing: first what is deleted is marked, so that
//! nothing is added to it any more, then what belongs to it goes, then its own record. Every stop between two
//! steps is safe, and deleting it again completes it.

use aws_sdk_dynamodb::types::AttributeValue;

use super::transaction::{LARGEST_TRANSACTION, Outcome};
use super::{Key, LayerIndex, keys, layer_partition, repository_key, string};
use crate::error::Error;
use crate::types::{Digest, ImageTag, Repository};

impl LayerIndex {
    /// Deletes an image with its tags. Its layers are inaccessible from then on, but for those that another
    /// image references. `false` if there is no such image.
    pub async fn delete_image(&self, repository: &Repository, image: &Digest) -> Result<bool, Error> {
        let record = keys::image(repository, image);
        if !self.mark_deleting(record.clone()).await? {
            return Ok(false);
        }
        let contents = self.contents(repository).await?;
        let mut records: Vec<_> = contents.tags_of(image).map(|tag| keys::tag(repository, tag)).collect();
        let layers = contents.image(image).map(|image| image.layers.as_slice()).unwrap_or_default();
        records.extend(layers.iter().map(|layer| keys::reference(repository, layer, image)));
        self.delete_records(records).await?;
        self.delete_records(vec![record]).await?;
        Ok(true)
    }

    /// Takes a tag off its image.
    pub async fn delete_tag(&self, repository: &Repository, tag: &ImageTag) -> Result<(), Error> {
        self.delete_records(vec![keys::tag(repository, tag.as_ref())]).await
    }

    /// Deletes a repository with all that it holds. `false` if there is no such repository.
    pub async fn delete_repository(&self, repository: &Repository) -> Result<bool, Error> {
        let record = repository_key(repository);
        if !self.mark_deleting(record.clone()).await? {
            return Ok(false);
        }
        for image in self.contents(repository).await?.images {
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
        Ok(true)
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
