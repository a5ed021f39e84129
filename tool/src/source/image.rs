//! What an image consists of, by the manifests of a place where content has its digest as its name.
//!
//! Source: [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/manifest.md).

use std::fmt::Debug;
use std::io::{self, Read};

use layergate::catalog::LayerRecord;
use layergate::publish::Verifier;
use layergate::types::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use super::{Blob, SourceImage, start};
use crate::error::Error;

/// How deep indexes may be nested. Real ones are not nested at all.
pub const DEEPEST_INDEX: usize = 4;

const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// The media types of indexes.
pub const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// A place where manifests and blobs are.
pub trait Contents: Debug + Send + Sync {
    /// Its name, for error sentences.
    fn name(&self) -> &str;

    /// The manifest with a digest, not verified; `None` if it is missing.
    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error>;

    /// The size of the blob that a manifest describes; `None` if it is missing.
    fn blob_size(&self, blob: &Blob) -> Result<Option<u64>, Error>;

    /// Opens a blob to be read.
    fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>>;
}

/// Adds an image, after all the images below it.
pub fn collect(
    contents: &dyn Contents,
    descriptor: &Descriptor,
    depth: usize,
    images: &mut Vec<SourceImage>,
) -> Result<(), Error> {
    let (digest, _) = own_digest(contents.name(), descriptor)?;
    if images.iter().any(|image| image.digest == digest) {
        return Ok(());
    }
    let bytes = manifest(contents, descriptor)?;
    let mut image = SourceImage {
        digest,
        media_type: descriptor.media_type().to_string(),
        manifest: Vec::new(),
        blobs: Vec::new(),
        absent_layers: Vec::new(),
        images: Vec::new(),
    };
    if MANIFESTS.contains(&image.media_type.as_str()) {
        let parsed: ImageManifest = parse(contents.name(), descriptor.digest().as_ref(), &bytes)?;
        check_media_type(contents, descriptor, parsed.media_type().as_ref().map(AsRef::as_ref))?;
        for blob in std::iter::once(parsed.config()).chain(parsed.layers()) {
            add_blob(contents, blob, &mut image)?;
        }
    } else if INDEXES.contains(&image.media_type.as_str()) {
        let parsed: ImageIndex = parse(contents.name(), descriptor.digest().as_ref(), &bytes)?;
        check_media_type(contents, descriptor, parsed.media_type().as_ref().map(AsRef::as_ref))?;
        if depth == DEEPEST_INDEX {
            return Err(Error::Source(format!(
                "the indexes in {} are nested more than {DEEPEST_INDEX} deep",
                contents.name()
            )));
        }
        for child in parsed.manifests() {
            let (child_digest, _) = own_digest(contents.name(), child)?;
            if !image.images.contains(&child_digest) {
                image.images.push(child_digest);
            }
            collect(contents, child, depth + 1, images)?;
        }
    } else {
        return Err(Error::Source(format!(
            "the manifest {} in {} has the media type '{}', which is neither an image's nor an index's",
            descriptor.digest(),
            contents.name(),
            image.media_type
        )));
    }
    image.manifest = bytes;
    images.push(image);
    Ok(())
}

/// Reads and verifies a manifest.
pub fn manifest(contents: &dyn Contents, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let (digest, mut verifier) = own_digest(contents.name(), descriptor)?;
    let Some(bytes) = contents.manifest(&digest)? else {
        return Err(Error::Source(format!(
            "{} lacks the manifest {digest}{}, which its index names; get it whole, or publish one of its images \
             with --image DIGEST",
            contents.name(),
            match descriptor.platform() {
                Some(platform) => format!(" ({}/{})", platform.os(), platform.architecture()),
                None => String::new(),
            }
        )));
    };
    verifier.update(&bytes);
    if bytes.len() as u64 != descriptor.size() || !verifier.matches() {
        return Err(Error::Source(format!(
            "the manifest {digest} in {} is corrupt: its bytes do not have that digest and size; get the image \
             again",
            contents.name()
        )));
    }
    Ok(bytes)
}

fn add_blob(contents: &dyn Contents, descriptor: &Descriptor, image: &mut SourceImage) -> Result<(), Error> {
    let (digest, _) = own_digest(contents.name(), descriptor)?;
    let (size, media_type) = (descriptor.size(), descriptor.media_type().to_string());
    let file = blob_file(&digest);
    let blob = Blob { record: LayerRecord { digest, size, media_type }, file };
    let digest = &blob.record.digest;
    match contents.blob_size(&blob)? {
        None if is_foreign(&blob.record.media_type) => {
            if !image.absent_layers.contains(digest) {
                image.absent_layers.push(digest.clone());
            }
        }
        None => {
            return Err(Error::Source(format!(
                "{} lacks the blob {digest}, which its manifest names; get the image again",
                contents.name()
            )));
        }
        Some(found) if found != size => {
            return Err(Error::Source(format!(
                "the blob {digest} in {} has {found} bytes, and its manifest says {size}; get the image again",
                contents.name(),
            )));
        }
        Some(_) => {
            if !image.blobs.iter().any(|known| known.record.digest == *digest) {
                image.blobs.push(blob);
            }
        }
    }
    Ok(())
}

/// Whether a layer may not be redistributed: it need not be there, and pullers download it elsewhere.
pub fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// The file that a digest's content is in an OCI image layout.
pub fn blob_file(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Refuses a manifest whose own media type differs from its descriptor's: readers would not agree on what it is.
fn check_media_type(
    contents: &dyn Contents,
    descriptor: &Descriptor,
    own: Option<&str>,
) -> Result<(), Error> {
    match own {
        Some(own) if own != descriptor.media_type().as_ref() => Err(Error::Source(format!(
            "the manifest {} in {} says that it is '{own}', and what names it says '{}'",
            descriptor.digest(),
            contents.name(),
            descriptor.media_type()
        ))),
        _ => Ok(()),
    }
}

/// A descriptor's digest. One that no bytes can have is refused, also where the bytes are not needed.
fn own_digest(source: &str, descriptor: &Descriptor) -> Result<(Digest, Verifier), Error> {
    let value = descriptor.digest().as_ref();
    let digest = Digest::parse(value).ok();
    digest.and_then(|digest| Verifier::of(&digest).map(|verifier| (digest, verifier))).ok_or_else(|| {
        Error::Source(format!(
            "the digest '{}' in {source} cannot be verified; it must be a sha256 or sha512 digest",
            start(value)
        ))
    })
}

/// Parses what is named `what`.
pub fn parse<T: DeserializeOwned>(source: &str, what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| unusable(source, what, &error))
}

/// The refusal of what is no JSON, or no JSON of the right kind.
pub fn unusable(source: &str, what: &str, error: &serde_json::Error) -> Error {
    Error::Source(format!("{what} in {source} cannot be used: {}", start(error)))
}
