//! Why a request to one of AWS's services failed. The API's function decides what it tells a client
//! about it, and the tool what it tells its user.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// The cause of a failure.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failure below the API.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The service failed, or could not be reached.
    #[error(transparent)]
    Backend(Box<BackendFault>),
    /// A record in the table lacks an attribute, or the attribute is in the wrong form.
    #[error("a record in the table has no usable attribute '{0}'")]
    BrokenRecord(&'static str),
    /// The worker did not do what it was asked for.
    #[error("the worker failed; its log has the cause")]
    WorkerFailed,
    /// The table was written by a version of layergate that arranges its records in another way.
    #[error("{}", match .found {
        Some(found) => format!("the table has layout {found}, and this version of layergate knows layout {known}"),
        None => format!("the table has records and no layout of layergate's; this version knows layout {known}"),
    })]
    ForeignTable {
        /// The layout that the table says it has.
        found: Option<u64>,
        /// The layout that this code reads and writes.
        known: u64,
    },
    /// The table does not belong to the bucket of the settings.
    #[error("{}", match .recorded {
        Some(recorded) => format!("the table belongs to the bucket '{recorded}', and BUCKET_NAME is '{configured}'"),
        None => format!("the table does not say that it belongs to the bucket '{configured}'"),
    })]
    OtherBucket {
        /// The bucket that the table says it belongs to; `None` if an earlier build wrote the table,
        /// and nothing was published since.
        recorded: Option<String>,
        /// The bucket of the settings.
        configured: String,
    },
}

/// A service of AWS that this is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Holds the catalog.
    DynamoDb,
    /// Holds the layers.
    S3,
    /// Holds the key of the registry's tokens.
    Kms,
    /// Runs the worker.
    Lambda,
    /// Holds the credentials for other registries.
    SecretsManager,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DynamoDb => "DynamoDB",
            Self::S3 => "S3",
            Self::Kms => "KMS",
            Self::Lambda => "Lambda",
            Self::SecretsManager => "Secrets Manager",
        })
    }
}

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{backend}{}{}{}",
    .status.map(|status| format!(" answered {status}")).unwrap_or_default(),
    .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default(),
    .request_id.as_ref().map(|id| format!(" to request {id}")).unwrap_or_default()
)]
pub struct BackendFault {
    /// Which of the services.
    pub backend: Backend,
    /// How far the request got.
    pub kind: Kind,
    /// The HTTP status, if there was an answer. The answer to a HEAD has no body, and so nothing
    /// but the status.
    pub status: Option<u16>,
    /// The backend's name for what is wrong, if it gave one.
    pub code: Option<String>,
    /// The backend's id of the request, which AWS's support asks for.
    pub request_id: Option<String>,
    /// What the backend says; or, if it says nothing, what its SDK says.
    pub source: Cause,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was never sent: there are no credentials to sign it with.
    NotSigned,
    /// It was never sent, because the backend cannot be reached; or its connection broke before an
    /// answer came.
    NotSent,
    /// There was no answer in time.
    TimedOut,
    /// The answer broke off.
    BrokenOff,
    /// There was an answer that cannot be understood.
    Garbled,
    /// The backend answered with an error.
    Answered,
}

impl Fault {
    /// The fault for an error of an SDK.
    pub fn of<E>(backend: Backend, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let unsigned = credentials_problem(&error);
        let kind = match &error {
            _ if unsigned.is_some() => Kind::NotSigned,
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
            // Only the first line. The others may repeat the request with its session token:
            // DynamoDB does so when a signature does not match.
            source: match (unsigned, error.message().and_then(|message| message.lines().next())) {
                (Some(problem), _) => problem.into(),
                (None, Some(message)) => message.into(),
                // The SDK would print the debug form of the error.
                (None, None) if kind == Kind::Answered => "it gave no reason".into(),
                (None, None) => error.into(),
            },
        }))
    }

    /// The fault for a request that could not be sent.
    pub fn not_sent(backend: Backend, cause: impl Into<Cause>) -> Self {
        Self::local(backend, Kind::NotSent, cause.into())
    }

    /// The fault for a wait that was given up.
    pub(crate) fn timed_out(backend: Backend, cause: impl Into<Cause>) -> Self {
        Self::local(backend, Kind::TimedOut, cause.into())
    }

    /// The fault for an answer whose body broke off.
    pub(crate) fn broken_off(backend: Backend, cause: impl Into<Cause>) -> Self {
        Self::local(backend, Kind::BrokenOff, cause.into())
    }

    /// The fault for a success without a field that every real answer has. Something else than the
    /// backend has answered, and that must not read as "there is nothing".
    pub fn garbled(backend: Backend) -> Self {
        Self::local(
            backend,
            Kind::Garbled,
            "what came back is not an answer to what was asked".into(),
        )
    }

    /// The fault for a function that was invoked and failed. Its own words are in its log.
    pub(crate) fn of_function(error: String) -> Self {
        Self::Backend(Box::new(BackendFault {
            backend: Backend::Lambda,
            kind: Kind::Answered,
            status: Some(200),
            code: Some(error),
            request_id: None,
            source: "the function failed".into(),
        }))
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

    /// Whether the backend refused because of too many requests, even after the SDK's retries.
    ///
    /// Names from [Error responses of
    /// S3](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), [Error handling
    /// with
    /// DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html),
    /// [Common errors of
    /// KMS](https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html) and Lambda's
    /// [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
    pub fn is_throttling(&self) -> bool {
        let Self::Backend(fault) = self else { return false };
        matches!(
            fault.code.as_deref(),
            Some(
                "ProvisionedThroughputExceededException"
                    | "TooManyRequestsException"
                    | "RequestLimitExceeded"
                    | "SlowDown"
                    | "ThrottlingException"
            )
        )
    }

    /// Whether S3 answered that it has too much to do, or failed itself, so that asking again may
    /// help.
    ///
    /// Names from [S3's error
    /// responses](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
    pub fn is_passing(&self) -> bool {
        let Self::Backend(fault) = self else { return false };
        matches!(fault.code.as_deref(), Some("InternalError" | "ServiceUnavailable" | "SlowDown"))
            || fault.status.is_some_and(|status| status >= 500)
    }

    /// The failure and what caused it, as one line.
    pub fn with_causes(&self) -> String {
        with_causes(self)
    }
}

/// Why a request of an SDK could not be signed; `None` if that is not why it failed.
pub fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<String> {
    match causes(error).find_map(|error| error.downcast_ref::<CredentialsError>())? {
        CredentialsError::CredentialsNotLoaded(_) => {
            Some("there are no AWS credentials".to_owned())
        }
        error => Some(format!("the AWS credentials cannot be loaded: {}", root_cause(error))),
    }
}

/// The last of an error's causes, which says what happened and not who noticed.
pub fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// An error, what caused it, what caused that, and so on.
pub fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// An error and what caused it, as one line.
pub fn with_causes(error: &dyn StdError) -> String {
    let mut chain = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        chain = format!("{chain}: {error}");
        next = error.source();
    }
    chain
}
