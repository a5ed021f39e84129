//! Fetches an image: its manifest. The layers, and the images of an index, are fetched when a
//! client requests them.

use layergate_core::catalog::{Consistency, Fill, FillFailure, NewImage};
use layergate_core::publish::Uploads;
use layergate_core::types::{Digest, ImageId, Repository};
use layergate_upstream as upstream;
use layergate_upstream::manifest::{self, Content};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::Worker;
use crate::source::Source;

impl Worker {
    /// Fetches an image that is missing or whose tag is to be looked up again, and sets the tag.
    /// Returns how many bytes were stored.
    pub(super) async fn image(
        &self,
        fill: &Fill,
        repository: &Repository,
        id: &ImageId,
    ) -> Result<u64, Failure> {
        let source = self.source(repository).await?;
        let found = self.find(repository, &source, id).await;
        self.pin_realm(&source).await?;
        let (digest, manifest) = found?;
        let bytes = match manifest {
            None => 0,
            Some(manifest) => self.import(repository, &source, manifest).await?,
        };
        match id {
            ImageId::Tag(tag) => {
                self.catalog.tag_from_upstream(fill, repository, &digest, tag).await?
            }
            ImageId::Digest(_) => self.catalog.end_fill(fill).await?,
        }
        Ok(bytes)
    }

    /// Looks up an image in the upstream. The manifest is only fetched if the image is not stored.
    async fn find(
        &self,
        repository: &Repository,
        source: &Source,
        id: &ImageId,
    ) -> Result<(Digest, Option<upstream::Manifest>), Failure> {
        let digest = match id {
            ImageId::Digest(digest) => digest.clone(),
            ImageId::Tag(tag) => source.upstream.digest_of(tag).await?,
        };
        let by_digest = ImageId::Digest(digest.clone());
        let is_here = self
            .catalog
            .published_image(repository, &by_digest, Consistency::Strong)
            .await?
            .is_some();
        let manifest = if is_here { None } else { Some(source.upstream.manifest(&digest).await?) };
        Ok((digest, manifest))
    }

    /// Publishes an image. Its layers stay in the upstream for now. Returns the manifest's size.
    async fn import(
        &self,
        repository: &Repository,
        source: &Source,
        manifest: upstream::Manifest,
    ) -> Result<u64, Failure> {
        let upstream::Manifest { digest, media_type, bytes } = manifest;
        let content = manifest::Manifest::parse(&bytes, &media_type)
            .map_err(|error| {
                Failure::new(FillFailure::WrongContent, format!("the manifest {error}"))
            })?
            .content;
        let size = bytes.len() as u64;
        let mut image = NewImage {
            digest,
            media_type,
            size,
            layers: Vec::new(),
            absent_layers: Vec::new(),
            images: Vec::new(),
            upstream: Some(source.name.clone()),
        };
        match content {
            Content::Index(images) => {
                image.images = images.into_iter().map(|image| image.descriptor.digest).collect()
            }
            Content::Image(blobs) => {
                for blob in blobs {
                    match blob.is_foreign {
                        true => image.absent_layers.push(blob.descriptor.digest),
                        false => image.layers.push(blob.descriptor),
                    }
                }
            }
        }
        if image.is_too_large() {
            return Err(Failure::new(
                FillFailure::TooLarge,
                "the image has more layers or images than a record can hold",
            ));
        }
        match self.catalog.repository(repository).await? {
            Some(record) if record.is_cache => {}
            Some(_) => {
                let cause = "a user created the repository, so no rule applies to it";
                return Err(Failure::new(FillFailure::NoRule, cause));
            }
            None => {
                self.catalog.create_cache(repository, &source.rule.accounts).await?;
            }
        }
        let stop = CancellationToken::new(); // never cancelled: a manifest is small
        let uploads = Uploads::new(self.store.clone(), repository.registry.clone(), stop);
        self.publishing(repository, image.digests(), async |publishing| {
            uploads.manifest(&image.digest, &image.media_type, bytes).await?;
            publishing.image(&image).await?;
            Ok(size)
        })
        .await
    }
}
