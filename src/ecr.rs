//! ECR's API: one file for each operation.

mod batch_check_layer_availability;
mod batch_get_image;
mod describe_images;
mod describe_repositories;
mod error;
mod filter;
mod get_authorization_token;
mod get_download_url_for_layer;
mod image_id;
mod list_images;
mod paging;
mod protocol;

use serde::Serialize;

use crate::access::Caller;
use crate::request::Request;
use crate::service::Service;
use crate::subject::Subject;

pub use error::Error;
pub use protocol::Members;

/// The most bytes that a body takes as a string in the function's answer to the gateway. Lambda's limit for that
/// answer is 6 MB; the rest is for the headers.
/// Source: [Lambda quotas](https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const LARGEST_RESPONSE: usize = 6_000_000;

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

/// Calls the operation that the `X-Amz-Target` header names, and returns its response. The target is
/// checked before the body.
pub async fn call(
    service: &Service,
    caller: &Caller,
    request: &Request,
    subject: &mut Subject,
) -> Result<http::Response<String>, Error> {
    subject.caller = caller.arn().map(str::to_owned);
    let target = request.headers.get("x-amz-target");
    let target = target.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let target = target.as_deref();
    let context = &Context { service, caller, host: request.host.as_deref() };
    let members = || match &request.body {
        Ok(body) => Members::parse(body),
        Err(_) => Err(Error::Serialization("The body is not valid base64".to_owned())),
    };
    let default_registry = &context.service.default_registry_id;
    match (protocol::operation_name(target)?, &context.service.tokens) {
        (batch_check_layer_availability::NAME, _) => {
            subject.operation = Some(batch_check_layer_availability::NAME);
            let input = batch_check_layer_availability::Input::parse(members()?, default_registry)?;
            subject.repository = Some(input.repository.clone());
            success(batch_check_layer_availability::call(context, input).await?)
        }
        (batch_get_image::NAME, _) => {
            subject.operation = Some(batch_get_image::NAME);
            let input = batch_get_image::Input::parse(members()?, default_registry)?;
            subject.repository = Some(input.repository.clone());
            success(batch_get_image::call(context, input).await?)
        }
        (describe_images::NAME, _) => {
            subject.operation = Some(describe_images::NAME);
            let input = describe_images::Input::parse(members()?, default_registry)?;
            subject.repository = Some(input.repository.clone());
            success(describe_images::call(context, input).await?)
        }
        (describe_repositories::NAME, _) => {
            subject.operation = Some(describe_repositories::NAME);
            let input = describe_repositories::Input::parse(members()?, default_registry)?;
            success(describe_repositories::call(context, input).await?)
        }
        (get_authorization_token::NAME, Some(tokens)) => {
            subject.operation = Some(get_authorization_token::NAME);
            let input = get_authorization_token::Input::parse(members()?)?;
            success(get_authorization_token::call(context, tokens, input).await?)
        }
        (get_download_url_for_layer::NAME, _) => {
            subject.operation = Some(get_download_url_for_layer::NAME);
            let input = get_download_url_for_layer::Input::parse(members()?, default_registry)?;
            subject.repository = Some(input.repository.clone());
            subject.digest = Some(input.layer_digest.clone());
            success(get_download_url_for_layer::call(context, input).await?)
        }
        (list_images::NAME, _) => {
            subject.operation = Some(list_images::NAME);
            let input = list_images::Input::parse(members()?, default_registry)?;
            subject.repository = Some(input.repository.clone());
            success(list_images::call(context, input).await?)
        }
        _ => Err(protocol::unknown_operation(target)),
    }
}

fn success(output: impl Serialize) -> Result<http::Response<String>, Error> {
    let body = serde_json::to_string(&output).map_err(|error| Error::Server(error.into()))?;
    // In the answer to the gateway, the body is a string: these two are escaped once more.
    let escapes = body.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    if body.len() + escapes > LARGEST_RESPONSE {
        return Err(Error::LimitExceeded);
    }
    Ok(protocol::response(http::StatusCode::OK, body))
}
