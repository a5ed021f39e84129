//! ECR's API: one file for each operation.

mod error;
mod get_authorization_token;
mod get_download_url_for_layer;
mod protocol;

use serde::Serialize;

use crate::access::Caller;
use crate::logging::Subject;
use crate::service::Service;

pub use error::Error;
pub use protocol::Members;

/// What every operation is given besides its input.
#[derive(Debug)]
pub struct Context<'a> {
    /// What decides.
    pub service: &'a Service,
    /// Who calls.
    pub caller: &'a Caller,
    /// The name that the caller reached the API by.
    pub host: Option<&'a str>,
}

/// Calls the operation that `target`, the `X-Amz-Target` header, names, and returns its response. `members` reads the
/// body; it is not called for an unknown operation, because the target is checked first.
pub async fn call(
    context: &Context<'_>,
    target: Option<&str>,
    members: impl FnOnce() -> Result<Members, Error>,
    subject: &mut Subject,
) -> Result<http::Response<String>, Error> {
    match (protocol::operation_name(target)?, &context.service.tokens) {
        (get_authorization_token::NAME, Some(tokens)) => {
            subject.operation = Some(get_authorization_token::NAME);
            let input = get_authorization_token::Input::parse(members()?)?;
            success(get_authorization_token::call(context, tokens, input).await?)
        }
        (get_download_url_for_layer::NAME, _) => {
            subject.operation = Some(get_download_url_for_layer::NAME);
            let input =
                get_download_url_for_layer::Input::parse(members()?, &context.service.default_registry_id)?;
            subject.repository = Some(input.repository.clone());
            subject.digest = Some(input.layer_digest.clone());
            success(get_download_url_for_layer::call(context, input).await?)
        }
        _ => Err(protocol::unknown_operation(target)),
    }
}

fn success(output: impl Serialize) -> Result<http::Response<String>, Error> {
    let body = serde_json::to_string(&output).map_err(|error| Error::Server(error.into()))?;
    Ok(protocol::response(http::StatusCode::OK, body))
}
