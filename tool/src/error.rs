//! Why a command failed: one sentence for a person, one exit status for a script.

use std::env;

use layergate_core::config::ConfigError;
use layergate_core::fault::{Backend, BackendFault, Fault, Kind, root_cause};
use layergate_tool::authorization::NO_CREDENTIALS;
use layergate_upstream::{Host, TlsProblem, Url};

/// A command's failure. `Display` is the sentence: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on this machine failed.
    #[error("{0}")]
    Local(String),
    /// Settings are missing, or one cannot be used.
    #[error("{}", about_settings(.0))]
    Setting(#[from] ConfigError),
    /// The command was used in a wrong way.
    #[error("{0}")]
    Usage(String),
    /// The source has no image that can be published.
    #[error("{0}")]
    Source(String),
    /// Another registry failed, refused, or cannot be reached.
    #[error("{0}")]
    Registry(String),
    /// What the command works on does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The state of a repository, an image or a rule does not allow the command.
    #[error("{0}")]
    Conflict(String),
    /// A service of AWS failed or cannot be reached, or the table has an unknown record.
    #[error("{}", about_fault(.0))]
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

const DISK_FULL: &str = "make room on the disk of the local stack, and run it again";

fn about_settings(error: &ConfigError) -> String {
    match error {
        ConfigError::Missing(names) => format!(
            "the {} {error}; run '. .layergate/local.env' for a local stack, or 'eval \"$(make -s \
             outputs)\"' for a deployment",
            if names.len() == 1 { "setting" } else { "settings" }
        ),
        ConfigError::Unusable { .. } => format!("the setting {error}"),
    }
}

fn about_fault(fault: &Fault) -> String {
    let advice = match fault {
        Fault::Backend(fault) => match fault.kind {
            Kind::NotSigned => return format!("{}; {NO_CREDENTIALS}", fault.source),
            Kind::NotSent => return about_connection(fault),
            Kind::TimedOut => {
                "it did not answer in time; check the endpoint and the network, or run it again later"
            }
            Kind::BrokenOff => "the connection ended in the middle of the answer; run it again",
            Kind::Garbled => {
                "check the endpoint: something else answers there, or a proxy changes the answers"
            }
            Kind::Answered => advice_on_answer(fault),
        },
        Fault::WorkerFailed => "the worker's log says why",
        Fault::BrokenRecord(_) => "another program or another version of layergate wrote it",
        Fault::ForeignTable { .. } => {
            "use the version of layergate that wrote it, or set TABLE_NAME to another table"
        }
        Fault::OtherBucket { recorded: Some(_), .. } => {
            "set TABLE_NAME and BUCKET_NAME to a table and its bucket"
        }
        Fault::OtherBucket { recorded: None, .. } => {
            "nothing was deleted; publish an image, which records the bucket, and run it again"
        }
    };
    format!("{}; {advice}", fault.with_causes())
}

/// A service that cannot be reached, and where it was looked for.
fn about_connection(fault: &BackendFault) -> String {
    let (backend, cause) = (fault.backend, fault.source.as_ref());
    let Some((variable, url)) = endpoint(backend) else {
        let cause = root_cause(cause);
        return format!("{backend} cannot be reached: {cause}; check the region and the network");
    };
    let at = url.origin().ascii_serialization(); // without a password or a path
    let problem = match url.scheme() {
        "http" => TlsProblem::of_plain(cause),
        _ => TlsProblem::of(cause),
    };
    if let Some(problem) = problem {
        let advice = problem.advice("begin it with http://", "begin it with https://");
        return format!("{backend} at {at} {problem}; check the endpoint {variable}: {advice}");
    }
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let advice = match is_local {
        true => {
            ": start the local stack if it does not run, and then run '. .layergate/local.env' again"
        }
        false => " and the network",
    };
    let cause = root_cause(cause);
    format!("{backend} cannot be reached at {at}: {cause}; check the endpoint {variable}{advice}")
}

/// The endpoint of a service that the environment names, and the variable.
fn endpoint(backend: Backend) -> Option<(&'static str, Url)> {
    let own = match backend {
        Backend::DynamoDb => "AWS_ENDPOINT_URL_DYNAMODB",
        Backend::S3 => "AWS_ENDPOINT_URL_S3",
        Backend::Kms => "AWS_ENDPOINT_URL_KMS",
        Backend::Lambda => "AWS_ENDPOINT_URL_LAMBDA",
        Backend::SecretsManager => "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    };
    [own, "AWS_ENDPOINT_URL"].into_iter().find_map(|variable| {
        let value = env::var(variable).ok().filter(|value| !value.is_empty())?;
        Some((variable, Url::parse(&value).ok()?))
    })
}

fn advice_on_answer(fault: &BackendFault) -> &'static str {
    // The embedded DynamoDB has no code for this.
    let is_disk_full = fault.source.to_string().ends_with("database or disk is full");
    match is_disk_full {
        true => DISK_FULL,
        false => advice_on_code(fault.status, fault.code.as_deref()),
    }
}

/// Names from [Error handling with
/// DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html),
/// [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html)
/// (the reasons of a cancelled transaction), [S3's error
/// responses](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) and Lambda's
/// [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html), whose function that is
/// not there is a 404, while DynamoDB's table is a 400.
fn advice_on_code(status: Option<u16>, code: Option<&str>) -> &'static str {
    const IS_BUSY: &str =
        "it has too much to do, and trying again did not help; run it again later";
    match (status, code) {
        (_, Some("DiskFull")) => DISK_FULL,
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
            "attach the stack's publisher policy to the role of these credentials (for 'layergate clean' its cleaner \
             policy, for 'layergate pull-through' its pull-through policy)"
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
            "check that the credentials have not expired and are of this endpoint and region, check \
             this machine's clock, and check that they may use the bucket of BUCKET_NAME"
        }
        _ => "layergate does not know this error; check the endpoint and the region",
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
            (Some(403), None, "have not expired"),
            (Some(507), Some("DiskFull"), "make room"),
            (Some(400), Some("ValidationError"), "does not know this error"),
            (Some(400), Some("ItemCollectionSizeLimitExceeded"), "does not know this error"),
        ];
        for (status, code, words) in answered {
            let advice = advice_on_code(status, code);
            assert!(advice.contains(words), "{status:?} {code:?}: {advice}");
        }
    }
}
