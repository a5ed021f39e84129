//! Sections "Pushing manifests" and "Deleting manifests" of the specification.

use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Request, StatusCode};
use layergate_core::catalog::{Consistency, ImageDeletion, NewImage};
use layergate_core::publish::{self, Publishing, has_digest};
use layergate_core::types::{Digest, ImageId, ImageTag, Repository};
use layergate_upstream::manifest::{Blob, Content, Manifest};
use tokio_util::sync::CancellationToken;

use crate::error::{digest_header, empty, header_value};
use crate::{Error, Pusher};

/// The largest manifest: what clients and other registries take.
/// Source: the specification's section "Pushing manifests".
const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;

/// How many of a manifest's parts are looked for at once.
const PARTS_AT_ONCE: usize = 16;

impl Pusher {
    /// `PUT /v2/<name>/manifests/<reference>`: publishes an image whose parts are there.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        request: Request<Body>,
    ) -> Result<Response, Error> {
        let started = Instant::now();
        let mut tags = Vec::new();
        let digest = match reference.contains(':') {
            true => Some(Digest::parse(reference).map_err(Error::DigestInvalid)?),
            false => {
                tags.push(ImageTag::parse(reference).map_err(Error::TagInvalid)?);
                None
            }
        };
        if digest.is_some() {
            let query = request.uri().query().unwrap_or_default().as_bytes();
            for (_, tag) in form_urlencoded::parse(query).filter(|(key, _)| key == "tag") {
                tags.push(ImageTag::parse(&tag).map_err(Error::TagInvalid)?);
            }
        }
        let repository = self.writable(name).await?;
        let media_type = media_type(&request);
        let bytes = read(request).await?;
        let digest = match digest {
            Some(digest) if !has_digest(&bytes, &digest) => return Err(Error::WrongDigest),
            Some(digest) => digest,
            None => Digest::of_bytes(&bytes),
        };
        let manifest =
            Manifest::parse(&bytes, &media_type.unwrap_or_else(|| own_media_type(&bytes)))?;
        let size = bytes.len();
        self.publish(&repository, &digest, manifest, bytes, &tags).await?;
        tracing::info!(
            repository = repository.name.as_ref(),
            digest = digest.canonical(),
            tag = tags.first().map(AsRef::as_ref),
            bytes = size,
            seconds = started.elapsed().as_secs_f64(),
            "published an image"
        );
        let mut response = empty(StatusCode::CREATED);
        let location = format!("/v2/{}/manifests/{}", repository.name, digest.canonical());
        response.headers_mut().insert(LOCATION, header_value(&location)?);
        digest_header(&mut response, &digest)?;
        if reference.contains(':') {
            for tag in &tags {
                response.headers_mut().append("oci-tag", header_value(tag.as_ref())?);
            }
        }
        Ok(response)
    }

    async fn publish(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: Manifest,
        bytes: Vec<u8>,
        tags: &[ImageTag],
    ) -> Result<(), Error> {
        let mut image = NewImage {
            digest: digest.clone(),
            media_type: manifest.media_type,
            size: bytes.len() as u64,
            layers: Vec::new(),
            absent_layers: Vec::new(),
            images: Vec::new(),
            upstream: None,
        };
        let blobs = match manifest.content {
            Content::Image(blobs) => blobs,
            Content::Index(images) => {
                image.images = images.into_iter().map(|image| image.descriptor.digest).collect();
                Vec::new()
            }
        };
        // What may be there is announced before anybody looks whether it is.
        let digests = blobs.iter().map(|blob| &blob.descriptor.digest).chain([digest]).cloned();
        let publishing = Publishing::announce(&self.catalog, repository, digests).await?;
        let unpublished = |error| Error::unpublished(repository, error);
        let published = async {
            publishing.wait_for_cleaners().await.map_err(unpublished)?;
            self.look_for_blobs(blobs, &mut image).await?;
            self.look_for_images(repository, &image.images).await?;
            if image.is_too_large() {
                return Err(Error::TooManyParts);
            }
            let uploads = publish::Uploads::new(
                self.store.clone(),
                self.registry.clone(),
                CancellationToken::new(),
            );
            uploads.manifest(digest, &image.media_type, bytes).await?;
            publishing.image(&image).await.map_err(unpublished)?;
            for tag in tags {
                publishing.tag(digest, tag).await.map_err(unpublished)?;
            }
            Ok(())
        };
        let published = published.await;
        if let Err(fault) = publishing.end(matches!(published, Err(Error::Server(_)))).await {
            let cause = fault.with_causes();
            tracing::warn!(cause, "a cleaner will leave alone for a day what was pushed");
        }
        published
    }

    /// Adds the blobs of an image that the store has. Foreign layers need not be there.
    async fn look_for_blobs(&self, blobs: Vec<Blob>, image: &mut NewImage) -> Result<(), Error> {
        let found = blobs.into_iter().map(|blob| async move {
            let size = self.size_of(&blob.descriptor.digest).await?;
            Ok::<_, Error>((blob, size))
        });
        let mut found = stream::iter(found).buffered(PARTS_AT_ONCE);
        while let Some((Blob { descriptor, is_foreign }, size)) = found.try_next().await? {
            match size {
                None if is_foreign => image.absent_layers.push(descriptor.digest),
                None => return Err(Error::BlobUnknown(descriptor.digest)),
                Some(size) if size != descriptor.size => {
                    let (digest, named) = (descriptor.digest, descriptor.size);
                    return Err(Error::BlobSize { digest, found: size, named });
                }
                Some(_) => image.layers.push(descriptor),
            }
        }
        Ok(())
    }

    /// Refuses an index of which the repository lacks an image.
    async fn look_for_images(
        &self,
        repository: &Repository,
        images: &[Digest],
    ) -> Result<(), Error> {
        let found = images.iter().cloned().map(|digest| async move {
            let id = ImageId::Digest(digest.clone());
            let image = self.catalog.published_image(repository, &id, Consistency::Strong).await?;
            image.map(|_| ()).ok_or(Error::ImageUnknown(digest))
        });
        stream::iter(found).buffered(PARTS_AT_ONCE).try_collect().await
    }

    /// `DELETE /v2/<name>/manifests/<reference>`: deletes the image with a digest, or only a tag.
    pub(crate) async fn delete_manifest(
        &self,
        name: &str,
        reference: &str,
    ) -> Result<Response, Error> {
        let repository = self.repository(name)?;
        let deleted = if reference.contains(':') {
            let digest = Digest::parse(reference).map_err(Error::DigestInvalid)?;
            self.catalog.delete_image(&repository, &ImageId::Digest(digest)).await?
        } else {
            let tag = ImageTag::parse(reference).map_err(Error::TagInvalid)?;
            self.catalog.delete_tag(&repository, &tag).await?
        };
        match deleted {
            ImageDeletion::Deleted(_) | ImageDeletion::Untagged(_) => {
                tracing::info!(repository = repository.name.as_ref(), reference, "deleted");
                Ok(empty(StatusCode::ACCEPTED))
            }
            ImageDeletion::NoImage => Err(Error::ManifestUnknown(repository)),
            ImageDeletion::NoRepository => Err(Error::NameUnknown(repository)),
            ImageDeletion::PartOf { index, .. } => Err(Error::PartOfIndex(index)),
        }
    }
}

async fn read(request: Request<Body>) -> Result<Vec<u8>, Error> {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > LARGEST_MANIFEST) {
        return Err(Error::ManifestTooLarge(LARGEST_MANIFEST));
    }
    match to_bytes(request.into_body(), LARGEST_MANIFEST).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) if length.is_none() => Err(Error::ManifestTooLarge(LARGEST_MANIFEST)),
        Err(_) => Err(Error::BrokenOff),
    }
}

fn media_type(request: &Request<Body>) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_owned())
}

/// The media type that a manifest says it has.
fn own_media_type(bytes: &[u8]) -> String {
    let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    manifest["mediaType"].as_str().unwrap_or_default().to_owned()
}
