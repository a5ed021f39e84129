//! Section "Pulling blobs" of the specification.

use http::Response;

use super::Error;
use super::response::redirect;
use super::route::Call;
use crate::pull_through::WAIT_OF_REGISTRY;
use crate::service::MissingLayer;

/// Redirects to a layer.
pub(super) async fn get(mut call: Call<'_>) -> Result<Response<String>, Error> {
    let (repository, digest) = call.digest()?;
    let method = call.download_method();
    match call.service.layer_url(call.caller, &repository, &digest, method, WAIT_OF_REGISTRY).await
    {
        Ok(url) => redirect(&url, &digest),
        Err(refusal) => Err(Error::refused(&repository, refusal, |missing| {
            let repository = repository.clone();
            match missing {
                MissingLayer::NotYet => Error::BeingFetched,
                MissingLayer::Upstream(failure) => Error::Upstream(failure),
                MissingLayer::Absent => Error::BlobUnknown { is_known: false, digest, repository },
                MissingLayer::NotReferenced => {
                    Error::BlobUnknown { is_known: true, digest, repository }
                }
            }
        })),
    }
}
