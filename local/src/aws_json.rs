//! What the embedded services of AWS share: reading a request of their protocol, and answering in
//! JSON.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// More bytes than a request has: those of KMS and Secrets Manager have some thousand.
const LARGEST_REQUEST: usize = 64 * 1024;

/// The input of an operation, if the request is for that one.
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
