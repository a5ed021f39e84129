//! OCI image layouts, as directories and in archives.
//!
//! Source: [OCI image
//! specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).

use layergate_core::types::Digest;
use layergate_upstream::manifest::{self, IndexEntry, RawDescriptor, RawIndex};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::choice::{Candidate, Choice, docker_names, named, no_such_image, only_one};
use super::docker::{SavedImage, saved_images};
use super::files::Files;
use super::image::{Contents, DEEPEST_INDEX, collect, for_platform, images_of, read_config};
use super::{SourceImage, start};
use crate::error::Error;

/// The annotation by which containerd and docker name an image.
const DOCKER_NAME: &str = "io.containerd.image.name";

/// The annotation by which others name it; docker writes only the tag into it.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The media types of the configs of images that run.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The image that is chosen, or the only one; with all the images below it.
pub fn images(files: &Files, choice: &Choice) -> Result<Vec<SourceImage>, Error> {
    let index = files.read_json("index.json")?.unwrap_or_default();
    let index: RawIndex =
        serde_json::from_slice(&index).map_err(|error| unusable(files, error.into()))?;
    let roots = index.into_manifests().into_iter().map(|root| candidate(files, &root));
    let roots = roots.collect::<Result<Vec<_>, _>>()?;
    let saved = saved_images(files)?.unwrap_or_default();
    if roots.is_empty() {
        return Err(match saved.len() {
            0 => Error::Source(format!("{} holds no image: its index.json is empty", files.name())),
            count => disagreement(
                files,
                &format!("index.json names no image, and manifest.json names {count}"),
            ),
        });
    }
    let chosen = choose(files, &roots, choice)?;
    let images = collect(files, &chosen)?;
    for image in &images {
        check_layers(files, image, &saved)?;
    }
    let digest = chosen.descriptor.digest.to_string();
    for root in roots.iter().filter(|root| root.digest == digest) {
        check_names(files, root, &images, &saved)?;
    }
    Ok(images)
}

fn candidate(files: &Files, root: &RawDescriptor) -> Result<Candidate<IndexEntry>, Error> {
    let mut names: Vec<_> =
        root.annotation(DOCKER_NAME).into_iter().flat_map(docker_names).collect();
    match root.annotation(NAME) {
        Some(name) if name.contains([':', '/']) => names.extend(docker_names(name)),
        Some(name) => names.push(name.to_owned()),
        None => {}
    }
    names.extend(root.annotation(NAME).map(str::to_owned));
    let image = IndexEntry::try_from(root).map_err(|error| unusable(files, error))?;
    let (digest, platform) = (image.descriptor.digest.to_string(), image.platform.clone());
    Ok(Candidate { names, digest, platform, image })
}

fn choose(
    files: &Files,
    roots: &[Candidate<IndexEntry>],
    choice: &Choice,
) -> Result<IndexEntry, Error> {
    let image = choice.image.as_deref();
    let mut found: Vec<_> =
        named(roots, image).into_iter().map(|root| root.image.clone()).collect();
    match (image, &choice.platform) {
        (Some(image), platform) if found.is_empty() => {
            let all = roots.iter().map(|root| root.image.clone()).collect();
            let below = find(files, all, image, 0, &mut Vec::new())?;
            let below = below.ok_or_else(|| no_such_image(files.name(), roots, image))?;
            match platform {
                None => Ok(below),
                Some(platform) => {
                    found.push(below);
                    for_platform(files, found, platform)
                }
            }
        }
        (_, None) => only_one(files.name(), roots, image).cloned(),
        (_, Some(platform)) => for_platform(files, found, platform),
    }
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

/// What is read of a manifest a second time.
#[derive(Deserialize)]
struct Layers {
    layers: Option<Vec<IgnoredAny>>,
}

/// Refuses an image whose manifest has other layers than its config, or than `manifest.json` says:
/// docker 25.0.0 wrote such archives ([moby 47065](https://github.com/moby/moby/issues/47065)).
fn check_layers(files: &Files, image: &SourceImage, saved: &[SavedImage]) -> Result<(), Error> {
    let Some((config, layers)) = image.blobs.split_first() else { return Ok(()) };
    let count = serde_json::from_slice::<Layers>(&image.manifest).map(|Layers { layers }| layers);
    let count = count.ok().flatten().map_or(0, |layers| layers.len());
    if CONFIGS.contains(&config.descriptor.media_type.as_str()) {
        let config = read_config(files, config.descriptor.clone()).unwrap_or_default();
        let diff_ids = config.diff_ids().len();
        if diff_ids > 0 && diff_ids != count {
            return Err(disagreement(
                files,
                &format!(
                    "the manifest {} has {count} layers, and its config {diff_ids}",
                    image.digest
                ),
            ));
        }
    }
    if !image.absent_layers.is_empty() {
        return Ok(());
    }
    for saved in saved {
        if !files.is_same(&saved.config, &config.file)? {
            continue;
        }
        let mut others: Vec<&String> = Vec::new(); // each once, as `image.blobs` has them
        for layer in saved.layers.iter().flatten() {
            if !others.contains(&layer) {
                others.push(layer);
            }
        }
        let mut is_same = others.len() == layers.len();
        for (layer, other) in layers.iter().zip(others) {
            is_same = is_same && files.is_same(&layer.file, other)?;
        }
        if !is_same {
            return Err(disagreement(
                files,
                &format!("the manifest {} has other layers than manifest.json says", image.digest),
            ));
        }
    }
    Ok(())
}

/// Refuses an image that is another one by `manifest.json`.
fn check_names(
    files: &Files,
    root: &Candidate<IndexEntry>,
    images: &[SourceImage],
    saved: &[SavedImage],
) -> Result<(), Error> {
    for saved in saved {
        let names = saved.names();
        let Some(name) = names.iter().find(|name| root.names.contains(name)) else { continue };
        let mut is_known = false;
        for config in images.iter().filter_map(|image| image.blobs.first()) {
            is_known = is_known || files.is_same(&saved.config, &config.file)?;
        }
        if !is_known {
            return Err(disagreement(
                files,
                &format!(
                    "'{}' is one image by index.json, and another by manifest.json",
                    start(name)
                ),
            ));
        }
    }
    Ok(())
}

fn disagreement(files: &Files, what: &str) -> Error {
    Error::Source(format!(
        "{} describes its images twice, and the descriptions disagree: {what}; save it again, with another version \
         of the tool that wrote it",
        files.name()
    ))
}

/// The refusal of an index.json that is none.
fn unusable(files: &Files, error: manifest::Error) -> Error {
    Error::Source(format!("index.json in {} {error}", files.name()))
}
