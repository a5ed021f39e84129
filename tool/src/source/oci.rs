//! OCI image layouts, as directories and in archives.
//!
//! Source: [OCI image
//! specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).

use layergate_core::types::Digest;
use layergate_upstream::manifest::{self, IndexEntry};
use oci_spec::image::{Descriptor, ImageIndex};
use serde_json::{Value, json};

use super::files::Files;
use super::image::{Contents, DEEPEST_INDEX, collect, images_of};
use super::{SourceImage, start};
use crate::error::Error;

/// The annotations by which tools name the images of a layout; the second is containerd's and
/// docker save's.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// The image that `choice` names, or the only one; with all the images below it.
pub fn images(files: &Files, choice: Option<&str>) -> Result<Vec<SourceImage>, Error> {
    let index = required(files, "index.json")?;
    let mut index: Value =
        serde_json::from_slice(&index).map_err(|error| unusable(files, error))?;
    if index["manifests"].is_null() {
        index["manifests"] = json!([]); // umoci's word for none
    }
    let index: ImageIndex =
        serde_json::from_value(index).map_err(|error| unusable(files, error))?;
    let chosen = choose(files, index.manifests(), choice)?;
    let mut images = Vec::new();
    collect(files, &chosen, 0, &mut images)?;
    Ok(images)
}

fn choose(files: &Files, roots: &[Descriptor], choice: Option<&str>) -> Result<IndexEntry, Error> {
    let usable =
        |root: &Descriptor| IndexEntry::try_from(root).map_err(|error| unusable(files, error));
    let Some(choice) = choice else {
        // Several tags of one image are several descriptors of it.
        let Some(first) = roots.first() else {
            return Err(Error::Source(format!(
                "{} holds no image: its index.json is empty",
                files.name()
            )));
        };
        if roots.iter().all(|root| root.digest() == first.digest()) {
            return usable(first);
        }
        return Err(Error::Source(format!(
            "{} holds more than one image; choose one with --image: {}",
            files.name(),
            start(roots.iter().map(label).collect::<Vec<_>>().join(", "))
        )));
    };
    let named = roots.iter().find(|root| names(root).any(|name| name == choice));
    if let Some(root) = named.or_else(|| roots.iter().find(|root| root.digest().as_ref() == choice))
    {
        return usable(root);
    }
    let usable: Vec<_> = roots.iter().filter_map(|root| usable(root).ok()).collect();
    if let Some(found) = find(files, usable, choice, 0, &mut Vec::new())? {
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
    entries: Vec<IndexEntry>,
    digest: &str,
    depth: usize,
    seen: &mut Vec<Digest>,
) -> Result<Option<IndexEntry>, Error> {
    for entry in entries {
        let descriptor = &entry.descriptor;
        if descriptor.digest.to_string() == digest {
            return Ok(Some(entry));
        }
        let is_index = manifest::is_index(&descriptor.media_type);
        if is_index && depth < DEEPEST_INDEX && !seen.contains(&descriptor.digest) {
            let images = images_of(files, &entry)?;
            seen.push(entry.descriptor.digest);
            if let Some(found) = find(files, images, digest, depth + 1, seen)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The refusal of an index.json that is none.
fn unusable(files: &Files, error: impl Into<manifest::Error>) -> Error {
    Error::Source(format!("index.json in {} {}", files.name(), error.into()))
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    NAMES.iter().filter_map(move |name| annotations?.get(*name)).map(String::as_str)
}

fn label(descriptor: &Descriptor) -> String {
    names(descriptor).next().unwrap_or(descriptor.digest().as_ref()).to_owned()
}

fn required(files: &Files, name: &str) -> Result<Vec<u8>, Error> {
    let missing = || Error::Source(format!("{} has no file '{name}'", files.name()));
    files.read_json(name)?.ok_or_else(missing)
}
