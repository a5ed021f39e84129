//! What is published: an image, or an index of images, from files in the formats that other tools
//! write, or from a registry. All of it is untrusted.

mod archive;
mod choice;
mod compression;
mod credentials;
mod docker;
mod engine;
mod files;
mod image;
mod oci;
mod registry;

use std::fmt::Display;
use std::io::{self, Read};
use std::path::Path;

use layergate_core::types::{Descriptor, Digest};
use layergate_upstream::Trust;
use layergate_upstream::manifest::Platform;

use crate::error::Error;
use crate::reference::{EngineImage, UpstreamImage};
use files::Files;
use image::Contents;

pub use choice::Choice;
pub use registry::{Registry, blob_error};

/// The images to publish from a directory, an archive or a registry.
#[derive(Debug)]
pub struct Source {
    place: Place,
    /// The images of an index come before the index; the last one is what was asked for.
    pub images: Vec<SourceImage>,
}

#[derive(Debug)]
enum Place {
    Files(Files),
    Registry(Box<Registry>),
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
    pub descriptor: Descriptor,
    /// The file that it is, in a source of files.
    file: String,
}

impl Source {
    /// Reads the manifests of an OCI image layout, an OCI archive, or the output of `docker save`;
    /// the archive on standard input if `path` is `-`.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self, Error> {
        Self::of_files(Files::open(path)?, choice)
    }

    /// Reads an image of the docker engine on this machine. To be called where blocking is allowed,
    /// within a runtime.
    pub fn save(image: &EngineImage, platform: Option<Platform>) -> Result<Self, Error> {
        Self::of_files(engine::save(image)?, &Choice { image: None, platform })
    }

    fn of_files(files: Files, choice: &Choice) -> Result<Self, Error> {
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
        Ok(Self { place: Place::Files(files), images })
    }

    /// Fetches the manifests of an image from a registry. `trust` has the hosts that may be reached
    /// although they are private. To be called where blocking is allowed, within a runtime.
    pub fn fetch(
        image: UpstreamImage,
        platform: Option<&Platform>,
        trust: Trust,
    ) -> Result<Self, Error> {
        let registry = Registry::open(image, trust)?;
        let images = registry.images(platform)?;
        Ok(Self { place: Place::Registry(Box::new(registry)), images })
    }

    /// The source's path or other name, for error sentences.
    pub fn name(&self) -> &str {
        self.contents().name()
    }

    /// Opens a blob to be read.
    pub fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>> {
        self.contents().open_blob(blob)
    }

    /// The registry, if the source is in one.
    pub fn registry(&self) -> Option<&Registry> {
        match &self.place {
            Place::Files(_) => None,
            Place::Registry(registry) => Some(registry),
        }
    }

    fn contents(&self) -> &dyn Contents {
        match &self.place {
            Place::Files(files) => files,
            Place::Registry(registry) => registry.as_ref(),
        }
    }
}

/// The first 200 characters of a text from a source, for an error sentence.
fn start(text: impl Display) -> String {
    text.to_string().chars().take(200).collect()
}
