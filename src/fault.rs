//! Why DynamoDB or S3 could not do what they were asked. What a client is told of it is decided where the API answers,
//! and what a user of the tool is told where the tool ends.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// What a failure was caused by.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failure below the API.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// DynamoDB or S3 failed, or could not be reached.
    #[error(transparent)]
    Backend(Box<BackendFault>),
    /// A record in the table lacks an attribute, or has it in the wrong form.
    #[error("a record in the table has no usable attribute '{0}'")]
    BrokenRecord(&'static str),
    /// The table was written by a version of layergate that arranges its records in another way.
    #[error("{}", match .found {
        Some(found) => format!("the table has layout {found}, and this version of layergate knows layout {known}"),
        None => format!("the table has records and no layout of layergate's; this version knows layout {known}"),
    })]
    ForeignTable {
        /// The layout that the table says it has.
        found: Option<u64>,
        /// The one that this code reads and writes.
        known: u64,
    },
}

/// What the API stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The catalog's.
    DynamoDb,
    /// The store's.
    S3,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DynamoDb => "DynamoDB",
            Self::S3 => "S3",
        })
    }
}

/// A request to DynamoDB or S3 that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{backend}{}{}{}",
    .status.map(|status| format!(" answered {status}")).unwrap_or_default(),
    .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default(),
    .request_id.as_ref().map(|id| format!(" to request {id}")).unwrap_or_default()
)]
pub struct BackendFault {
    /// Which of them.
    pub backend: Backend,
    /// How far the request got.
    pub kind: Kind,
    /// The HTTP status, if there was an answer: all that the answer to a HEAD tells.
    pub status: Option<u16>,
    /// The backend's name for what is wrong, if it gave one.
    pub code: Option<String>,
    /// The backend's id of the request, which AWS's support asks for.
    pub request_id: Option<String>,
    /// What the backend says, or else its SDK.
    pub source: Cause,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was never sent: the backend cannot be reached, or there are no credentials to sign with.
    NotSent,
    /// There was no answer in time.
    TimedOut,
    /// There was an answer that cannot be understood.
    Garbled,
    /// It was refused, or failed at the backend.
    Answered,
}

impl Fault {
    /// What an SDK could not do.
    pub(crate) fn of<E>(backend: Backend, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let kind = match &error {
            SdkError::TimeoutError(_) => Kind::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Kind::TimedOut,
            SdkError::ServiceError(_) => Kind::Answered,
            SdkError::ResponseError(_) => Kind::Garbled,
            _ => Kind::NotSent,
        };
        Self::Backend(Box::new(BackendFault {
            backend,
            kind,
            status: error.raw_response().map(|response| response.status().as_u16()),
            code: error.code().map(str::to_owned),
            request_id: error.meta().extra("aws_request_id").map(str::to_owned),
            // One line: the others may repeat the request with its session token, as DynamoDB's do when a
            // signature does not match.
            source: match error.message().and_then(|message| message.lines().next()) {
                Some(message) => message.into(),
                None => error.into(),
            },
        }))
    }

    /// What could not be sent, or was not waited for to its end.
    pub(crate) fn not_sent(backend: Backend, cause: impl Into<Cause>) -> Self {
        Self::local(backend, Kind::NotSent, cause.into())
    }

    /// A success without a field that every success has: it is somebody else's answer, and must not be read as
    /// "there is nothing".
    pub(crate) fn garbled(backend: Backend) -> Self {
        Self::local(backend, Kind::Garbled, "what came back is not an answer to what was asked".into())
    }

    fn local(backend: Backend, kind: Kind, source: Cause) -> Self {
        Self::Backend(Box::new(BackendFault {
            backend,
            kind,
            status: None,
            code: None,
            request_id: None,
            source,
        }))
    }

    /// Whether the backend refuses because there are too many requests. The SDK's retries are spent.
    ///
    /// Names from [Error handling with DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html).
    pub fn is_throttling(&self) -> bool {
        let Self::Backend(fault) = self else { return false };
        matches!(
            fault.code.as_deref(),
            Some("ProvisionedThroughputExceededException" | "RequestLimitExceeded" | "ThrottlingException")
        )
    }

    /// The failure and what caused it, as one line.
    pub fn with_causes(&self) -> String {
        let mut chain = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            chain = format!("{chain}: {error}");
            next = error.source();
        }
        chain
    }
}
