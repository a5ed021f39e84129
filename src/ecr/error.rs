//! Every way a call can fail, named as it is on the wire.

use std::convert::Infallible;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::Context;
use super::image_id::ImageIdentifier;
use super::protocol::{self, LARGEST_RESPONSE};
use crate::service::Refusal;
use layergate_core::catalog::FillFailure;
use layergate_core::fault::{Cause, Fault};
use layergate_core::types::{Constraint, Digest, RegistryId, Repository};

/// Why a call failed.
///
/// `Display` is the sentence for the client. The [`source`](std::error::Error::source) is for the
/// operator, and only logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member of the request does not satisfy its constraint.
    #[error("Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'")]
    InvalidParameter {
        /// The member, as the API spells it.
        member: &'static str,
        /// The constraint.
        constraint: Constraint,
    },
    /// There is no such repository.
    #[error(
        "The repository with name '{}' does not exist in the registry with id '{}'",
        .0.name, .0.registry
    )]
    RepositoryNotFound(Repository),
    /// The repository has no such layer.
    #[error(
        "The layer with digest '{digest}' does not exist within the repository with name '{}' in the registry \
         with id '{}'",
        .repository.name, .repository.registry
    )]
    LayersNotFound {
        /// The layer that was asked for.
        digest: Digest,
        /// Where it was looked for.
        repository: Repository,
    },
    /// The layer is stored, and no image references it.
    #[error(
        "The layer with digest '{digest}' in the repository with name '{}' in the registry with id '{}' is not \
         associated with an image",
        .repository.name, .repository.registry
    )]
    LayerInaccessible {
        /// The layer that was asked for.
        digest: Digest,
        /// Where it was looked for.
        repository: Repository,
    },
    /// The repository has no such image.
    #[error(
        "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name \
         '{}' in the registry with id '{}'",
        .image.image_digest.as_deref().unwrap_or("null"), .image.image_tag.as_deref().unwrap_or("null"),
        .repository.name, .repository.registry
    )]
    ImageNotFound {
        /// The image that was asked for.
        image: ImageIdentifier,
        /// Where it was looked for.
        repository: Repository,
    },
    /// An image references the layer, but the worker could not fetch it from the other registry.
    /// This is ECR's own sentence, and the reason.
    #[error(
        "There was an issue getting the upstream layer matching the pull through cache rule: {0}."
    )]
    UnableToGetUpstreamLayer(FillFailure),
    /// The worker is still fetching an image or a layer. SDKs repeat a call with this error.
    #[error("The {0} is being fetched from the upstream registry; try again")]
    BeingFetched(&'static str),
    /// The answer is too large for one response.
    #[error(
        "The answer would be larger than the {LARGEST_RESPONSE} bytes of a response; ask for less at a time"
    )]
    LimitExceeded,
    /// The caller may not read that repository, which may or may not exist.
    #[error(
        "User: {user} is not authorized to perform: ecr:{operation} on resource: {resource} because no \
         resource-based policy allows the ecr:{operation} action"
    )]
    AccessDenied {
        /// The caller's ARN.
        user: String,
        /// The operation it asked for.
        operation: &'static str,
        /// The ARN of the repository it asked for.
        resource: String,
    },
    /// DynamoDB, S3 or KMS throttled the request, even after all retries. SDKs repeat a call with
    /// this error.
    #[error("Rate exceeded")]
    Throttling(#[source] Cause),
    /// The request names no operation, or one that this service does not have.
    #[error("{}", match .target {
        Some(target) => {
            format!("The operation in X-Amz-Target is not one of this service's: '{target}'")
        }
        None => "The request has no X-Amz-Target header, which names the operation".to_owned(),
    })]
    UnknownOperation {
        /// The `X-Amz-Target` header, if there is one.
        target: Option<String>,
    },
    /// The request names an operation of ECR that only the tool has.
    #[error("This API has no operation {operation}; use the command '{command}'")]
    UseTool {
        /// The operation.
        operation: &'static str,
        /// The command that does the same.
        command: &'static str,
    },
    /// The request does not follow the protocol.
    #[error("{0}")]
    Serialization(String),
    /// The service failed. The message must never mean "there is no such layer".
    #[error("The service could not answer this request because of an internal fault; try again")]
    Server(#[source] Cause),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault.is_throttling() {
            true => Self::Throttling(fault.into()),
            false => Self::Server(fault.into()),
        }
    }
}

impl Error {
    /// The error for a refusal by the service. `missing` makes the error for what is missing.
    pub(super) fn refused<Missing>(
        context: &Context<'_>,
        repository: &Repository,
        refusal: Refusal<Missing>,
        missing: impl FnOnce(Missing) -> Self,
    ) -> Self {
        match refusal {
            Refusal::Denied => {
                let Repository { registry, name } = repository;
                let resource = repository_arn(&context.service.region, registry, name.as_ref());
                Self::access_denied(context, resource)
            }
            Refusal::NoRepository => Self::RepositoryNotFound(repository.clone()),
            Refusal::Missing(thing) => missing(thing),
            Refusal::Fault(fault) => fault.into(),
        }
    }

    /// The error for a refusal of a repository itself.
    pub(super) fn no_access(
        context: &Context<'_>,
        repository: &Repository,
        refusal: Refusal<Infallible>,
    ) -> Self {
        Self::refused(context, repository, refusal, |never| match never {})
    }

    /// The refusal of a caller that may not call an operation on a resource, given by its ARN.
    pub(super) fn access_denied(context: &Context<'_>, resource: String) -> Self {
        let user = context.caller.arn().unwrap_or("anonymous").to_owned();
        Self::AccessDenied { user, operation: context.operation, resource }
    }

    /// The error's name on the wire, in `__type` and `x-amzn-ErrorType`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameter { .. } => "InvalidParameterException",
            Self::RepositoryNotFound(_) => "RepositoryNotFoundException",
            Self::LayersNotFound { .. } => "LayersNotFoundException",
            Self::LayerInaccessible { .. } => "LayerInaccessibleException",
            Self::ImageNotFound { .. } => "ImageNotFoundException",
            Self::UnableToGetUpstreamLayer(_) => "UnableToGetUpstreamLayerException",
            Self::BeingFetched(_) => "ThrottlingException",
            Self::LimitExceeded => "LimitExceededException",
            Self::AccessDenied { .. } => "AccessDeniedException",
            Self::Throttling(_) => "ThrottlingException",
            Self::UnknownOperation { .. } | Self::UseTool { .. } => "UnknownOperationException",
            Self::Serialization(_) => "SerializationException",
            Self::Server(_) => "ServerException",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Server(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The response.
    pub fn response(&self) -> Response<String> {
        let body = json!({"__type": self.code(), "message": self.to_string()}).to_string();
        let mut response = protocol::response(self.status(), body);
        let error_type = HeaderName::from_static("x-amzn-errortype");
        response.headers_mut().insert(error_type, HeaderValue::from_static(self.code()));
        response
    }
}

/// The ARN of a repository, or of all repositories of a registry if `name` is `*`.
pub(super) fn repository_arn(region: &str, registry: &RegistryId, name: &str) -> String {
    format!("arn:{}:ecr:{region}:{registry}:repository/{name}", partition(region))
}

/// The partition of AWS that a region is in, as ARNs spell it.
/// Source: [AWS
/// partitions](https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html),
/// and the regions' names in the SDKs' `partitions.json`.
fn partition(region: &str) -> &'static str {
    const BY_PREFIX: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    let found = BY_PREFIX.iter().find(|(prefix, _)| region.starts_with(prefix));
    found.map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_of_the_regions_partition() {
        let cases = [
            ("us-east-1", "aws"),
            ("eu-central-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
            ("eusc-de-east-1", "aws-eusc"),
        ];
        for (region, expected) in cases {
            assert_eq!(partition(region), expected, "{region}");
        }
    }
}
