//! OCI image layouts, as directories and in archives.
//!
//! Source: [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).

use layergate::catalog::LayerRecord;
use layergate::publish::Verifier;
use layergate::types::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::files::Files;
use super::{Blob, SourceImage, digest, start};
use crate::error::Error;

/// How deep indexes may be nested. Real ones are not nested at all.
const DEEPEST_INDEX: usize = 4;

/// The annotations by which tools name the images of a layout; the second is containerd's and docker save's.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// The image that `choice` names, or the only one; with all the images below it.
pub fn images(files: &Files, choice: Option<&str>) -> Result<Vec<SourceImage>, Error> {
    let mut index: Value = parse(files, "index.json", &required(files, "index.json")?)?;
    if index["manifests"].is_null() {
        index["manifests"] = json!([]); // umoci's word for none
    }
    let index =
        serde_json::from_value::<ImageIndex>(index).map_err(|error| unusable(files, "index.json", &error))?;
    let chosen = choose(files, index.manifests(), choice)?;
    let mut images = Vec::new();
    collect(files, &chosen, 0, &mut images)?;
    Ok(images)
}

fn choose(files: &Files, roots: &[Descriptor], choice: Option<&str>) -> Result<Descriptor, Error> {
    let Some(choice) = choice else {
        // Several tags of one image are several descriptors of it.
        let Some(first) = roots.first() else {
            return Err(Error::Source(format!("{} holds no image: its index.json is empty", files.name())));
        };
        if roots.iter().all(|root| root.digest() == first.digest()) {
            return Ok(first.clone());
        }
        return Err(Error::Source(format!(
            "{} holds more than one image; choose one with --image: {}",
            files.name(),
            start(roots.iter().map(label).collect::<Vec<_>>().join(", "))
        )));
    };
    if let Some(named) = roots.iter().find(|root| names(root).any(|name| name == choice)) {
        return Ok(named.clone());
    }
    if let Some(found) = find(files, roots, choice, 0, &mut Vec::new())? {
        return Ok(found);
    }
    Err(Error::Source(format!(
        "{} holds no image '{choice}'; it has {}",
        files.name(),
        start(roots.iter().map(label).collect::<Vec<_>>().join(", "))
    )))
}

/// Looks for a digest, in the indexes too.
fn find(
    files: &Files,
    descriptors: &[Descriptor],
    digest: &str,
    depth: usize,
    seen: &mut Vec<oci_spec::image::Digest>,
) -> Result<Option<Descriptor>, Error> {
    for descriptor in descriptors {
        if descriptor.digest().as_ref() == digest {
            return Ok(Some(descriptor.clone()));
        }
        let is_index = INDEXES.contains(&descriptor.media_type().as_ref());
        if is_index && depth < DEEPEST_INDEX && !seen.contains(descriptor.digest()) {
            seen.push(descriptor.digest().clone());
            let bytes = manifest(files, descriptor)?;
            let index: ImageIndex = parse(files, descriptor.digest().as_ref(), &bytes)?;
            if let Some(found) = find(files, index.manifests(), digest, depth + 1, seen)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    NAMES.iter().filter_map(move |name| annotations?.get(*name)).map(String::as_str)
}

fn label(descriptor: &Descriptor) -> String {
    names(descriptor).next().unwrap_or(descriptor.digest().as_ref()).to_owned()
}

/// Adds an image, after all the images below it.
fn collect(
    files: &Files,
    descriptor: &Descriptor,
    depth: usize,
    images: &mut Vec<SourceImage>,
) -> Result<(), Error> {
    let (digest, _) = own_digest(files, descriptor)?;
    if images.iter().any(|image| image.digest == digest) {
        return Ok(());
    }
    let bytes = manifest(files, descriptor)?;
    let mut image = SourceImage {
        digest,
        media_type: descriptor.media_type().to_string(),
        manifest: Vec::new(),
        blobs: Vec::new(),
        absent_layers: Vec::new(),
        images: Vec::new(),
    };
    if MANIFESTS.contains(&image.media_type.as_str()) {
        let parsed: ImageManifest = parse(files, descriptor.digest().as_ref(), &bytes)?;
        check_media_type(files, descriptor, parsed.media_type().as_ref().map(AsRef::as_ref))?;
        for blob in std::iter::once(parsed.config()).chain(parsed.layers()) {
            add_blob(files, blob, &mut image)?;
        }
    } else if INDEXES.contains(&image.media_type.as_str()) {
        let parsed: ImageIndex = parse(files, descriptor.digest().as_ref(), &bytes)?;
        check_media_type(files, descriptor, parsed.media_type().as_ref().map(AsRef::as_ref))?;
        if depth == DEEPEST_INDEX {
            return Err(Error::Source(format!(
                "the indexes in {} are nested more than {DEEPEST_INDEX} deep",
                files.name()
            )));
        }
        for child in parsed.manifests() {
            let (child_digest, _) = own_digest(files, child)?;
            if !image.images.contains(&child_digest) {
                image.images.push(child_digest);
            }
            collect(files, child, depth + 1, images)?;
        }
    } else {
        return Err(Error::Source(format!(
            "the manifest {} in {} has the media type '{}', which is neither an image's nor an index's",
            descriptor.digest(),
            files.name(),
            image.media_type
        )));
    }
    image.manifest = bytes;
    images.push(image);
    Ok(())
}

/// Reads and verifies a manifest.
fn manifest(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let (digest, mut verifier) = own_digest(files, descriptor)?;
    let Some(bytes) = files.read_json(&blob_file(&digest))? else {
        return Err(Error::Source(format!(
            "{} lacks the manifest {digest}{}, which its index names; get it whole, or publish one of its images \
             with --image DIGEST",
            files.name(),
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
            files.name()
        )));
    }
    Ok(bytes)
}

fn add_blob(files: &Files, descriptor: &Descriptor, image: &mut SourceImage) -> Result<(), Error> {
    let (digest, _) = own_digest(files, descriptor)?;
    let file = blob_file(&digest);
    let media_type = descriptor.media_type().to_string();
    // Layers that may not be redistributed need not be there; pullers download them elsewhere.
    let is_foreign = media_type.contains(".nondistributable.") || media_type.contains(".foreign.");
    match files.size(&file)? {
        None if is_foreign => {
            if !image.absent_layers.contains(&digest) {
                image.absent_layers.push(digest);
            }
            return Ok(());
        }
        None => {
            return Err(Error::Source(format!(
                "{} lacks the blob {digest}, which its manifest names; get the image again",
                files.name()
            )));
        }
        Some(size) if size != descriptor.size() => {
            return Err(Error::Source(format!(
                "the blob {digest} in {} has {size} bytes, and its manifest says {}; get the image again",
                files.name(),
                descriptor.size()
            )));
        }
        Some(size) => {
            if !image.blobs.iter().any(|blob| blob.record.digest == digest) {
                image.blobs.push(Blob { record: LayerRecord { digest, size, media_type }, file });
            }
        }
    }
    Ok(())
}

/// Refuses a manifest whose own media type differs from its descriptor's: readers would not agree on what it is.
fn check_media_type(files: &Files, descriptor: &Descriptor, own: Option<&str>) -> Result<(), Error> {
    match own {
        Some(own) if own != descriptor.media_type().as_ref() => Err(Error::Source(format!(
            "the manifest {} in {} says that it is '{own}', and what names it says '{}'",
            descriptor.digest(),
            files.name(),
            descriptor.media_type()
        ))),
        _ => Ok(()),
    }
}

fn own_digest(files: &Files, descriptor: &Descriptor) -> Result<(Digest, Verifier), Error> {
    digest(files, descriptor.digest().as_ref())
}

fn blob_file(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn required(files: &Files, name: &str) -> Result<Vec<u8>, Error> {
    let missing = || Error::Source(format!("{} has no file '{name}'", files.name()));
    files.read_json(name)?.ok_or_else(missing)
}

fn parse<T: DeserializeOwned>(files: &Files, what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| unusable(files, what, &error))
}

fn unusable(files: &Files, what: &str, error: &serde_json::Error) -> Error {
    Error::Source(format!("{what} in {} cannot be used: {}", files.name(), start(error)))
}
