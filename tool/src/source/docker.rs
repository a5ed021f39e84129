//! The older form of `docker save`: a config, layers, and no manifest that a registry could store.
//! The manifest is made here. docker does not compress the layers; other tools that write this form
//! (jib, bazel, crane, kaniko) may.
//!
//! Source: [Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset
//! Format"](https://github.com/moby/docker-image-spec/blob/main/v1.2.md).

use std::io::{self, Read};

use layergate_core::types::{Descriptor, Digest, hex};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use sha2::Sha256;

use super::choice::{Candidate, Choice, docker_names, named, no_such_image, on_platform, only_one};
use super::compression::Compression;
use super::files::{Files, unreadable};
use super::image::{Config, Contents};
use super::{Blob, SourceImage, start};
use crate::error::Error;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The most images of one `manifest.json`. Their configs are all read.
const MOST_IMAGES: usize = 1000;

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SavedImage {
    /// The file that its config is.
    pub config: String,
    /// The names that docker shows; `null` for an image without a name.
    pub repo_tags: Option<Vec<String>>,
    /// The files that its layers are; `null` for an image of none.
    pub layers: Option<Vec<String>>,
}

impl SavedImage {
    /// All forms of its names that docker takes.
    pub fn names(&self) -> Vec<String> {
        self.repo_tags.iter().flatten().flat_map(|name| docker_names(name)).collect()
    }
}

/// The manifest that is made of an image.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: ManifestDescriptor<'a>,
    layers: Vec<ManifestDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDescriptor<'a> {
    media_type: &'a str,
    digest: String,
    size: u64,
}

/// The images of `manifest.json`; `None` if that is missing, or is of another kind of tool.
pub fn saved_images(files: &Files) -> Result<Option<Vec<SavedImage>>, Error> {
    let Some(saved) = files.read_json("manifest.json")? else { return Ok(None) };
    if saved.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let saved: Option<Vec<_>> =
        serde_json::from_slice(&saved).map_err(|error| broken(files, "manifest.json", &error))?;
    Ok(Some(saved.unwrap_or_default()))
}

/// The image that is chosen, or the only one.
pub fn image(files: &Files, choice: &Choice) -> Result<SourceImage, Error> {
    let Some(saved) = saved_images(files)? else {
        return Err(Error::Source(format!(
            "{0} is in skopeo's own form; copy it first, with 'skopeo copy dir:{0} oci:LAYOUT:TAG'",
            files.name()
        )));
    };
    if saved.is_empty() || saved.len() > MOST_IMAGES {
        return Err(Error::Source(format!(
            "{} holds {} images, by its manifest.json; it must be from 1 to {MOST_IMAGES}",
            files.name(),
            saved.len()
        )));
    }
    let candidates = saved.into_iter().map(|image| candidate(files, image));
    let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
    let image = choice.image.as_deref();
    let chosen = match &choice.platform {
        None => only_one(files.name(), &candidates, image)?,
        Some(platform) => match &named(&candidates, image)[..] {
            [] => return Err(no_such_image(files.name(), &candidates, image.unwrap_or_default())),
            found => on_platform(files.name(), found, platform)?,
        },
    };
    image_of(files, chosen)
}

fn candidate(files: &Files, image: SavedImage) -> Result<Candidate<SavedImage>, Error> {
    let (config, blob) = read_config(files, &image)?;
    Ok(Candidate {
        names: image.names(),
        // It is what docker calls the image's id.
        digest: blob.descriptor.digest.to_string(),
        platform: config.platform(),
        image,
    })
}

/// Reads and verifies the config of an image.
fn read_config(files: &Files, image: &SavedImage) -> Result<(Config, Blob), Error> {
    let file = image.config.clone();
    let Some(bytes) = files.read_json(&file)? else {
        return Err(Error::Source(format!("{} lacks the config '{}'", files.name(), start(file))));
    };
    let config = serde_json::from_slice(&bytes).map_err(|error| broken(files, &file, &error))?;
    let digest = Digest::of_bytes(&bytes);
    // docker names the config after its digest. If the name is another digest, the bytes were
    // changed.
    let name = file.trim_end_matches(".json").rsplit(['/', ':']).next().unwrap_or_default();
    if name.len() == digest.hex().len()
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        && name != digest.hex()
    {
        return Err(corrupt(files, &file));
    }
    let descriptor = Descriptor { digest, size: bytes.len() as u64, media_type: CONFIG.to_owned() };
    Ok((config, Blob { file, descriptor }))
}

fn image_of(files: &Files, image: &SavedImage) -> Result<SourceImage, Error> {
    let (config, blob) = read_config(files, image)?;
    let (layers, diff_ids) = (image.layers.as_deref().unwrap_or_default(), config.diff_ids());
    if diff_ids.len() != layers.len() {
        return Err(Error::Source(format!(
            "the image in {} has {} layers, and its config names {}",
            files.name(),
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut blobs = vec![blob];
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        blobs.push(layer_blob(files, layer, diff_id)?);
    }
    let manifest = {
        let descriptors = blobs.iter().map(|Blob { descriptor, .. }| ManifestDescriptor {
            media_type: &descriptor.media_type,
            digest: descriptor.digest.to_string(),
            size: descriptor.size,
        });
        let mut layers: Vec<_> = descriptors.collect();
        let config = layers.remove(0);
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST, config, layers };
        serde_json::to_vec(&manifest).map_err(|error| broken(files, "the image", &error))?
    };
    let mut seen = Vec::new();
    blobs.retain(|blob| {
        let is_new = !seen.contains(&blob.descriptor.digest);
        seen.push(blob.descriptor.digest.clone());
        is_new
    });
    Ok(SourceImage {
        digest: Digest::of_bytes(&manifest),
        media_type: MANIFEST.to_owned(),
        manifest,
        blobs,
        absent_layers: Vec::new(),
        images: Vec::new(),
    })
}

/// Hashes a layer, and verifies it by the digest of what it unpacks to.
fn layer_blob(files: &Files, layer: &str, diff_id: &str) -> Result<Blob, Error> {
    let mut magic = Vec::new();
    files
        .open_file(layer)?
        .take(Compression::LONGEST_MAGIC as u64)
        .read_to_end(&mut magic)
        .map_err(|error| unreadable(files.name(), &error))?;
    let compression = Compression::of(&magic);
    let mut stored = Hashed::new(files.open_file(layer)?);
    let corrupt = || corrupt(files, layer);
    let mut unpacked = None;
    if let Some(compression) = compression {
        let Some(stream) = compression.unpack(&mut stored).map_err(|_| corrupt())? else {
            return Err(Error::Source(format!(
                "the layer '{layer}' in {} is compressed with {}, which no container client unpacks; save the image \
                 with layers in gzip or zstd, or uncompressed ones",
                files.name(),
                compression.name()
            )));
        };
        let mut stream = Hashed::new(stream);
        io::copy(&mut stream, &mut io::sink()).map_err(|_| corrupt())?;
        unpacked = Some(stream.digest());
    }
    io::copy(&mut stored, &mut io::sink()).map_err(|error| unreadable(files.name(), &error))?;

    let size = stored.count;
    let digest = stored.digest();
    if unpacked.as_ref().unwrap_or(&digest) != diff_id.trim_start_matches("sha256:") {
        return Err(corrupt());
    }
    let digest = Digest::parse(&format!("sha256:{digest}")).map_err(|_| corrupt())?;
    let media_type = match compression {
        Some(compression) => format!("{LAYER}+{}", compression.name()),
        None => LAYER.to_owned(),
    };
    Ok(Blob { descriptor: Descriptor { digest, size, media_type }, file: layer.to_owned() })
}

fn corrupt(files: &Files, name: &str) -> Error {
    Error::Source(format!(
        "the file '{}' in {} is corrupt: it does not have the digest that the image gives it; save the image again",
        start(name),
        files.name()
    ))
}

fn broken(files: &Files, what: &str, error: &serde_json::Error) -> Error {
    Error::Source(format!("{} in {} cannot be used: {}", start(what), files.name(), start(error)))
}

/// Hashes and counts what is read through it.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
    count: u64,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), count: 0 }
    }

    fn digest(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
