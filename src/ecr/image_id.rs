//! `imageIds`: how requests name images, and how answers repeat these names.

use serde::Serialize;

use super::members::failure_reason;
use super::{Error, Members};
use crate::service::ImageName;
use layergate_core::types::{Constraint, Digest, ImageId, ImageTag};

/// The most `imageIds` of a request.
pub(super) const MOST_IMAGES: usize = 100;

/// An image's name, as a request spells it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIdentifier {
    /// The digest of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// One of its tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
}

/// Why a name is invalid.
#[derive(Debug)]
pub(super) enum InvalidImageId {
    /// It has neither a tag nor a digest.
    Empty,
    /// The digest does not satisfy this constraint.
    Digest(Constraint),
    /// The tag does not satisfy this constraint.
    Tag(Constraint),
}

impl InvalidImageId {
    /// The constraint, if the whole request fails.
    pub(super) fn constraint(self) -> Constraint {
        match self {
            Self::Empty => Constraint::TagOrDigest,
            Self::Digest(constraint) | Self::Tag(constraint) => constraint,
        }
    }

    /// The code and the reason, if only this image fails.
    pub(super) fn failure(self) -> (&'static str, String) {
        match self {
            Self::Empty => (
                "MissingDigestAndTag",
                format!("Invalid request parameters: {}", Constraint::TagOrDigest),
            ),
            Self::Digest(constraint) => {
                ("InvalidImageDigest", failure_reason("image digest", constraint))
            }
            Self::Tag(constraint) => ("InvalidImageTag", failure_reason("image tag", constraint)),
        }
    }
}

impl ImageIdentifier {
    /// Takes the names out of a request.
    pub(super) fn read(members: &mut Members) -> Result<Option<Vec<Self>>, Error> {
        let Some(ids) = members.take_list("imageIds")? else { return Ok(None) };
        let read = |mut id: Members| {
            Ok(Self { image_digest: id.take("imageDigest")?, image_tag: id.take("imageTag")? })
        };
        ids.into_iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// The parsed name.
    pub(super) fn parse(&self) -> Result<ImageName, InvalidImageId> {
        let digest = self.image_digest.as_deref().map(Digest::parse).transpose();
        let digest = digest.map_err(InvalidImageId::Digest)?;
        let tag = self.image_tag.as_deref().map(ImageTag::parse).transpose();
        let tag = tag.map_err(InvalidImageId::Tag)?;
        match (tag, digest) {
            (Some(tag), digest) => Ok(ImageName { id: ImageId::Tag(tag), digest }),
            (None, Some(digest)) => Ok(ImageName { id: ImageId::Digest(digest), digest: None }),
            (None, None) => Err(InvalidImageId::Empty),
        }
    }
}
