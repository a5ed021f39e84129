//! Section "Pulling manifests" of the specification.

use http::Response;

use super::Error;
use super::response::redirect;
use super::route::Call;
use crate::pull_through::WAIT_OF_REGISTRY;
use crate::service::MissingImage;
use layergate_core::catalog::FillFailure;

/// Redirects to a manifest.
pub(super) async fn get(mut call: Call<'_>) -> Result<Response<String>, Error> {
    let (repository, image) = call.image()?;
    let method = call.download_method();
    match call
        .service
        .manifest_url(call.caller, &repository, &image, method, WAIT_OF_REGISTRY)
        .await
    {
        Ok((digest, url)) => redirect(&url, &digest),
        Err(refusal) => Err(Error::refused(&repository, refusal, |missing| match missing {
            MissingImage::NotYet => Error::BeingFetched,
            MissingImage::Upstream(failure) if failure != FillFailure::NotFound => {
                Error::Upstream(failure)
            }
            MissingImage::Absent | MissingImage::Upstream(_) => {
                Error::ManifestUnknown { image, repository: repository.clone() }
            }
        })),
    }
}
