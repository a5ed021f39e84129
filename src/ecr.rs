//! ECR's API: one file for each operation.

mod error;
mod get_download_url_for_layer;
mod protocol;

use serde::Serialize;
use serde_json::Value;

use crate::access::Caller;
use crate::service::Service;
use crate::types::{Digest, Repository};

pub use error::Error;
pub use protocol::{CONTENT_TYPE, Members, Reply};

/// What a call is about, for the log.
#[derive(Debug, Default)]
pub struct Subject {
    /// The operation, if this service has it.
    pub operation: Option<&'static str>,
    /// The repository, if the whole request is valid.
    pub repository: Option<Repository>,
    /// The layer, likewise.
    pub digest: Option<Digest>,
}

/// Calls the operation that `target`, the `X-Amz-Target` header, names, and returns its output as JSON. `members`
/// reads the body; it is not called for an unknown operation, because the target is checked first. `subject` is
/// filled in as soon as it is known, so that a call that fails is logged with it.
pub async fn call(
    service: &Service,
    target: Option<&str>,
    members: impl FnOnce() -> Result<Members, Error>,
    caller: &Caller,
    subject: &mut Subject,
) -> Result<Value, Error> {
    match protocol::operation_name(target)? {
        get_download_url_for_layer::NAME => {
            subject.operation = Some(get_download_url_for_layer::NAME);
            let input = get_download_url_for_layer::Input::parse(members()?, &service.default_registry_id)?;
            subject.repository = Some(input.repository.clone());
            subject.digest = Some(input.layer_digest.clone());
            to_json(get_download_url_for_layer::call(service, caller, input).await?)
        }
        _ => Err(protocol::unknown_operation(target)),
    }
}

fn to_json(output: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(output).map_err(|error| Error::Server(error.into()))
}
