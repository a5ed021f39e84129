//! Every way a request to the registry can fail.

use http::header::ALLOW;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::response;
use crate::service::Refusal;
use layergate_core::catalog::FillFailure;
use layergate_core::fault::{Cause, Fault};
use layergate_core::types::{Constraint, Digest, ImageId, Repository};

/// Why a request failed.
///
/// `Display` is the sentence for the client, which shows it to its user. The
/// [`source`](std::error::Error::source) is for the operator, and only logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request has no token, or none of this registry.
    #[error("The request has no valid authorization token. Log in and try again")]
    Unauthorized,
    /// The token has expired. This is ECR's own sentence, from its answers.
    #[error("Your authorization token has expired. Reauthenticate and try again.")]
    TokenExpired,
    /// The caller may not read that repository, which may or may not exist.
    #[error(
        "The caller is not authorized to read the repository with name '{}' in the registry with id '{}'",
        .0.name, .0.registry
    )]
    Denied(Repository),
    /// The request's method writes.
    #[error(
        "This registry only answers GET and HEAD; push through 'layergate proxy', or use 'layergate publish'"
    )]
    ReadOnly,
    /// No route matches the path.
    #[error("This registry has nothing at this path: it has only manifests, blobs and tags")]
    NoSuchEndpoint,
    /// The repository's name is invalid.
    #[error("The repository's name {0}")]
    NameInvalid(Constraint),
    /// The digest is invalid.
    #[error("The digest {0}")]
    DigestInvalid(Constraint),
    /// The tag is invalid, so no image has it.
    #[error("The tag {0}")]
    TagInvalid(Constraint),
    /// `n` is not a number, or `last` is not a tag.
    #[error("'n' must be a whole number and 'last' a tag")]
    PageInvalid,
    /// There is no such repository.
    #[error(
        "The repository with name '{}' does not exist in the registry with id '{}'",
        .0.name, .0.registry
    )]
    NameUnknown(Repository),
    /// The repository has no such image.
    #[error(
        "The image {} does not exist within the repository with name '{}' in the registry with id '{}'",
        match .image {
            ImageId::Tag(tag) => format!("with tag '{tag}'"),
            ImageId::Digest(digest) => format!("with digest '{digest}'"),
        },
        .repository.name, .repository.registry
    )]
    ManifestUnknown {
        /// The image that was asked for.
        image: ImageId,
        /// Where it was looked for.
        repository: Repository,
    },
    /// The repository has no such layer, or no image that references it.
    #[error(
        "The layer with digest '{digest}' {} the repository with name '{}' in the registry with id '{}'",
        match .is_known {
            true => "is not associated with an image in",
            false => "does not exist within",
        },
        .repository.name, .repository.registry
    )]
    BlobUnknown {
        /// Whether the repository has it.
        is_known: bool,
        /// The layer that was asked for.
        digest: Digest,
        /// Where it was looked for.
        repository: Repository,
    },
    /// The worker could not fetch the image or the layer from the other registry.
    #[error(
        "There was an issue getting this from the upstream registry of the pull-through cache rule: {0}"
    )]
    Upstream(FillFailure),
    /// The worker is still fetching the image or the layer after the longest time of a request.
    #[error("This is being fetched from the upstream registry; try again")]
    BeingFetched,
    /// DynamoDB or KMS throttled the request, even after all retries.
    #[error("Rate exceeded")]
    TooManyRequests(#[source] Cause),
    /// The service failed. The message must never mean "there is no such image".
    #[error("The service could not answer this request because of an internal fault; try again")]
    Server(#[source] Cause),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault.is_throttling() {
            true => Self::TooManyRequests(fault.into()),
            false => Self::Server(fault.into()),
        }
    }
}

impl Error {
    /// The error for a refusal by the service. `missing` makes the error for what is missing.
    pub(super) fn refused<Missing>(
        repository: &Repository,
        refusal: Refusal<Missing>,
        missing: impl FnOnce(Missing) -> Self,
    ) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied(repository.clone()),
            Refusal::NoRepository => Self::NameUnknown(repository.clone()),
            Refusal::Missing(thing) => missing(thing),
            Refusal::Fault(fault) => fault.into(),
        }
    }

    /// The error's name on the wire.
    /// Source: the specification's section "Error Codes"; `PAGINATION_NUMBER_INVALID` and `UNKNOWN`
    /// are those of the registry that the specification was made from,
    /// [distribution](https://github.com/distribution/distribution/blob/v3.0.0/registry/api/errcode/register.go).
    pub fn code(&self) -> &'static str {
        self.code_and_status().0
    }

    fn code_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
            Self::TokenExpired | Self::Denied(_) => ("DENIED", StatusCode::FORBIDDEN),
            Self::ReadOnly => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Self::NoSuchEndpoint => ("UNSUPPORTED", StatusCode::NOT_FOUND),
            Self::NameInvalid(_) => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Self::DigestInvalid(_) => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Self::NameUnknown(_) => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Self::TagInvalid(_) | Self::ManifestUnknown { .. } => {
                ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND)
            }
            Self::BlobUnknown { .. } => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            // Not a 5xx status: the failure of an upstream is not a failure of this service.
            Self::Upstream(failure) => match failure {
                FillFailure::NotFound => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
                FillFailure::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
                FillFailure::TooManyRequests => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
                FillFailure::AccessDenied | FillFailure::SecretUnusable | FillFailure::NoRule => {
                    ("DENIED", StatusCode::FORBIDDEN)
                }
                _ => ("UNKNOWN", StatusCode::FAILED_DEPENDENCY),
            },
            Self::BeingFetched => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
            Self::TooManyRequests(_) => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
            Self::PageInvalid => ("PAGINATION_NUMBER_INVALID", StatusCode::BAD_REQUEST),
            Self::Server(_) => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The response. For HEAD it has no body.
    pub fn response(&self, is_head: bool) -> Response<String> {
        let (code, status) = self.code_and_status();
        let error =
            json!({"errors": [{"code": code, "message": self.to_string(), "detail": null}]});
        let mut response = response::json(if is_head { String::new() } else { error.to_string() });
        *response.status_mut() = status;
        if matches!(self, Self::ReadOnly) {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
