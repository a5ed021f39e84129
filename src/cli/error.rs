//! Why a command failed: one sentence for a person, one exit status for a script.

use std::error::Error as StdError;

use layergate::config::ConfigError;
use layergate::error::{EngineFault, Error as Fault};

/// A command's failure. `Display` is the sentence: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on this machine failed.
    #[error("{0}")]
    Local(String),
    /// A setting is missing or cannot be used.
    #[error("the setting {0}")]
    Setting(#[from] ConfigError),
    /// The source holds no image that can be published as it is.
    #[error("{0}")]
    Source(String),
    /// What the command works on does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What the command works on is in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// DynamoDB or S3 failed, or cannot be reached; or the table holds what cannot be read.
    #[error("{}; {}", .0.cause(), advice(.0))]
    Service(Fault),
    /// The user interrupted the command.
    #[error("interrupted; nothing half-published is left, and running the command again completes it")]
    Interrupted,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Service(fault)
    }
}

const IS_BUSY: &str =
    "it has too much to do, or a fault of its own, and trying again did not help; run it again later";

fn advice(fault: &Fault) -> &'static str {
    let Some(fault) = fault.source().and_then(<dyn StdError>::downcast_ref::<EngineFault>) else {
        return "the table holds what this version of layergate did not write";
    };
    match fault.code.as_deref() {
        _ if fault.status.is_some_and(|status| status >= 500) => IS_BUSY,
        Some(
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "ThrottlingException"
            | "TransactionCanceledException",
        ) => IS_BUSY,
        None if matches!(fault.status, Some(400 | 403)) => {
            "it gave no reason; check that the credentials have not expired and are of this endpoint and region, \
             this machine's clock, and that BUCKET_NAME is a bucket that they may use"
        }
        Some("ExpiredToken" | "ExpiredTokenException") => "renew the credentials, and run it again",
        Some("InvalidSignatureException" | "RequestTimeTooSkewed" | "SignatureDoesNotMatch") => {
            "check this machine's clock and the secret access key"
        }
        _ => {
            "check the endpoint, the region, the credentials, and that TABLE_NAME and BUCKET_NAME exist there"
        }
    }
}

impl Error {
    /// The exit status. The list is in the README and in `layergate --help`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Local(_) | Self::Service(_) => 1,
            Self::Setting(_) => 2, // clap's for usage errors
            Self::Source(_) => 3,
            Self::NotFound(_) => 4,
            Self::Conflict(_) => 5,
            Self::Interrupted => 130, // a shell's for SIGINT
        }
    }
}
