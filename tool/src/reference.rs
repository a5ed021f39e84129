//! `REPOSITORY[:TAG]` and `REPOSITORY@DIGEST`, as they are typed.

use std::str::FromStr;

use layergate::catalog::ImageId;
use layergate::types::{AccountId, Digest, ImageTag, RepositoryName};

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
            let digest = Digest::parse(digest).map_err(|constraint| format!("the digest {constraint}"))?;
            (repository, ImageId::Digest(digest))
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
