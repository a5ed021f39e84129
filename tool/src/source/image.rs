//! An image and all the images below it, by the manifests of a place where content has its digest
//! as its name.

use std::fmt::Debug;
use std::io::{self, Read};

use layergate_core::publish::has_digest;
use layergate_core::types::{Descriptor, Digest};
use layergate_upstream::manifest::{self, Content, IndexEntry, Manifest};

use super::{Blob, SourceImage};
use crate::error::Error;

/// How deep indexes may be nested. Real ones are not nested at all.
pub const DEEPEST_INDEX: usize = 4;

/// A place where manifests and blobs are.
pub trait Contents: Debug + Send + Sync {
    /// Its name, for error sentences.
    fn name(&self) -> &str;

    /// The manifest with a digest, not verified; `None` if it is missing.
    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error>;

    /// The size of the blob that a manifest names; `None` if it is missing.
    fn blob_size(&self, blob: &manifest::Blob) -> Result<Option<u64>, Error>;

    /// Opens a blob to be read.
    fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>>;
}

/// Adds an image, after all the images below it.
pub fn collect(
    contents: &dyn Contents,
    entry: &IndexEntry,
    depth: usize,
    images: &mut Vec<SourceImage>,
) -> Result<(), Error> {
    if images.iter().any(|image| image.digest == entry.descriptor.digest) {
        return Ok(());
    }
    let bytes = verified(contents, entry)?;
    let Manifest { media_type, content } = parse(contents, &entry.descriptor, &bytes)?;
    let mut image = SourceImage {
        digest: entry.descriptor.digest.clone(),
        media_type,
        manifest: bytes,
        blobs: Vec::new(),
        absent_layers: Vec::new(),
        images: Vec::new(),
    };
    match content {
        Content::Image(blobs) => {
            for blob in blobs {
                add_blob(contents, blob, &mut image)?;
            }
        }
        Content::Index(_) if depth == DEEPEST_INDEX => {
            return Err(Error::Source(format!(
                "the indexes in {} are nested more than {DEEPEST_INDEX} deep",
                contents.name()
            )));
        }
        Content::Index(children) => {
            for child in children {
                collect(contents, &child, depth + 1, images)?;
                image.images.push(child.descriptor.digest);
            }
        }
    }
    images.push(image);
    Ok(())
}

/// The images of an index.
pub fn images_of(contents: &dyn Contents, index: &IndexEntry) -> Result<Vec<IndexEntry>, Error> {
    match parse(contents, &index.descriptor, &verified(contents, index)?)?.content {
        Content::Index(images) => Ok(images),
        Content::Image(_) => Ok(Vec::new()),
    }
}

fn parse(
    contents: &dyn Contents,
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<Manifest, Error> {
    Manifest::parse(bytes, &descriptor.media_type).map_err(|error| {
        Error::Source(format!("the manifest {} in {} {error}", descriptor.digest, contents.name()))
    })
}

/// Reads and verifies a manifest.
fn verified(contents: &dyn Contents, entry: &IndexEntry) -> Result<Vec<u8>, Error> {
    let Descriptor { digest, size, .. } = &entry.descriptor;
    let Some(bytes) = contents.manifest(digest)? else {
        let platform = entry.platform.as_ref();
        return Err(Error::Source(format!(
            "{} lacks the manifest {digest}{}, which its index names; get it whole, or publish one of its images \
             with --image DIGEST",
            contents.name(),
            platform.map(|platform| format!(" ({platform})")).unwrap_or_default()
        )));
    };
    if bytes.len() as u64 != *size || !has_digest(&bytes, digest) {
        return Err(Error::Source(format!(
            "the manifest {digest} in {} is corrupt: its bytes do not have that digest and size; get the image \
             again",
            contents.name()
        )));
    }
    Ok(bytes)
}

fn add_blob(
    contents: &dyn Contents,
    blob: manifest::Blob,
    image: &mut SourceImage,
) -> Result<(), Error> {
    let size = contents.blob_size(&blob)?;
    let descriptor = blob.descriptor;
    match size {
        None if blob.is_foreign => image.absent_layers.push(descriptor.digest),
        None => {
            return Err(Error::Source(format!(
                "{} lacks the blob {}, which its manifest names; get the image again",
                contents.name(),
                descriptor.digest
            )));
        }
        Some(found) if found != descriptor.size => {
            return Err(Error::Source(format!(
                "the blob {} in {} has {found} bytes, and its manifest says {}; get the image again",
                descriptor.digest,
                contents.name(),
                descriptor.size
            )));
        }
        Some(_) => image.blobs.push(Blob { file: blob_file(&descriptor.digest), descriptor }),
    }
    Ok(())
}

/// The file that a digest's content is in an OCI image layout.
pub fn blob_file(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
