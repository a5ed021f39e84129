//! The arguments that name something: `REPOSITORY[:TAG]`, `REPOSITORY@DIGEST`, sources, accounts
//! and hosts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use layergate_core::types::{AccountId, Digest, ImageId, ImageTag, RepositoryName, RulePrefix};
use layergate_tool::authorization::Api;
use layergate_upstream::{Host, NameError, UpstreamRepository};

/// The form of a repository's name, to follow what it is about.
const NAME: &str = "must be 2 to 256 lower-case letters and digits, in words that '.', '_', '-' or \
                    '/' separate, such as team/app";

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
        let text = value.to_str().unwrap_or_default();
        if let Some(image) = text.strip_prefix("docker://") {
            return image.parse().map(Self::Upstream);
        }
        if UpstreamImage::from_str(text).is_ok() && !Path::new(&value).exists() {
            return Err(format!(
                "there is no such file; for an image in another registry, put docker:// before it: \
                 docker://{text}"
            ));
        }
        Ok(Self::Path(value.into()))
    }
}

impl FromStr for UpstreamImage {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (repository, image) = if let Some((repository, digest)) =
            value.rsplit_once('@').filter(|(_, digest)| !digest.contains('/'))
        {
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
        let repository = UpstreamRepository::parse(repository).map_err(|error| match error {
            NameError::Name => format!("the name after the host {NAME}"),
            error => format!("it {error}"),
        })?;
        Ok(Self { repository, image })
    }
}

/// Takes a host without a port.
pub fn host(value: &str) -> Result<Host, String> {
    Host::parse(value).map_err(|_| {
        "it must be a host's name or address, without https://, port and path, such as \
         storage.example.com"
            .to_owned()
    })
}

/// Takes only a repository's name.
pub fn repository_name(value: &str) -> Result<RepositoryName, String> {
    without_host(value)?;
    match value.split_once(['@', ':']) {
        Some((name, _)) => Err(format!("name a repository, without a tag or a digest: '{name}'")),
        None => parse_name(value),
    }
}

/// Takes the prefix of a pull-through cache rule.
pub fn rule_prefix(value: &str) -> Result<RulePrefix, String> {
    RulePrefix::parse(value).map_err(|_| {
        "the prefix must be 2 to 30 lower-case letters and digits, in words that '.', '_', '-' or '/' \
         separate, such as docker-hub; or ROOT"
            .to_owned()
    })
}

/// Takes an AWS account's id.
pub fn account_id(value: &str) -> Result<AccountId, String> {
    AccountId::parse(value).map_err(|_| "the account's id must be 12 digits".to_owned())
}

impl FromStr for TagReference {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        without_host(value)?;
        if let Some((name, _)) = value.split_once('@') {
            return Err(format!("an image is published under a tag, not a digest: '{name}:TAG'"));
        }
        let (repository, tag) = match value.split_once(':') {
            Some((repository, tag)) => (repository, Some(parse_tag(tag)?)),
            None => (value, None),
        };
        Ok(Self { repository: parse_name(repository)?, tag })
    }
}

impl FromStr for ImageReference {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        without_host(value)?;
        let (repository, image) = if let Some((repository, digest)) = value.split_once('@') {
            (repository, ImageId::Digest(parse_digest(digest)?))
        } else if let Some((repository, tag)) = value.split_once(':') {
            (repository, ImageId::Tag(parse_tag(tag)?))
        } else {
            return Err("it must name an image, as REPOSITORY:TAG or REPOSITORY@DIGEST".to_owned());
        };
        Ok(Self { repository: parse_name(repository)?, image })
    }
}

/// Refuses the registry's host before a repository's name, as docker writes it. A host with a dot
/// may be a part of the name, unless it is known to be a registry's.
fn without_host(value: &str) -> Result<(), String> {
    let path = value.split_once("://").map_or(value, |(_, path)| path);
    let Some((host, name)) = path.split_once('/') else { return Ok(()) };
    let is_host = path.len() < value.len()
        || host.contains(':')
        || host == "localhost"
        || Api::of_registry(host).is_ok_and(|api| api.is_some());
    match is_host {
        true => Err(format!("leave out the host: '{name}'")),
        false => Ok(()),
    }
}

fn parse_name(value: &str) -> Result<RepositoryName, String> {
    RepositoryName::parse(value).map_err(|_| format!("the repository's name {NAME}"))
}

fn parse_tag(value: &str) -> Result<ImageTag, String> {
    ImageTag::parse(value).map_err(|_| {
        "the tag must be 1 to 128 letters, digits, '_', '.' and '-', and begin with none of '.' and '-'"
            .to_owned()
    })
}

fn parse_digest(value: &str) -> Result<Digest, String> {
    let digest = Digest::parse(value).ok().filter(Digest::is_verifiable);
    digest.ok_or_else(|| "the digest must be sha256: and 64 hexadecimal digits".to_owned())
}
