//! What a path names.

use super::Error;
use layergate_core::types::{Digest, ImageId, ImageTag, RegistryId, Repository, RepositoryName};

/// What is asked for.
#[derive(Debug)]
pub(super) enum Route {
    /// Whether this is a registry.
    Base,
    /// An image's manifest.
    Manifest(Repository, ImageId),
    /// A layer.
    Blob(Repository, Digest),
    /// The tags of a repository.
    Tags(Repository),
}

impl Route {
    /// Reads a path without its leading `/v2`, exactly as it was sent: nothing in a name or a reference needs a
    /// percent-escape. A name may have slashes, and parts such as `blobs`, so the path is read from its end.
    pub(super) fn parse(path: &str, registry: &RegistryId) -> Result<Self, Error> {
        let path = path.strip_prefix('/').unwrap_or_default();
        if path.is_empty() {
            return Ok(Self::Base);
        }
        let repository = |name: &str| match RepositoryName::parse(name) {
            Ok(name) => Ok(Repository { registry: registry.clone(), name }),
            Err(constraint) => Err(Error::NameInvalid(constraint)),
        };
        let mut parts = path.rsplitn(3, '/');
        let (Some(reference), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::NoSuchEndpoint);
        };
        match (kind, reference) {
            ("manifests", reference) => Ok(Self::Manifest(repository(name)?, image(reference)?)),
            ("blobs", digest) => Ok(Self::Blob(repository(name)?, parse_digest(digest)?)),
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            _ => Err(Error::NoSuchEndpoint),
        }
    }
}

fn image(reference: &str) -> Result<ImageId, Error> {
    match reference.contains(':') {
        true => parse_digest(reference).map(ImageId::Digest),
        false => ImageTag::parse(reference).map(ImageId::Tag).map_err(Error::TagInvalid),
    }
}

fn parse_digest(value: &str) -> Result<Digest, Error> {
    Digest::parse(value).map_err(Error::DigestInvalid)
}
