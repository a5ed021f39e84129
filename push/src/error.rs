//! Every way a push can fail, and the responses.

use std::io;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use layergate_core::catalog::PublishError;
use layergate_core::fault::{Cause, Fault};
use layergate_core::publish::UploadError;
use layergate_core::types::{Constraint, Digest, Repository};
use layergate_upstream::manifest;
use serde_json::json;

/// What a pusher is answered with instead of success.
///
/// `Display` is the sentence that the pusher's client shows to its user. The cause of a
/// [`Server`](Self::Server) error is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A repository's name breaks its constraint.
    #[error("The repository's name {0}")]
    NameInvalid(Constraint),
    /// There is no such repository.
    #[error(
        "The repository '{name}' does not exist in registry {registry}; create it with 'layergate repository \
         create {name}', or start the proxy with --create-repositories",
        name = .0.name, registry = .0.registry
    )]
    NameUnknown(Repository),
    /// The repository is being deleted.
    #[error("The repository '{}' is being deleted; push again when that has ended", .0.name)]
    RepositoryDeleted(Repository),
    /// A digest breaks its constraint.
    #[error("The digest {0}")]
    DigestInvalid(Constraint),
    /// Nobody can compute such a digest.
    #[error("The digest '{0:.200}' cannot be verified; it must be a sha256 or sha512 digest")]
    DigestUnsupported(Digest),
    /// The bytes do not have the digest.
    #[error("The bytes that arrived do not have the digest that the client says; push again")]
    WrongDigest,
    /// The request that ends an upload has no digest.
    #[error("The request that ends an upload must have the query parameter 'digest'")]
    NoDigest,
    /// A tag breaks its constraint.
    #[error("The tag {0}")]
    TagInvalid(Constraint),
    /// There is no such upload, or it has ended.
    #[error("There is no such upload; it has ended, or nothing arrived for an hour. Push again")]
    UploadUnknown,
    /// Another request is sending to the upload.
    #[error("Another request is still sending to this upload; try again")]
    UploadBusy,
    /// There are too many uploads at once.
    #[error("Too many uploads are under way; try again later")]
    TooManyUploads,
    /// A chunk does not begin where the upload ends.
    #[error("The chunk does not begin where the upload ends")]
    OutOfOrder,
    /// A chunk's range is none, or not that of the body.
    #[error("'Content-Range' must be FIRST-LAST, and as long as the body")]
    RangeInvalid,
    /// The body broke off.
    #[error("The request's body broke off")]
    BrokenOff,
    /// A manifest has more bytes than this.
    #[error("The manifest has more than {0} bytes")]
    ManifestTooLarge(usize),
    /// A manifest cannot be used.
    #[error("The manifest {0}")]
    ManifestInvalid(#[from] manifest::Error),
    /// An image names more than its record can hold.
    #[error(
        "The manifest names more layers or images than an image's record can hold (about 4,900)"
    )]
    TooManyParts,
    /// The registry lacks a blob that the manifest names.
    #[error(
        "The registry does not have the blob {0} that the manifest names; push the image again"
    )]
    BlobUnknown(Digest),
    /// A blob has another size than the manifest says.
    #[error("The blob {digest} has {found} bytes, and the manifest says {named}")]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// How many bytes it has.
        found: u64,
        /// How many the manifest says.
        named: u64,
    },
    /// The repository lacks an image that the index names.
    #[error(
        "The repository does not have the image {0} that the index names; push that image first"
    )]
    ImageUnknown(Digest),
    /// The image, or one of an index's images, is being deleted.
    #[error(
        "The image {0}, or one of its images, is being deleted; push again when that has ended"
    )]
    ImageDeleted(Digest),
    /// A cleaner removes what the manifest names.
    #[error("A cleaner is removing {0}, which the manifest names; push again in a minute")]
    BeingCleaned(Digest),
    /// There is no image with that tag or digest.
    #[error("The repository '{}' has no such image", .0.name)]
    ManifestUnknown(Repository),
    /// An index names the image.
    #[error("The index {0} names this image; delete the index first")]
    PartOfIndex(Digest),
    /// A client wants to delete a blob.
    #[error(
        "Blobs cannot be deleted; delete their images, and 'layergate clean' removes the blobs"
    )]
    BlobsAreCleaned,
    /// The upload's temporary file cannot be written.
    #[error("{}", match .0.kind() {
        io::ErrorKind::StorageFull => "The disk of the registry's proxy is full; set TMPDIR to where there is room".to_owned(),
        _ => format!("The registry's proxy cannot keep the upload in a temporary file: {}", .0),
    })]
    Spool(#[from] io::Error),
    /// AWS throttles, even after all retries.
    #[error("AWS has too many requests; push again later")]
    TooManyRequests(#[source] Cause),
    /// A failure on the side of the registry.
    #[error("{0}")]
    Server(Fault),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault.is_throttling() {
            true => Self::TooManyRequests(fault.into()),
            false => Self::Server(fault),
        }
    }
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Fault(fault) => fault.into(),
            UploadError::Unreadable(error) => Self::Spool(error),
            UploadError::Corrupt | UploadError::Unverifiable => Self::WrongDigest,
            UploadError::TooLarge(_) | UploadError::Stopped => Self::Spool(io::Error::other(error)),
        }
    }
}

impl Error {
    /// The error for what could not be published into a repository.
    pub(crate) fn unpublished(repository: &Repository, error: PublishError) -> Self {
        match error {
            PublishError::NoRepository => Self::NameUnknown(repository.clone()),
            PublishError::RepositoryDeleted => Self::RepositoryDeleted(repository.clone()),
            PublishError::ImageDeleted(image) => Self::ImageDeleted(image),
            PublishError::BeingCleaned(claimed) => Self::BeingCleaned(claimed.digest),
            // A cleaner gives up a publishing after a day, and a push announces for seconds.
            PublishError::GivenUp => Self::BrokenOff,
            PublishError::Fault(fault) => fault.into(),
        }
    }

    /// The error's name on the wire, and its status.
    /// Source: the specification's section "Error Codes".
    fn code_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::NameInvalid(_) => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Self::NameUnknown(_) => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Self::DigestInvalid(_)
            | Self::DigestUnsupported(_)
            | Self::WrongDigest
            | Self::NoDigest => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Self::TagInvalid(_) | Self::ManifestInvalid(_) | Self::TooManyParts => {
                ("MANIFEST_INVALID", StatusCode::BAD_REQUEST)
            }
            Self::ManifestTooLarge(_) => ("MANIFEST_INVALID", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Self::UploadBusy => ("BLOB_UPLOAD_INVALID", StatusCode::CONFLICT),
            Self::OutOfOrder => ("BLOB_UPLOAD_INVALID", StatusCode::RANGE_NOT_SATISFIABLE),
            Self::RangeInvalid | Self::BrokenOff => {
                ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST)
            }
            Self::BlobUnknown(_) | Self::ImageUnknown(_) => {
                ("MANIFEST_BLOB_UNKNOWN", StatusCode::NOT_FOUND)
            }
            Self::BlobSize { .. } => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestUnknown(_) => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Self::RepositoryDeleted(_)
            | Self::ImageDeleted(_)
            | Self::BeingCleaned(_)
            | Self::PartOfIndex(_) => ("DENIED", StatusCode::CONFLICT),
            Self::BlobsAreCleaned => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Self::TooManyUploads | Self::TooManyRequests(_) => {
                ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Spool(_) => ("UNKNOWN", StatusCode::INSUFFICIENT_STORAGE),
            Self::Server(_) => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The response that tells the pusher. That of a HEAD has no body.
    pub(crate) fn response(&self, is_head: bool) -> Response {
        let (code, status) = self.code_and_status();
        match self {
            Self::Server(fault) => {
                tracing::error!(outcome = code, cause = fault.with_causes(), "push");
            }
            Self::Spool(error) => tracing::error!(outcome = code, cause = %error, "push"),
            _ => tracing::info!(outcome = code, "push"),
        }
        let error =
            json!({"errors": [{"code": code, "message": self.to_string(), "detail": null}]});
        let mut response = empty(status);
        if !is_head {
            *response.body_mut() = Body::from(error.to_string());
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        if matches!(self, Self::BlobsAreCleaned) {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let version = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    response
}

pub(crate) fn header_value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|error| Error::Spool(io::Error::other(error)))
}

/// Adds the digest of the content that a response is about.
pub(crate) fn digest_header(response: &mut Response, digest: &Digest) -> Result<(), Error> {
    let digest = header_value(&digest.canonical())?;
    response.headers_mut().insert("docker-content-digest", digest);
    Ok(())
}
