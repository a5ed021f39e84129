//! Every way a call can fail, named as it is on the wire.

use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use http::StatusCode;

use crate::types::{Constraint, Digest, Repository};

/// A cause that is for the log alone.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failure of DynamoDB or S3.
#[derive(Debug, thiserror::Error)]
#[error(
    "{engine}{}{}{}",
    .status.map(|status| format!(" answered {status}")).unwrap_or_default(),
    .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default(),
    .request_id.as_ref().map(|id| format!(" to request {id}")).unwrap_or_default()
)]
pub struct EngineFault {
    /// Which of them.
    pub engine: &'static str,
    /// The HTTP status, if it answered: all that the answer to a HEAD tells.
    pub status: Option<u16>,
    /// The engine's name for it, if it gave one.
    pub code: Option<String>,
    /// The engine's id of the request, which AWS's support asks for.
    pub request_id: Option<String>,
    /// What the engine says, or else its SDK.
    pub source: Cause,
}

impl EngineFault {
    /// What an SDK could not do.
    pub(crate) fn of<E>(engine: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        Self {
            engine,
            status: error.raw_response().map(|response| response.status().as_u16()),
            code: error.code().map(str::to_owned),
            request_id: error.meta().extra("aws_request_id").map(str::to_owned),
            // One line: the others may repeat the request with its session token, as DynamoDB's do when a
            // signature does not match.
            source: match error.message().and_then(|message| message.lines().next()) {
                Some(message) => message.into(),
                None => error.into(),
            },
        }
    }
}

/// What a call is answered with instead of its output.
///
/// `Display` is the sentence that the client gets. What only the operator may know is in
/// [`source`](StdError::source), for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member of the request breaks its constraint.
    #[error("Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'")]
    InvalidParameter {
        /// The member, as the API spells it.
        member: &'static str,
        /// The rule it breaks.
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
    /// The caller may not read that repository. Says nothing of whether it exists.
    #[error(
        "User: {user} is not authorized to perform: ecr:{operation} on resource: \
         arn:aws:ecr:{region}:{}:repository/{} because no resource-based policy allows the ecr:{operation} action",
        .repository.registry, .repository.name
    )]
    AccessDenied {
        /// The caller's ARN.
        user: String,
        /// The operation it asked for.
        operation: &'static str,
        /// The region that this runs in.
        region: String,
        /// The repository it asked for.
        repository: Repository,
    },
    /// The index throttles, and the retries are spent. SDKs retry by this name.
    #[error("Rate exceeded")]
    Throttling(#[source] Cause),
    /// The request names no operation, or one that this service does not have.
    #[error("{}", match .target {
        Some(target) => format!("The operation in X-Amz-Target is not one of this service's: '{target}'"),
        None => "The request has no X-Amz-Target header, which names the operation".to_owned(),
    })]
    UnknownOperation {
        /// The `X-Amz-Target` header, if there is one.
        target: Option<String>,
    },
    /// The request is not of the protocol's form.
    #[error("{0}")]
    Serialization(String),
    /// A fault on this side. Never to be taken for "there is no such layer".
    #[error("The service could not answer this request because of an internal fault; try again")]
    Server(#[source] Cause),
}

impl Error {
    /// A success of this engine that lacks what every success of it has.
    pub(crate) fn not_an_answer_of(engine: &'static str) -> Self {
        let source = "what came back is not an answer to what it was asked".into();
        Self::Server(Box::new(EngineFault { engine, status: None, code: None, request_id: None, source }))
    }

    /// The error's name on the wire, in `__type` and `x-amzn-ErrorType`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameter { .. } => "InvalidParameterException",
            Self::RepositoryNotFound(_) => "RepositoryNotFoundException",
            Self::LayersNotFound { .. } => "LayersNotFoundException",
            Self::LayerInaccessible { .. } => "LayerInaccessibleException",
            Self::AccessDenied { .. } => "AccessDeniedException",
            Self::Throttling(_) => "ThrottlingException",
            Self::UnknownOperation { .. } => "UnknownOperationException",
            Self::Serialization(_) => "SerializationException",
            Self::Server(_) => "ServerException",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Server(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The cause, with the causes below it, as one line for the log; empty when the sentence says all.
    pub fn cause(&self) -> String {
        let mut chain = Vec::new();
        let mut next = self.source();
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        chain.join(": ")
    }
}
