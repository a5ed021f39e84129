//! Responses: redirects and JSON.

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::error::Error;
use layergate_core::types::{Digest, DownloadUrl};

/// Redirects to the content with this digest.
pub(super) fn redirect(url: &DownloadUrl, digest: &Digest) -> Result<Response<String>, Error> {
    let mut response = temporary_redirect(url.reveal())?;
    digest_header(&mut response, digest)?;
    Ok(response)
}

/// Adds the digest of the content.
pub(super) fn digest_header(response: &mut Response<String>, digest: &Digest) -> Result<(), Error> {
    let digest = header_value(&digest.canonical())?;
    response.headers_mut().insert(HeaderName::from_static("docker-content-digest"), digest);
    Ok(())
}

/// Redirects with 307, because the client must keep the method.
pub(super) fn temporary_redirect(location: &str) -> Result<Response<String>, Error> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, header_value(location)?);
    name_the_protocol(response.headers_mut());
    Ok(response)
}

pub(super) fn json(body: String) -> Response<String> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    name_the_protocol(response.headers_mut());
    response
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|error| Error::Server(error.into()))
}

/// Older clients require this header from a registry.
/// Source: the specification's section "Legacy Docker support HTTP headers".
fn name_the_protocol(headers: &mut HeaderMap) {
    let name = HeaderName::from_static("docker-distribution-api-version");
    headers.insert(name, HeaderValue::from_static("registry/2.0"));
}
