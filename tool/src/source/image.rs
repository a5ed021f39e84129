//! An image and all the images below it, by the manifests of a place where content has its digest
//! as its name.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{self, Read};

use layergate_core::publish::has_digest;
use layergate_core::types::{Descriptor, Digest};
use layergate_upstream::manifest::{self, Content, IndexEntry, Manifest, Platform};
use serde::Deserialize;

use super::choice::{Candidate, list, on_platform};
use super::{Blob, SourceImage, start};
use crate::error::Error;

/// How deep indexes may be nested. Real ones are not nested at all.
pub const DEEPEST_INDEX: usize = 4;

/// The most bytes that the manifests of one index may have together. They are all in memory.
const LARGEST_MANIFESTS: usize = 64 * 1024 * 1024;

/// The most bytes of an image's config that are read. Larger ones are no configs of docker's.
const LARGEST_CONFIG: u64 = 4 * 1024 * 1024;

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

/// What is read of an image's config: an empty one has none of it.
#[derive(Debug, Default, Deserialize)]
pub struct Config {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

impl Config {
    /// What the image runs on.
    pub fn platform(&self) -> Option<Platform> {
        let (os, architecture) = (self.os.clone()?, self.architecture.clone()?);
        Platform::new(os, architecture, self.variant.clone())
    }

    /// The digests of the layers, unpacked.
    pub fn diff_ids(&self) -> &[String] {
        let diff_ids = self.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.as_deref());
        diff_ids.unwrap_or_default()
    }
}

/// Why an image cannot be published.
enum Failure {
    /// Its manifest or one of its blobs is not there.
    Missing(String),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// The image that an entry names, after all the images below it.
pub fn collect(contents: &dyn Contents, entry: &IndexEntry) -> Result<Vec<SourceImage>, Error> {
    let mut images = Vec::new();
    match add_image(contents, entry, 0, &mut images) {
        Ok(()) => Ok(images),
        Err(Failure::Missing(what)) => Err(Error::Source(what)),
        Err(Failure::Other(error)) => Err(error),
    }
}

fn add_image(
    contents: &dyn Contents,
    entry: &IndexEntry,
    depth: usize,
    images: &mut Vec<SourceImage>,
) -> Result<(), Failure> {
    if images.iter().any(|image| image.digest == entry.descriptor.digest) {
        return Ok(());
    }
    let bytes = verified(contents, entry)?;
    let all = images.iter().map(|image| image.manifest.len()).sum::<usize>() + bytes.len();
    if all > LARGEST_MANIFESTS {
        return Err(Failure::Other(Error::Source(format!(
            "the manifests of the image in {} have more than {LARGEST_MANIFESTS} bytes together; publish its images \
             one by one, by their digests",
            contents.name()
        ))));
    }
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
            return Err(Failure::Other(too_deep(contents)));
        }
        Content::Index(children) => {
            let (mut here, mut lacking) = (Vec::new(), Vec::new());
            for child in children {
                match add_image(contents, &child, depth + 1, images) {
                    Ok(()) => here.push(child.clone()),
                    Err(Failure::Missing(_)) if depth == 0 => lacking.push(child.clone()),
                    Err(failure) => return Err(failure),
                }
                image.images.push(child.descriptor.digest);
            }
            if !lacking.is_empty() {
                return Err(incomplete(contents, entry, &here, &lacking));
            }
        }
    }
    images.push(image);
    Ok(())
}

/// The failure of an index of which some images are not there, or all.
fn incomplete(
    contents: &dyn Contents,
    index: &IndexEntry,
    here: &[IndexEntry],
    lacking: &[IndexEntry],
) -> Failure {
    let (name, digest, lacks) =
        (contents.name(), &index.descriptor.digest, list(lacking.iter().map(label)));
    let Some(first) = here.first() else {
        return Failure::Missing(format!(
            "{name} has the index {digest} and none of its images ({lacks}); get it whole"
        ));
    };
    // What is not for a platform, such as an attestation, helps nobody alone.
    let mut platforms = here.iter().filter_map(|image| image.platform.as_ref());
    let choice = match platforms.find(|platform| platform.os != "unknown") {
        Some(platform) => format!("--platform {platform}"),
        None => format!("--image {}", first.descriptor.digest),
    };
    Failure::Other(Error::Source(format!(
        "{name} has only some images of the index {digest}: it has {}, and lacks {lacks}; get it whole, or publish \
         one image, with {choice}",
        list(here.iter().map(label))
    )))
}

fn label(image: &IndexEntry) -> String {
    match &image.platform {
        Some(platform) => platform.to_string(),
        None => image.descriptor.digest.to_string(),
    }
}

/// The only image for a platform, of these and those below them.
pub fn for_platform(
    contents: &dyn Contents,
    entries: Vec<IndexEntry>,
    wanted: &Platform,
) -> Result<IndexEntry, Error> {
    let (mut images, mut seen) = (Vec::new(), HashSet::new());
    let mut level = entries;
    for depth in 0.. {
        let mut below = Vec::new();
        for entry in level {
            if !seen.insert(entry.descriptor.digest.canonical()) {
                continue;
            }
            if manifest::is_index(&entry.descriptor.media_type) {
                below.extend(images_of(contents, &entry)?);
                continue;
            }
            let platform = match &entry.platform {
                Some(platform) => Some(platform.clone()),
                None => config(contents, &entry)?.and_then(|config| config.platform()),
            };
            let digest = entry.descriptor.digest.to_string();
            images.push(Candidate { names: Vec::new(), digest, platform, image: entry });
        }
        if below.is_empty() {
            break;
        }
        if depth == DEEPEST_INDEX {
            return Err(too_deep(contents));
        }
        level = below;
    }
    on_platform(contents.name(), &images.iter().collect::<Vec<_>>(), wanted).cloned()
}

/// The images of an index.
pub fn images_of(contents: &dyn Contents, index: &IndexEntry) -> Result<Vec<IndexEntry>, Error> {
    let bytes = verified(contents, index).map_err(|failure| match failure {
        Failure::Missing(what) => Error::Source(what),
        Failure::Other(error) => error,
    })?;
    match parse(contents, &index.descriptor, &bytes)?.content {
        Content::Index(images) => Ok(images),
        Content::Image(_) => Ok(Vec::new()),
    }
}

/// An image's config; `None` if it is missing, or not one of an image that runs.
fn config(contents: &dyn Contents, entry: &IndexEntry) -> Result<Option<Config>, Error> {
    let Ok(bytes) = verified(contents, entry) else { return Ok(None) };
    let Content::Image(blobs) = parse(contents, &entry.descriptor, &bytes)?.content else {
        return Ok(None);
    };
    let Some(config) = blobs.into_iter().next() else { return Ok(None) };
    if contents.blob_size(&config)?.is_none() {
        return Ok(None);
    }
    Ok(read_config(contents, config.descriptor))
}

/// Reads a config; `None` if it cannot be read, or is not one of an image that runs. Publishing it
/// then says what is wrong.
pub fn read_config(contents: &dyn Contents, descriptor: Descriptor) -> Option<Config> {
    let digest = descriptor.digest.clone();
    let blob = Blob { file: blob_file(&digest), descriptor };
    let mut bytes = Vec::new();
    contents.open_blob(&blob).ok()?.take(LARGEST_CONFIG).read_to_end(&mut bytes).ok()?;
    has_digest(&bytes, &digest).then(|| serde_json::from_slice(&bytes).ok())?
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
fn verified(contents: &dyn Contents, entry: &IndexEntry) -> Result<Vec<u8>, Failure> {
    let Descriptor { digest, size, .. } = &entry.descriptor;
    let Some(bytes) = contents.manifest(digest)? else {
        let platform = entry.platform.as_ref();
        return Err(Failure::Missing(format!(
            "{} lacks the manifest {digest}{}, which its index names; get it whole",
            contents.name(),
            platform.map(|platform| format!(" ({})", start(platform))).unwrap_or_default()
        )));
    };
    if bytes.len() as u64 != *size || !has_digest(&bytes, digest) {
        return Err(Failure::Other(Error::Source(format!(
            "the manifest {digest} in {} is corrupt: its bytes do not have that digest and size; get the image \
             again",
            contents.name()
        ))));
    }
    Ok(bytes)
}

fn add_blob(
    contents: &dyn Contents,
    blob: manifest::Blob,
    image: &mut SourceImage,
) -> Result<(), Failure> {
    let size = contents.blob_size(&blob)?;
    let descriptor = blob.descriptor;
    match size {
        None if blob.is_foreign => image.absent_layers.push(descriptor.digest),
        None => {
            return Err(Failure::Missing(format!(
                "{} lacks the blob {}, which its manifest names; get the image again",
                contents.name(),
                descriptor.digest
            )));
        }
        Some(found) if found != descriptor.size => {
            return Err(Failure::Other(Error::Source(format!(
                "the blob {} in {} has {found} bytes, and its manifest says {}; get the image again",
                descriptor.digest,
                contents.name(),
                descriptor.size
            ))));
        }
        Some(_) => image.blobs.push(Blob { file: blob_file(&descriptor.digest), descriptor }),
    }
    Ok(())
}

fn too_deep(contents: &dyn Contents) -> Error {
    Error::Source(format!(
        "the indexes in {} are nested more than {DEEPEST_INDEX} deep",
        contents.name()
    ))
}

/// The file that a digest's content is in an OCI image layout.
pub fn blob_file(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
