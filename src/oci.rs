//! The registry protocol, as far as it reads: what docker, containerd, podman and others pull with.
//!
//! No content passes through: a manifest or a layer is answered with a redirect to its object in S3. A HEAD is redirected
//! too, since a gateway is not to be trusted with the length of a body that it does not see.
//!
//! Source: [OCI Distribution Specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md).

mod error;
mod route;
mod tags;

use std::time::SystemTime;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::access::Caller;
use crate::access::token::{self, Refused};
use crate::pull_through::WAIT_OF_REGISTRY;
use crate::service::{MissingImage, MissingLayer, Service};
use layergate_core::catalog::FillFailure;
use layergate_core::logging::Subject;
use layergate_core::store::Method;
use layergate_core::types::{Digest, DownloadUrl, ImageId, Repository};
use route::Route;

pub use error::Error;

/// A request, with what may be asked of the registry. Has no `Debug`, because it has credentials in it.
pub struct Request<'a> {
    /// Its method.
    pub method: &'a http::Method,
    /// Its path, without the leading `/v2`.
    pub path: &'a str,
    /// The query's `n`: how many tags are wanted.
    pub n: Option<&'a str>,
    /// The query's `last`: the tag after which to go on.
    pub last: Option<&'a str>,
    /// The query's `waited`: how often the client was sent here again, because what it asks for is on its way.
    pub waited: Option<&'a str>,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
}

/// Answers a request. The token is looked at first: without a good one, nothing tells what the registry has.
pub async fn call(
    service: &Service,
    request: &Request<'_>,
    subject: &mut Subject,
) -> Result<Response<String>, Error> {
    let caller = authenticate(service, request.authorization).await?;
    subject.caller = caller.arn().map(str::to_owned);
    let method = match *request.method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        _ => return Err(Error::ReadOnly),
    };
    match respond(service, &caller, method, request, subject).await {
        Err(Error::BeingFetched) => ask_again(request),
        outcome => outcome,
    }
}

async fn respond(
    service: &Service,
    caller: &Caller,
    method: Method,
    request: &Request<'_>,
    subject: &mut Subject,
) -> Result<Response<String>, Error> {
    let mut response = match Route::parse(request.path, &service.default_registry_id)? {
        Route::Base => {
            subject.operation = Some("CheckApi");
            json("{}".to_owned())
        }
        Route::Manifest(repository, image) => {
            subject.operation = Some("GetManifest");
            subject.repository = Some(repository.clone());
            match &image {
                ImageId::Digest(digest) => subject.digest = Some(digest.clone()),
                ImageId::Tag(tag) => subject.tag = Some(tag.clone()),
            }
            manifest(service, caller, &repository, &image, method).await?
        }
        Route::Blob(repository, digest) => {
            subject.operation = Some("GetBlob");
            subject.repository = Some(repository.clone());
            subject.digest = Some(digest.clone());
            blob(service, caller, &repository, &digest, method).await?
        }
        Route::Tags(repository) => {
            subject.operation = Some("ListTags");
            subject.repository = Some(repository.clone());
            tags::list(service, caller, &repository, request).await?
        }
    };
    if method == Method::Head {
        response.body_mut().clear();
    }
    Ok(response)
}

/// Sends a client to the same place again, a few times: most clients take an error for the end of their pull, and all follow ten
/// redirects, the last of which leads to S3.
fn ask_again(request: &Request<'_>) -> Result<Response<String>, Error> {
    const MOST_TIMES: u8 = 8;
    let times = request.waited.and_then(|waited| waited.parse().ok()).unwrap_or(0);
    if times >= MOST_TIMES {
        return Err(Error::BeingFetched);
    }
    // Relative, so that the stage and whatever else is before the path stay.
    temporary_redirect(&format!("?waited={}", times + 1))
}

/// Who sends a request. Only a token tells: the gateway knows nobody here.
async fn authenticate(service: &Service, authorization: Option<&str>) -> Result<Caller, Error> {
    let tokens = service.tokens.as_ref().ok_or(Error::Unauthorized)?;
    let token = authorization.and_then(token::from_basic_credentials).ok_or(Error::Unauthorized)?;
    tokens.verify(&token, SystemTime::now()).await.map_err(|refused| match refused {
        Refused::NotAToken => Error::Unauthorized,
        Refused::Expired => Error::TokenExpired,
        Refused::Fault(fault) => fault.into(),
    })
}

/// Section "Pulling manifests" of the specification.
async fn manifest(
    service: &Service,
    caller: &Caller,
    repository: &Repository,
    image: &ImageId,
    method: Method,
) -> Result<Response<String>, Error> {
    match service.manifest_url(caller, repository, image, method, WAIT_OF_REGISTRY).await {
        Ok((digest, url)) => redirect(&url, &digest),
        Err(refusal) => Err(Error::refused(repository, refusal, |missing| match missing {
            MissingImage::NotYet => Error::BeingFetched,
            MissingImage::Upstream(failure) if failure != FillFailure::NotFound => Error::Upstream(failure),
            MissingImage::Absent | MissingImage::Upstream(_) => {
                Error::ManifestUnknown { image: image.clone(), repository: repository.clone() }
            }
        })),
    }
}

/// Section "Pulling blobs" of the specification.
async fn blob(
    service: &Service,
    caller: &Caller,
    repository: &Repository,
    digest: &Digest,
    method: Method,
) -> Result<Response<String>, Error> {
    match service.layer_url(caller, repository, digest, method, WAIT_OF_REGISTRY).await {
        Ok(url) => redirect(&url, digest),
        Err(refusal) => Err(Error::refused(repository, refusal, |missing| match missing {
            MissingLayer::NotYet => Error::BeingFetched,
            MissingLayer::Upstream(failure) => Error::Upstream(failure),
            MissingLayer::Absent | MissingLayer::NotReferenced => Error::BlobUnknown {
                is_known: matches!(missing, MissingLayer::NotReferenced),
                digest: digest.clone(),
                repository: repository.clone(),
            },
        })),
    }
}

/// 307, because a client must ask the other place with the same method.
fn redirect(url: &DownloadUrl, digest: &Digest) -> Result<Response<String>, Error> {
    let mut response = temporary_redirect(url.reveal())?;
    let digest = header_value(&digest.canonical())?;
    response.headers_mut().insert(HeaderName::from_static("docker-content-digest"), digest);
    Ok(response)
}

fn temporary_redirect(location: &str) -> Result<Response<String>, Error> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, header_value(location)?);
    name_the_protocol(response.headers_mut());
    Ok(response)
}

fn header_value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|error| Error::Server(error.into()))
}

fn json(body: String) -> Response<String> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    name_the_protocol(response.headers_mut());
    response
}

/// Older clients want this header from everything that calls itself a registry.
/// Source: the specification's section "Legacy Docker support HTTP headers".
fn name_the_protocol(headers: &mut HeaderMap) {
    let name = HeaderName::from_static("docker-distribution-api-version");
    headers.insert(name, HeaderValue::from_static("registry/2.0"));
}
