//! The arguments that name something: `REPOSITORY[:TAG]`, `REPOSITORY@DIGEST`, sources, accounts
//! and hosts.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use layergate_core::types::{AccountId, Digest, ImageId, ImageTag, RepositoryName, RulePrefix};
use layergate_tool::authorization::Api;
use layergate_upstream::manifest::Platform;
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
    /// A directory or an archive, and perhaps the image in it, by its name there.
    Files(PathBuf, Option<String>),
    /// An image of the docker engine.
    Engine(EngineImage),
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

/// An image of the docker engine, by its name and tag, its name and digest, or its id.
#[derive(Debug, Clone)]
pub struct EngineImage(String);

impl SourceReference {
    /// Takes a path, or the name of a source as [skopeo writes
    /// it](https://github.com/containers/image/blob/main/docs/containers-transports.5.md): with the
    /// transport before it.
    pub fn parse(value: OsString) -> Result<Self, String> {
        let Some((transport, rest)) = value.to_str().and_then(|value| value.split_once(':')) else {
            return Self::files(value);
        };
        match transport {
            "docker" => match rest.strip_prefix("//") {
                Some(image) => image.parse().map(Self::Upstream),
                None => Self::files(value),
            },
            "docker-daemon" => rest.parse().map(Self::Engine),
            "oci" | "oci-archive" | "docker-archive" => {
                let (path, image) = match rest.split_once(':') {
                    Some((path, image)) => (path, Some(image.to_owned())),
                    None => (rest, None),
                };
                match (path, image.as_deref()) {
                    ("", _) | (_, Some("")) => Err(format!(
                        "it must name a path, and perhaps an image, as {transport}:PATH or {transport}:PATH:IMAGE"
                    )),
                    (_, Some(image)) if image.starts_with('@') => Err(
                        "an image's number is not supported; name the image, or choose it with --image DIGEST"
                            .to_owned(),
                    ),
                    _ => Ok(Self::Files(path.into(), image)),
                }
            }
            "dir" | "containers-storage" => Err(format!(
                "{transport}: is not supported; copy the image first, with 'skopeo copy {transport}:{rest} \
                 oci-archive:FILE'"
            )),
            _ => Self::files(value),
        }
    }

    fn files(value: OsString) -> Result<Self, String> {
        let text = value.to_str().unwrap_or_default();
        if UpstreamImage::from_str(text).is_ok() && !Path::new(&value).exists() {
            return Err(format!(
                "there is no such file; for an image in another registry, put docker:// before it: \
                 docker://{text}"
            ));
        }
        Ok(Self::Files(value.into(), None))
    }
}

impl FromStr for EngineImage {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        // What docker's names consist of. It becomes a part of a path.
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
        let last = value.rsplit('/').next().unwrap_or_default();
        let is_name = value.bytes().all(is_allowed)
            && !value.split('/').any(|part| part.trim_matches('.').is_empty());
        match is_name && last.contains([':', '@']) {
            true => Ok(Self(value.to_owned())),
            false => Err(
                "it must name an image of the docker engine, as docker-daemon:NAME:TAG, docker-daemon:NAME@DIGEST or \
                 docker-daemon:sha256:ID"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for EngineImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UpstreamImage {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        // A password before the host has an at sign, too.
        let (name, digest) = match value.rsplit_once('@').filter(|(_, rest)| !rest.contains('/')) {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (value, None),
        };
        let (repository, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => (repository, Some(parse_tag(tag)?)),
            None => (name, None),
        };
        // Of a tag and a digest, the digest counts, as everywhere.
        let image = digest.map(ImageId::Digest).or(tag.map(ImageId::Tag)).ok_or(
            "it must name an image, as docker://HOST/NAME:TAG or docker://HOST/NAME@DIGEST",
        )?;
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

/// Takes a platform, such as `linux/arm/v7`.
pub fn platform(value: &str) -> Result<Platform, String> {
    let parts: Vec<_> = value.split('/').map(str::to_ascii_lowercase).collect();
    let platform = match &parts[..] {
        [os, cpu] => Platform::new(os.clone(), cpu.clone(), None),
        [os, cpu, variant] if !variant.is_empty() => {
            Platform::new(os.clone(), cpu.clone(), Some(variant.clone()))
        }
        _ => None,
    };
    platform.ok_or_else(|| "it must be OS/CPU or OS/CPU/VARIANT, such as linux/arm64".to_owned())
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
