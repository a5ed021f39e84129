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

/// Operations of ECR that this API does not have, and the command of the tool that does the same.
const COMMANDS: [(&str, &str); 14] = [
    ("BatchDeleteImage", "layergate image delete"),
    ("CompleteLayerUpload", PUBLISH),
    ("CreatePullThroughCacheRule", "layergate pull-through create"),
    ("CreateRepository", "layergate repository create"),
    ("DeletePullThroughCacheRule", "layergate pull-through delete"),
    ("DeleteRepository", "layergate repository delete"),
    ("DeleteRepositoryPolicy", "layergate repository revoke"),
    ("DescribePullThroughCacheRules", "layergate pull-through list"),
    ("GetRepositoryPolicy", "layergate repository show"),
    ("InitiateLayerUpload", PUBLISH),
    ("PutImage", PUBLISH),
    ("SetRepositoryPolicy", "layergate repository grant"),
    ("UploadLayerPart", PUBLISH),
    ("ValidatePullThroughCacheRule", "layergate pull-through validate"),
];

const PUBLISH: &str = "layergate publish";

/// Calls the operation that the `X-Amz-Target` header names, and returns its response. Checks the
/// target before the body.
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
        let command = COMMANDS.iter().find(|(operation, _)| Some(*operation) == name);
        return Err(match command {
            Some(&(operation, command)) => Error::UseTool { operation, command },
            None => Error::UnknownOperation { target: target.map(Into::into) },
        });
    };
    subject.operation = Some(operation.name);
    let members = match &request.body {
        Ok(body) => Members::parse(body)?,
        Err(_) => return Err(Error::Serialization("The body is not valid base64".to_owned())),
    };
    let context =
        Context { service, caller, origin: request.origin.as_ref(), operation: operation.name };
    (operation.answer)(context, members, subject).await
}
