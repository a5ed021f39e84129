//! Requests and responses of the embedded AWS services, in JSON.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The largest request, in bytes. KMS and Secrets Manager get some thousand bytes.
const LARGEST_REQUEST: usize = 64 * 1024;

/// The input of an operation, if the request is for this operation.
/// Source: [awsJson1_1](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).
pub(super) async fn input<T: DeserializeOwned>(request: Request, operation: &str) -> Option<T> {
    if request.headers().get("x-amz-target")? != operation {
        return None;
    }
    let body = to_bytes(request.into_body(), LARGEST_REQUEST).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// A response with a JSON body.
pub(super) fn response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}
