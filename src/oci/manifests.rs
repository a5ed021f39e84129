//! Section "Pulling manifests" of the specification.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use super::error::Error;
use super::response::{digest_header, header_value, json, redirect};
use super::route::Call;
use crate::pull_through::WAIT_OF_REGISTRY;
use crate::service::MissingImage;
use layergate_core::catalog::FillFailure;
use layergate_core::config::ManifestHead;

/// The largest manifest that is answered, in bytes; a larger one is redirected to. Lambda takes an
/// answer of 6 MB, and in JSON each quotation mark of the manifest is two bytes.
/// Source: [Lambda
/// quotas](https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const LARGEST_ANSWER: u64 = 2_900_000;

/// Answers with a manifest. Many clients need its digest beside it, which S3 does not send.
pub(super) async fn get(mut call: Call<'_>) -> Result<Response<String>, Error> {
    let (repository, id) = call.image()?;
    let service = call.service;
    let image = match service.image(call.caller, &repository, &id, WAIT_OF_REGISTRY).await {
        Ok(image) => image,
        Err(refusal) => {
            return Err(Error::refused(&repository, refusal, |missing| match missing {
                MissingImage::NotYet => Error::BeingFetched,
                MissingImage::Upstream(failure) if failure != FillFailure::NotFound => {
                    Error::Upstream(failure)
                }
                MissingImage::Absent | MissingImage::Upstream(_) => {
                    Error::ManifestUnknown { image: id, repository: repository.clone() }
                }
            }));
        }
    };
    let is_head = call.request.method == Method::HEAD;
    let is_answered = match is_head {
        true => service.manifest_head == ManifestHead::Answer,
        false => image.manifest_size <= LARGEST_ANSWER,
    };
    if !is_answered {
        let url = service.manifest_url(&repository, &image, call.download_method()).await?;
        return redirect(&url, &image.digest);
    }
    let body = match is_head {
        true => String::new(),
        false => match service.manifest(&repository, &image).await {
            Ok(manifest) => manifest.as_ref().to_owned(),
            // The client may reach S3 where the function does not, as in sam local.
            Err(fault) => {
                tracing::warn!(cause = fault.with_causes(), "a manifest could not be read");
                let url = service.manifest_url(&repository, &image, call.download_method()).await?;
                return redirect(&url, &image.digest);
            }
        },
    };
    let mut response = json(body);
    digest_header(&mut response, &image.digest)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, header_value(&image.media_type)?);
    if is_head {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(image.manifest_size));
    }
    Ok(response)
}
