//! Publishing: bytes into the store, verified, and only then records into the catalog.
//!
//! Where the bytes come from is not known here, nor who waits for them: [`Uploads`] reads them from any reader, and
//! tells what happens to whoever wants to know.

mod blob;
mod upload;

use crate::catalog::{Catalog, NewImage, PublishError};
use crate::types::Repository;

pub use blob::{BlobReader, Verifier};
pub use upload::{Event, UploadError, Uploads};

/// Makes an image visible whose bytes are in the store; without a tag. Where it is an index, its images were made
/// visible before.
pub async fn image(catalog: &Catalog, repository: &Repository, image: &NewImage) -> Result<(), PublishError> {
    let begun = catalog.begin_image(repository, image).await?;
    catalog.add_layers(&begun).await?;
    catalog.name_images(&begun).await?;
    catalog.finish_image(&begun).await
}
