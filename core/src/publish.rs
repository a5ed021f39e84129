//! Publishing: bytes into the store, verified, and only then records into the catalog.
//!
//! This module does not know where the bytes come from, or who waits for them. [`Uploads`] reads
//! from any reader, and reports what happens as [`Event`]s.

mod blob;
mod upload;

use crate::catalog::{Catalog, Intent, NewImage, PublishError};
use crate::types::Repository;

pub use blob::{BlobReader, Verifier};
pub use upload::{Event, UploadError, Uploads};

/// Makes an image visible, without a tag. Its bytes must be in the store; the images of an index
/// must be visible already. `intent` names the image's manifest and its layers, and was announced
/// before anybody looked whether the store has them.
pub async fn image(
    catalog: &Catalog,
    repository: &Repository,
    image: &NewImage,
    intent: &Intent,
) -> Result<(), PublishError> {
    let begun = catalog.begin_image(repository, image, intent).await?;
    catalog.add_layers(&begun).await?;
    catalog.name_images(&begun).await?;
    catalog.finish_image(&begun).await
}
