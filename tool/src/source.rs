//! What is published: an image, or an index of images, from files in the formats that other tools write.
//! All of it is untrusted.

mod docker;
mod files;
mod oci;

use std::fmt::Display;
use std::io::{self, Read};
use std::path::Path;

use layergate::catalog::LayerRecord;
use layergate::publish::Verifier;
use layergate::types::Digest;

use crate::error::Error;
use files::Files;

/// The images to publish from a directory or an archive.
#[derive(Debug)]
pub struct Source {
    files: Files,
    /// The images of an index come before the index; the last one is what was asked for.
    pub images: Vec<SourceImage>,
}

/// An image, or an index of images.
#[derive(Debug)]
pub struct SourceImage {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest, verified.
    pub manifest: Vec<u8>,
    /// The config blob and the layers of an image, each once.
    pub blobs: Vec<Blob>,
    /// The layers that need not be in the source and are not: foreign ones.
    pub absent_layers: Vec<Digest>,
    /// The images of an index.
    pub images: Vec<Digest>,
}

/// A blob that a manifest names. Verified when it is read, not before.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its digest, size and media type, as the manifest has them.
    pub record: LayerRecord,
    file: String,
}

impl Source {
    /// Reads the manifests of an OCI image layout, an OCI archive, or the output of `docker save`; the archive on
    /// standard input if `path` is `-`. `choice` names the image, by name or digest, where there is more than one.
    pub fn open(path: &Path, choice: Option<&str>) -> Result<Self, Error> {
        let files = Files::open(path)?;
        let images = if files.size("oci-layout")?.is_some() && files.size("index.json")?.is_some() {
            oci::images(&files, choice)?
        } else if files.size("manifest.json")?.is_some() {
            vec![docker::image(&files, choice)?]
        } else {
            return Err(Error::Source(format!(
                "{} holds no image: it has neither 'oci-layout' and 'index.json' (an OCI image layout) nor \
                 'manifest.json' (docker save)",
                files.name()
            )));
        };
        Ok(Self { files, images })
    }

    /// The source's path or other name, for error sentences.
    pub fn name(&self) -> &str {
        self.files.name()
    }

    /// Opens a blob to be read.
    pub fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>> {
        self.files.open_file(&blob.file).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Parses a digest from a source. Digests that no bytes can have are refused, also where the bytes are not needed.
fn digest(files: &Files, value: &str) -> Result<(Digest, Verifier), Error> {
    let digest = Digest::parse(value).ok();
    digest.and_then(|digest| Verifier::of(&digest).map(|verifier| (digest, verifier))).ok_or_else(|| {
        Error::Source(format!(
            "the digest '{}' in {} cannot be verified; it must be a sha256 or sha512 digest",
            start(value),
            files.name()
        ))
    })
}

/// The first 200 characters of a text from a source, for an error sentence.
fn start(text: impl Display) -> String {
    text.to_string().chars().take(200).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
