//! OCI image layouts, as directories and in archives.
//!
//! Source: [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).

use oci_spec::image::{Descriptor, ImageIndex};
use serde_json::{Value, json};

use super::files::Files;
use super::image::{Contents, DEEPEST_INDEX, INDEXES, collect, manifest, parse, unusable};
use super::{SourceImage, start};
use crate::error::Error;

/// The annotations by which tools name the images of a layout; the second is containerd's and docker save's.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// The image that `choice` names, or the only one; with all the images below it.
pub fn images(files: &Files, choice: Option<&str>) -> Result<Vec<SourceImage>, Error> {
    let mut index: Value = parse(files.name(), "index.json", &required(files, "index.json")?)?;
    if index["manifests"].is_null() {
        index["manifests"] = json!([]); // umoci's word for none
    }
    let index = serde_json::from_value::<ImageIndex>(index)
        .map_err(|error| unusable(files.name(), "index.json", &error))?;
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
            let index: ImageIndex = parse(files.name(), descriptor.digest().as_ref(), &bytes)?;
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

fn required(files: &Files, name: &str) -> Result<Vec<u8>, Error> {
    let missing = || Error::Source(format!("{} has no file '{name}'", files.name()));
    files.read_json(name)?.ok_or_else(missing)
}
