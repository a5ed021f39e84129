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
mod members;
mod operation;
mod paging;
mod protocol;

use crate::access::Caller;
use crate::request::Request;
use crate::service::Service;
use crate::subject::Subject;
use members::Members;
use operation::{Context, Entry, Operation};

pub use error::Error;

/// The operations that this API has.
static OPERATIONS: [Entry; 7] = [
    Entry::of::<batch_check_layer_availability::BatchCheckLayerAvailability>(),
    Entry::of::<batch_get_image::BatchGetImage>(),
    Entry::of::<describe_images::DescribeImages>(),
    Entry::of::<describe_repositories::DescribeRepositories>(),
    Entry::of::<get_authorization_token::GetAuthorizationToken>(),
    Entry::of::<get_download_url_for_layer::GetDownloadUrlForLayer>(),
    Entry::of::<list_images::ListImages>(),
];

/// Calls the operation that the `X-Amz-Target` header names, and returns its response. The target
/// is checked before the body.
pub async fn call(
    service: &Service,
    caller: &Caller,
    request: &Request,
    subject: &mut Subject,
) -> Result<http::Response<String>, Error> {
    subject.caller = caller.arn().map(str::to_owned);
    let target = request.headers.get("x-amz-target");
    let target = target.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let name = target.as_deref().and_then(protocol::operation_name);
    let operation = OPERATIONS.iter().find(|operation| Some(operation.name) == name);
    let Some(operation) = operation.filter(|operation| (operation.is_offered)(service)) else {
        return Err(Error::UnknownOperation { target: target.map(Into::into) });
    };
    subject.operation = Some(operation.name);
    let members = match &request.body {
        Ok(body) => Members::parse(body)?,
        Err(_) => return Err(Error::Serialization("The body is not valid base64".to_owned())),
    };
    let context =
        Context { service, caller, host: request.host.as_deref(), operation: operation.name };
    (operation.answer)(context, members, subject).await
}
