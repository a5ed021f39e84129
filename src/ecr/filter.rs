//! `filter`: which images of a repository are listed.

use super::{Error, Members};
use layergate_core::catalog::page::ImageFilter;
use layergate_core::types::Constraint;

/// The member, not yet parsed.
#[derive(Default)]
pub(super) struct Filter {
    tag_status: Option<String>,
    image_status: Option<String>,
}

impl Filter {
    /// Takes the member out.
    pub(super) fn read(members: &mut Members) -> Result<Self, Error> {
        let Some(mut filter) = members.take::<Members>("filter")? else {
            return Ok(Self::default());
        };
        Ok(Self {
            tag_status: filter.take("tagStatus")?,
            image_status: filter.take("imageStatus")?,
        })
    }

    /// Which images to list. All images are active here, because there is no archive as in ECR.
    pub(super) fn parse(self) -> Result<ImageFilter, Error> {
        let invalid = |member, values| {
            Err(Error::InvalidParameter { member, constraint: Constraint::OneOf(values) })
        };
        let filter = match self.tag_status.as_deref() {
            None | Some("ANY") => ImageFilter::All,
            Some("TAGGED") => ImageFilter::Tagged,
            Some("UNTAGGED") => ImageFilter::Untagged,
            Some(_) => return invalid("filter.tagStatus", "TAGGED, UNTAGGED, ANY"),
        };
        match self.image_status.as_deref() {
            None | Some("ACTIVE" | "ANY") => Ok(filter),
            Some("ARCHIVED" | "ACTIVATING") => Ok(ImageFilter::Nothing),
            Some(_) => invalid("filter.imageStatus", "ACTIVE, ARCHIVED, ACTIVATING, ANY"),
        }
    }
}
