//! Publishing: bytes into the store, verified, and only then records into the catalog.
//!
//! 1. [`Publishing::announce`] tells cleaners which digests the publishing relies on, and
//!    [`Publishing::wait_for_cleaners`] waits until no cleaner is removing one of them.
//! 2. [`Uploads`] puts the blobs and the manifests into the store, or finds them there.
//! 3. [`Publishing::image`] makes each image visible, the images of an index before the index.
//! 4. [`Publishing::tag`] tags the last one.
//! 5. [`Publishing::end`] takes the announcement back, also if one of the steps has failed.
//!
//! This module does not know where the bytes come from, or who waits for them. [`Uploads`] reads
//! from any reader, and reports what happens as [`Event`]s.

mod blob;
mod upload;

use crate::catalog::{Catalog, Intent, NewImage, PATIENCE_WITH_CLEANERS, PublishError};
use crate::fault::Fault;
use crate::role::Publisher;
use crate::types::{Digest, ImageTag, Repository};

pub use blob::{BlobReader, Verifier, has_digest};
pub use upload::{Event, IfStored, UploadError, Uploads};

/// A publishing whose digests are announced to the cleaners.
#[derive(Debug)]
pub struct Publishing<'a> {
    catalog: &'a Catalog<Publisher>,
    repository: &'a Repository,
    intent: Intent,
}

impl<'a> Publishing<'a> {
    /// Announces the digests that the publishing relies on: those of manifests and of layers. To be
    /// called before anybody looks whether the store has them.
    pub async fn announce(
        catalog: &'a Catalog<Publisher>,
        repository: &'a Repository,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<Self, Fault> {
        let intent = catalog.announce(&repository.registry, digests).await?;
        Ok(Self { catalog, repository, intent })
    }

    /// Waits until no cleaner is removing one of the digests, but not longer than
    /// [`PATIENCE_WITH_CLEANERS`].
    pub async fn wait_for_cleaners(&self) -> Result<(), PublishError> {
        match self.catalog.wait_for_cleaners(&self.intent, PATIENCE_WITH_CLEANERS).await? {
            None => Ok(()),
            Some(claimed) => Err(PublishError::BeingCleaned(claimed)),
        }
    }

    /// Makes an image visible, without a tag. Its bytes must be in the store; the images of an
    /// index must be visible already.
    pub async fn image(&self, image: &NewImage) -> Result<(), PublishError> {
        let Self { catalog, repository, intent } = self;
        let begun = catalog.begin_image(repository, image, intent).await?;
        catalog.add_layers(&begun).await?;
        catalog.name_images(&begun).await?;
        catalog.finish_image(&begun).await
    }

    /// Tags a visible image. The image that had the tag loses it.
    pub async fn tag(&self, image: &Digest, tag: &ImageTag) -> Result<(), PublishError> {
        self.catalog.tag_image(self.repository, image, tag).await
    }

    /// What was announced.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Ends the publishing: nothing more is written. If `service_failed`, AWS is not asked once
    /// more; the announcement then counts for a day, and does no harm.
    pub async fn end(self, service_failed: bool) -> Result<(), Fault> {
        if service_failed { Ok(()) } else { self.catalog.retire(&self.intent).await }
    }
}
