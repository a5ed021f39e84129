//! Bytes that are verified while they are read.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256, Sha512};

use super::UploadError;
use crate::types::{Digest, hex};

/// Computes what bytes hash to, by one of the two algorithms that the OCI image specification
/// registers.
/// Source: [Registered
/// algorithms](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#registered-algorithms).
#[derive(Debug, Clone)]
pub struct Verifier {
    wanted: Digest,
    hasher: Hasher,
}

#[derive(Debug, Clone)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Verifier {
    /// A verifier for this digest; `None` if no bytes can have it, because it is not a sha256 or
    /// sha512 digest of full length.
    pub fn of(digest: &Digest) -> Option<Self> {
        let hasher = match digest.algorithm() {
            _ if !digest.is_verifiable() => return None,
            "sha512" => Hasher::Sha512(Sha512::new()),
            _ => Hasher::Sha256(Sha256::new()),
        };
        Some(Self { wanted: digest.clone(), hasher })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Whether all the bytes that were taken together have the digest.
    pub fn matches(self) -> bool {
        let found = match self.hasher {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Sha512(hasher) => hex(&hasher.finalize()),
        };
        found == self.wanted.hex()
    }
}

/// Whether these bytes have the digest.
pub fn has_digest(bytes: &[u8], digest: &Digest) -> bool {
    Verifier::of(digest).is_some_and(|mut verifier| {
        verifier.update(bytes);
        verifier.matches()
    })
}

/// Reads a blob in chunks and verifies it: the last chunk is returned only if the whole blob has
/// its digest.
pub struct BlobReader {
    reader: Box<dyn Read + Send>,
    verifier: Verifier,
    left: u64,
}

impl BlobReader {
    /// A reader of a blob of `size` bytes.
    pub fn new(reader: Box<dyn Read + Send>, verifier: Verifier, size: u64) -> Self {
        Self { reader, verifier, left: size }
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next chunk, of `length` bytes or what is left.
    pub fn next_chunk(&mut self, length: usize) -> Result<Vec<u8>, UploadError> {
        let wanted = self.left.min(length as u64);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or(length));
        self.reader.by_ref().take(wanted).read_to_end(&mut chunk)?;
        if chunk.len() as u64 != wanted {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.verifier.update(&chunk);
        self.left -= wanted;
        if self.left == 0 && !self.verifier.clone().matches() {
            return Err(UploadError::Corrupt);
        }
        Ok(chunk)
    }
}
