//! Reading what a registry and a repository hold, for the tool.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Item, LayerIndex, RepositoryRecord, broken, deletion_mark, fault, keys, no_answer, number,
    repository_key, repository_partition, repository_record, string,
};
use crate::error::Error;
use crate::types::{Digest, ImageTag, RegistryId, Repository, RepositoryName};

/// All that a repository holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The repository's own record, if it exists.
    pub record: Option<RepositoryRecord>,
    /// Its count of changes, which grows when an image or a tag comes or goes. All that it counts is in here, and
    /// perhaps more.
    pub(super) changes: u64,
    /// Its images, unfinished ones too.
    pub images: Vec<ImageRecord>,
    /// Which image each tag names.
    pub tags: BTreeMap<String, Digest>,
    /// Its layers, whether an image references them or not.
    pub layers: Vec<Digest>,
}

/// An image's record.
#[derive(Debug)]
pub struct ImageRecord {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// How many bytes the manifest has.
    pub size: u64,
    /// When it was published, in seconds since 1970; `None` if its publishing or deleting has not ended.
    pub pushed_at: Option<u64>,
    /// The mark of its deletion, if it is being deleted.
    pub deleting: Option<u64>,
    /// Its layers.
    pub layers: Vec<Digest>,
    /// The images of an index.
    pub images: Vec<Digest>,
}

impl Contents {
    /// The image that a tag names.
    pub fn tagged(&self, tag: &ImageTag) -> Option<&Digest> {
        self.tags.get(tag.as_ref())
    }

    /// The tags of an image.
    pub fn tags_of<'a>(&'a self, image: &'a Digest) -> impl Iterator<Item = &'a str> {
        self.tags.iter().filter(move |(_, digest)| *digest == image).map(|(tag, _)| tag.as_str())
    }

    /// The record of an image.
    pub fn image(&self, digest: &Digest) -> Option<&ImageRecord> {
        self.images.iter().find(|image| image.digest == *digest)
    }
}

impl LayerIndex {
    /// The names of a registry's repositories, in order.
    pub async fn repositories(&self, registry: &RegistryId) -> Result<Vec<Repository>, Error> {
        let items = self.partition(keys::registry_partition(registry)).await?;
        let names = items.iter().filter_map(|item| string(item, "sk").ok()?.strip_prefix("repository#"));
        let repository = |name: &str| {
            let name = RepositoryName::parse(name).map_err(|_| broken("sk"))?;
            Ok(Repository { registry: registry.clone(), name })
        };
        names.map(repository).collect()
    }

    /// All that a repository holds; without a record if there is no such repository.
    pub async fn contents(&self, repository: &Repository) -> Result<Contents, Error> {
        let mut contents = Contents::default();
        if let Some(item) = self.record(repository_key(repository)).await? {
            contents.changes = number(&item, "changes")?;
            contents.record = Some(repository_record(&item)?);
        }
        for item in self.partition(repository_partition(repository)).await? {
            match string(&item, "sk")?.split_once('#') {
                None => {} // the repository's own, read before
                Some(("image", digest)) => contents.images.push(image_record(&item, digest)?),
                Some(("tag", tag)) => {
                    contents.tags.insert(tag.to_owned(), digest(string(&item, "image_digest")?)?);
                }
                Some(("layer", layer)) => contents.layers.push(digest(layer)?),
                Some(_) => return Err(broken("sk")),
            }
        }
        Ok(contents)
    }

    /// All records of one partition, as fresh as can be.
    pub(super) async fn partition(&self, pk: String) -> Result<Vec<Item>, Error> {
        let pages = self
            .client
            .query()
            .table_name(&self.table_name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk))
            .consistent_read(true)
            .into_paginator()
            .send();
        let pages: Vec<_> = pages.collect::<Result<_, _>>().await.map_err(fault)?;
        let items: Option<Vec<_>> = pages.into_iter().map(|page| page.items).collect();
        Ok(items.ok_or_else(no_answer)?.into_iter().flatten().collect())
    }
}

fn image_record(item: &Item, image: &str) -> Result<ImageRecord, Error> {
    let deleting = deletion_mark(item)?;
    let published = item.contains_key("pushed_at") && deleting.is_none();
    Ok(ImageRecord {
        digest: digest(image)?,
        media_type: string(item, "media_type")?.to_owned(),
        size: number(item, "size")?,
        pushed_at: published.then(|| number(item, "pushed_at")).transpose()?,
        deleting,
        layers: digests(item, "layers")?,
        images: digests(item, "images")?,
    })
}

fn digest(value: &str) -> Result<Digest, Error> {
    Digest::parse(value).map_err(|_| broken("sk"))
}

fn digests(item: &Item, name: &'static str) -> Result<Vec<Digest>, Error> {
    let values = item.get(name).and_then(|value| value.as_l().ok()).ok_or_else(|| broken(name))?;
    let parse = |value: &AttributeValue| {
        value.as_s().ok().and_then(|value| Digest::parse(value).ok()).ok_or_else(|| broken(name))
    };
    values.iter().map(parse).collect()
}
