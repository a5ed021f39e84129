//! `REPOSITORY[:TAG]` and `REPOSITORY@DIGEST`, as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use layergate_core::types::{AccountId, Digest, ImageId, ImageTag, RepositoryName};
use layergate_upstream::{Host, UpstreamRepository};

/// A repository, and perhaps a tag.
#[derive(Debug, Clone)]
pub struct TagReference {
    /// Before the colon.
    pub repository: RepositoryName,
    /// After it.
    pub tag: Option<ImageTag>,
}

/// An image in a repository.
#[derive(Debug, Clone)]
pub struct ImageReference {
    /// Before the colon or the at sign.
    pub repository: RepositoryName,
    /// After it.
    pub image: ImageId,
}

/// What to publish.
#[derive(Debug, Clone)]
pub enum SourceReference {
    /// A directory or an archive.
    Path(PathBuf),
    /// An image in a registry.
    Upstream(UpstreamImage),
}

/// An image in another registry.
#[derive(Debug, Clone)]
pub struct UpstreamImage {
    /// The repository that it is in.
    pub repository: UpstreamRepository,
    /// Its tag or digest.
    pub image: ImageId,
}

impl SourceReference {
    /// Takes `docker://HOST/NAME:TAG` or `docker://HOST/NAME@DIGEST`, and a path otherwise.
    pub fn parse(value: OsString) -> Result<Self, String> {
        match value.to_str().and_then(|value| value.strip_prefix("docker://")) {
            Some(image) => image.parse().map(Self::Upstream),
            None => Ok(Self::Path(value.into())),
        }
    }
}

impl FromStr for UpstreamImage {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (repository, image) = if let Some((repository, digest)) = value.split_once('@') {
            (repository, ImageId::Digest(parse_digest(digest)?))
        } else if let Some((repository, tag)) =
            value.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
        {
            (repository, ImageId::Tag(parse_tag(tag)?))
        } else {
            return Err(
                "it must name an image, as docker://HOST/NAME:TAG or docker://HOST/NAME@DIGEST"
                    .to_owned(),
            );
        };
        let repository =
            UpstreamRepository::parse(repository).map_err(|error| format!("it {error}"))?;
        Ok(Self { repository, image })
    }
}

/// Takes a host without a port.
pub fn host(value: &str) -> Result<Host, String> {
    Host::parse(value).map_err(|error| error.to_string())
}

/// Takes a repository's name alone.
pub fn repository_name(value: &str) -> Result<RepositoryName, String> {
    RepositoryName::parse(value).map_err(|constraint| format!("the repository's name {constraint}"))
}

/// Takes an AWS account's id.
pub fn account_id(value: &str) -> Result<AccountId, String> {
    AccountId::parse(value).map_err(|constraint| format!("the account's id {constraint}"))
}

impl FromStr for TagReference {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (repository, tag) = match value.split_once(':') {
            Some((repository, tag)) => (repository, Some(parse_tag(tag)?)),
            None => (value, None),
        };
        Ok(Self { repository: repository_name(repository)?, tag })
    }
}

impl FromStr for ImageReference {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (repository, image) = if let Some((repository, digest)) = value.split_once('@') {
            (repository, ImageId::Digest(parse_digest(digest)?))
        } else if let Some((repository, tag)) = value.split_once(':') {
            (repository, ImageId::Tag(parse_tag(tag)?))
        } else {
            return Err("it must name an image, as REPOSITORY:TAG or REPOSITORY@DIGEST".to_owned());
        };
        Ok(Self { repository: repository_name(repository)?, image })
    }
}

fn parse_tag(value: &str) -> Result<ImageTag, String> {
    ImageTag::parse(value).map_err(|constraint| format!("the tag {constraint}"))
}

fn parse_digest(value: &str) -> Result<Digest, String> {
    Digest::parse(value).map_err(|constraint| format!("the digest {constraint}"))
}
