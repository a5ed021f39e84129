//! Why a command failed: one sentence for a person, one exit status for a script.

use layergate_core::config::ConfigError;
use layergate_core::fault::{BackendFault, Fault, Kind};

/// A command's failure. `Display` is the sentence: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on this machine failed.
    #[error("{0}")]
    Local(String),
    /// A setting is missing or cannot be used.
    #[error("the setting {0}")]
    Setting(#[from] ConfigError),
    /// The command was not used as it must be.
    #[error("{0}")]
    Usage(String),
    /// The source holds no image that can be published as it is.
    #[error("{0}")]
    Source(String),
    /// Another registry failed, refused, or cannot be reached.
    #[error("{0}")]
    Registry(String),
    /// What the command works on does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What the command works on is in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A service of AWS failed, or cannot be reached; or the table holds what cannot be read.
    #[error("{}; {}", .0.with_causes(), advice(.0))]
    Service(#[from] Fault),
    /// The user interrupted the command.
    #[error("interrupted; nothing is left half done, and running the command again completes it")]
    Interrupted,
}

impl Error {
    /// The exit status. The list is in `layergate --help`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Local(_) | Self::Registry(_) | Self::Service(_) => 1,
            Self::Setting(_) | Self::Usage(_) => 2, // clap's for usage errors
            Self::Source(_) => 3,
            Self::NotFound(_) => 4,
            Self::Conflict(_) => 5,
            Self::Interrupted => 130, // a shell's for SIGINT
        }
    }
}

/// What to do about a fault.
fn advice(fault: &Fault) -> &'static str {
    match fault {
        Fault::Backend(fault) => advice_on_request(fault),
        Fault::WorkerFailed => "the worker's log says why",
        Fault::BrokenRecord(_) => "the table holds what this version of layergate did not write",
        Fault::ForeignTable { .. } => {
            "use the version of layergate that wrote it, or set TABLE_NAME to another table"
        }
        Fault::OtherBucket { recorded: Some(_), .. } => {
            "set TABLE_NAME and BUCKET_NAME to a table and its bucket"
        }
        Fault::OtherBucket { recorded: None, .. } => {
            "nothing was deleted; publish an image, which records the bucket, and run it again"
        }
    }
}

fn advice_on_request(fault: &BackendFault) -> &'static str {
    match fault.kind {
        Kind::NotSent => {
            "check the endpoint, the region, the network, and that there are credentials"
        }
        Kind::TimedOut => {
            "it did not answer in time; check the endpoint and the network, or run it again later"
        }
        Kind::BrokenOff => "the connection ended in the middle of the answer; run it again",
        Kind::Garbled => "check the endpoint: what answers there, or a proxy on the way, is not it",
        Kind::Answered => advice_on_answer(fault.status, fault.code.as_deref()),
    }
}

/// Names from [Error handling with
/// DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html),
/// [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html)
/// (the reasons of a cancelled transaction), [S3's error
/// responses](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) and Lambda's
/// [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html), whose function that is
/// not there is a 404, while DynamoDB's table is a 400.
fn advice_on_answer(status: Option<u16>, code: Option<&str>) -> &'static str {
    const IS_BUSY: &str =
        "it has too much to do, and trying again did not help; run it again later";
    match (status, code) {
        (
            _,
            Some(
                "ProvisionedThroughputExceeded"
                | "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "SlowDown"
                | "ThrottlingError"
                | "ThrottlingException"
                | "TooManyRequestsException",
            ),
        ) => IS_BUSY,
        (Some(500..), _) => {
            "it has a fault of its own, and trying again did not help; run it again later"
        }
        (_, Some("TransactionConflict" | "TransactionInProgressException")) => {
            "others kept changing the same records, and trying again did not help; run it again"
        }
        (_, Some("ExpiredToken" | "ExpiredTokenException")) => {
            "renew the credentials, and run it again"
        }
        (
            _,
            Some("InvalidSignatureException" | "RequestTimeTooSkewed" | "SignatureDoesNotMatch"),
        ) => "check this machine's clock and the secret access key",
        (_, Some("InvalidAccessKeyId" | "UnrecognizedClientException")) => {
            "check that the credentials are of this endpoint's account"
        }
        (_, Some("AccessDenied" | "AccessDeniedException")) => {
            "give these credentials the stack's publisher policy, for 'layergate clean' its cleaner policy, or for \
             'layergate pull-through' its pull through policy"
        }
        (_, Some("NoSuchBucket")) => "check the region, and that BUCKET_NAME exists there",
        (_, Some("Handled" | "Unhandled")) => "the worker's log says why",
        (Some(404), Some("ResourceNotFoundException")) => {
            "check the region, and that WORKER_FUNCTION_NAME exists there"
        }
        (_, Some("ResourceNotFoundException")) => {
            "check the region, and that TABLE_NAME exists there"
        }
        (Some(400 | 403), None) => {
            "it gave no reason; check that the credentials have not expired and are of this endpoint and region, \
             this machine's clock, and that BUCKET_NAME is a bucket that they may use"
        }
        _ => {
            "this is no fault that layergate expects; check the endpoint, the region and its version"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_the_advice_that_helps() {
        let answered = [
            (Some(400), Some("ThrottlingException"), "run it again later"),
            (Some(400), Some("ThrottlingError"), "too much to do"),
            (Some(503), Some("SlowDown"), "too much to do"),
            (Some(500), Some("InternalServerError"), "fault of its own"),
            (Some(500), None, "fault of its own"),
            (Some(400), Some("TransactionConflict"), "others kept changing"),
            (Some(400), Some("ExpiredTokenException"), "renew the credentials"),
            (Some(403), Some("RequestTimeTooSkewed"), "clock"),
            (Some(400), Some("UnrecognizedClientException"), "account"),
            (Some(400), Some("AccessDeniedException"), "publisher policy"),
            (Some(404), Some("NoSuchBucket"), "BUCKET_NAME"),
            (Some(400), Some("ResourceNotFoundException"), "TABLE_NAME"),
            (Some(404), Some("ResourceNotFoundException"), "WORKER_FUNCTION_NAME"),
            (Some(200), Some("Unhandled"), "worker's log"),
            (Some(429), Some("TooManyRequestsException"), "too much to do"),
            (Some(403), None, "no reason"),
            (Some(400), Some("ValidationError"), "no fault that layergate expects"),
            (Some(400), Some("ItemCollectionSizeLimitExceeded"), "no fault that layergate expects"),
        ];
        for (status, code, words) in answered {
            let advice = advice_on_answer(status, code);
            assert!(advice.contains(words), "{status:?} {code:?}: {advice}");
        }
    }
}
