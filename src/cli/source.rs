//! What is published: an image, or an index of images, from files in the formats that other tools write.
//! All of it is untrusted.

mod docker;
mod files;
mod oci;

use std::io::Read;
use std::path::Path;

use layergate::types::Digest;
use sha2::Digest as _;
use sha2::{Sha256, Sha512};

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
    /// What its bytes must hash to.
    pub digest: Digest,
    /// How many there must be.
    pub size: u64,
    /// Its media type, as the manifest has it.
    pub media_type: String,
    file: String,
}

impl Source {
    /// Reads the manifests of an OCI image layout, an OCI archive, or the output of `docker save`.
    /// `choice` names the image, by name or digest, where there is more than one.
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
                files.path()
            )));
        };
        Ok(Self { files, images })
    }

    /// Opens a blob to be read and verified.
    pub fn open_blob(&self, blob: &Blob) -> Result<BlobReader, Error> {
        Ok(BlobReader {
            what: format!("the blob {} in {}", blob.digest, self.files.path()),
            file: self.files.open_file(&blob.file)?,
            hasher: Hasher::of(&blob.digest, &self.files)?,
            digest: blob.digest.clone(),
            left: blob.size,
        })
    }
}

/// Reads a blob in chunks and verifies it: the chunk that ends it comes only if all of it is right.
pub struct BlobReader {
    what: String,
    file: Box<dyn Read + Send>,
    hasher: Hasher,
    digest: Digest,
    left: u64,
}

impl BlobReader {
    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next chunk, of `length` bytes or what is left.
    pub fn next_chunk(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let wanted = self.left.min(length as u64);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or(length));
        let read = self.file.by_ref().take(wanted).read_to_end(&mut chunk);
        read.map_err(|error| Error::Source(format!("cannot read {}: {error}", self.what)))?;
        if chunk.len() as u64 != wanted {
            return Err(Error::Source(format!("{} became shorter while it was read", self.what)));
        }
        self.hasher.update(&chunk);
        self.left -= wanted;
        if self.left == 0 && !self.hasher.matches(&self.digest) {
            return Err(Error::Source(format!(
                "{} is corrupt: its bytes do not have that digest; get the image again",
                self.what
            )));
        }
        Ok(chunk)
    }
}

/// The two algorithms that the OCI image specification registers.
enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn of(digest: &Digest, files: &Files) -> Result<Self, Error> {
        match (digest.algorithm(), digest.hex().len()) {
            ("sha256", 64) => Ok(Self::Sha256(Sha256::new())),
            ("sha512", 128) => Ok(Self::Sha512(Sha512::new())),
            _ => Err(Error::Source(format!(
                "the digest '{digest}' in {} cannot be verified; it must be a sha256 or sha512 digest",
                files.path()
            ))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn matches(&self, digest: &Digest) -> bool {
        let hex = match self {
            Self::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Self::Sha512(hasher) => hex(&hasher.clone().finalize()),
        };
        hex == digest.hex()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
