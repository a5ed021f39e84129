//! The awsJson1_1 protocol: the operation's name in the target header, and responses.
//!
//! Source: [AWS JSON 1.1 protocol](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::Error;

/// The most bytes of a body, as a string in the function's answer to the gateway. Lambda's limit
/// for the answer is 6 MB; the rest is for the headers.
/// Source: [Lambda
/// quotas](https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
pub(super) const LARGEST_RESPONSE: usize = 6_000_000;

const SERVICE: &str = "AmazonEC2ContainerRegistry_V20150921";

/// The name of the operation that an `X-Amz-Target` header asks for.
pub(super) fn operation_name(target: &str) -> Option<&str> {
    target.strip_prefix(SERVICE)?.strip_prefix('.')
}

/// The response to a call that succeeded.
pub(super) fn success(output: &impl Serialize) -> Result<Response<String>, Error> {
    let body = serde_json::to_string(output).map_err(|error| Error::Server(error.into()))?;
    // In the answer to the gateway, the body is a JSON string, which escapes these two again.
    let escapes = body.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    if body.len() + escapes > LARGEST_RESPONSE {
        return Err(Error::LimitExceeded);
    }
    Ok(response(StatusCode::OK, body))
}

/// A response with a JSON body.
pub(super) fn response(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
