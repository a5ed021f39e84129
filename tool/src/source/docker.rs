//! The older form of `docker save`: a config, uncompressed layers, and no manifest that a registry
//! could store. The manifest is made here. Other tools that write this form (jib, bazel, crane) put
//! gzipped layers into it.
//!
//! Source: [Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset
//! Format"](https://github.com/moby/docker-image-spec/blob/main/v1.2.md).

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use layergate_core::types::{Descriptor, Digest, hex};
use oci_spec::image::{self, ImageManifestBuilder, MediaType, SCHEMA_VERSION};
use serde::Deserialize;
use sha2::Digest as _;
use sha2::Sha256;

use super::files::Files;
use super::image::Contents;
use super::{Blob, SourceImage, start};
use crate::error::Error;

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    /// `null` for an image of none.
    layers: Option<Vec<String>>,
}

/// What is read of an image's config.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// The image that `choice` names by one of its tags, or the only one.
pub fn image(files: &Files, choice: Option<&str>) -> Result<SourceImage, Error> {
    let broken = |what: &str, error: &dyn std::fmt::Display| {
        Error::Source(format!("{what} in {} cannot be used: {}", files.name(), start(error)))
    };
    let saved = files.read_json("manifest.json")?.unwrap_or_default();
    if saved.trim_ascii_start().starts_with(b"{") {
        return Err(Error::Source(format!(
            "{0} is in skopeo's own form; copy it first, with 'skopeo copy dir:{0} oci:LAYOUT:TAG'",
            files.name()
        )));
    }
    let saved: Vec<SavedImage> =
        serde_json::from_slice(&saved).map_err(|error| broken("manifest.json", &error))?;
    let saved = choose(files, &saved, choice)?;

    let Some(config) = files.read_json(&saved.config)? else {
        return Err(Error::Source(format!("{} lacks the config '{}'", files.name(), saved.config)));
    };
    let diff_ids = serde_json::from_slice::<Config>(&config)
        .map_err(|error| broken(&saved.config, &error))?
        .rootfs
        .diff_ids;
    let layers = saved.layers.as_deref().unwrap_or_default();
    if diff_ids.len() != layers.len() {
        return Err(Error::Source(format!(
            "the image in {} has {} layers, and its config names {}",
            files.name(),
            layers.len(),
            diff_ids.len()
        )));
    }

    let digest = Digest::of_bytes(&config);
    let digest = digest.hex();
    // docker names the config after its digest. If the name is another digest, the bytes were
    // changed.
    let name = saved.config.trim_end_matches(".json").rsplit(['/', ':']).next().unwrap_or_default();
    if name.len() == digest.len()
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        && name != digest
    {
        return Err(corrupt(files, &saved.config));
    }
    let mut blobs =
        vec![blob(saved.config.clone(), digest, config.len() as u64, MediaType::ImageConfig)?];
    for (layer, diff_id) in layers.iter().zip(&diff_ids) {
        blobs.push(layer_blob(files, layer, diff_id)?);
    }
    with_manifest(blobs).map_err(|error| broken("the image", &error))
}

fn choose<'a>(
    files: &Files,
    saved: &'a [SavedImage],
    choice: Option<&str>,
) -> Result<&'a SavedImage, Error> {
    let tags = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
    let found = match (choice, saved) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(choice), _) => saved.iter().find(|image| tags(image).iter().any(|tag| tag == choice)),
    };
    found.ok_or_else(|| {
        let all = start(saved.iter().flat_map(tags).collect::<Vec<_>>().join(", "));
        Error::Source(match choice {
            Some(choice) => format!("{} holds no image '{choice}'; it has {all}", files.name()),
            None => format!(
                "{} holds {} images; choose one with --image: {all}",
                files.name(),
                saved.len()
            ),
        })
    })
}

/// Hashes a layer, and verifies it by the digest of what it unpacks to.
fn layer_blob(files: &Files, layer: &str, diff_id: &str) -> Result<Blob, Error> {
    let mut stored = Hashed::new(files.open_file(layer)?);
    let mut start = [0; 2];
    let is_gzip = {
        let mut file = files.open_file(layer)?;
        file.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b]
    };
    let (unpacked, media_type) = if is_gzip {
        let mut unpacked = Hashed::new(MultiGzDecoder::new(&mut stored));
        io::copy(&mut unpacked, &mut io::sink()).map_err(|_| corrupt(files, layer))?;
        (Some(unpacked.digest()), MediaType::ImageLayerGzip)
    } else {
        (None, MediaType::ImageLayer)
    };
    io::copy(&mut stored, &mut io::sink()).map_err(|_| corrupt(files, layer))?;

    let size = stored.count;
    let digest = stored.digest();
    if unpacked.as_ref().unwrap_or(&digest) != diff_id.trim_start_matches("sha256:") {
        return Err(corrupt(files, layer));
    }
    blob(layer.to_owned(), &digest, size, media_type)
}

fn corrupt(files: &Files, name: &str) -> Error {
    Error::Source(format!(
        "the file '{name}' in {} is corrupt: it does not have the digest that the image gives it; save the image \
         again",
        files.name()
    ))
}

fn blob(file: String, hex: &str, size: u64, media_type: MediaType) -> Result<Blob, Error> {
    let digest = Digest::parse(&format!("sha256:{hex}"))
        .map_err(|_| Error::Source(format!("'{hex}' is not a sha256 digest")))?;
    Ok(Blob { descriptor: Descriptor { digest, size, media_type: media_type.to_string() }, file })
}

/// The image of these blobs, the config first.
fn with_manifest(mut blobs: Vec<Blob>) -> Result<SourceImage, oci_spec::OciSpecError> {
    let descriptor = |blob: &Blob| {
        let digest = oci_spec::image::Digest::try_from(blob.descriptor.digest.to_string())?;
        Ok::<_, oci_spec::OciSpecError>(image::Descriptor::new(
            MediaType::from(blob.descriptor.media_type.as_str()),
            blob.descriptor.size,
            digest,
        ))
    };
    let descriptors = blobs.iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptors[0].clone())
        .layers(&descriptors[1..])
        .build()?
        .to_string()?
        .into_bytes();

    let mut seen = Vec::new();
    blobs.retain(|blob| {
        let is_new = !seen.contains(&blob.descriptor.digest);
        seen.push(blob.descriptor.digest.clone());
        is_new
    });
    Ok(SourceImage {
        digest: Digest::of_bytes(&manifest),
        media_type: MediaType::ImageManifest.to_string(),
        manifest,
        blobs,
        absent_layers: Vec::new(),
        images: Vec::new(),
    })
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
