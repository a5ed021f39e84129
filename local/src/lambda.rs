//! The embedded Lambda: one function, the worker, which runs in this process.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use lambda_runtime::LambdaEvent;
use layergate_core::worker::Event;
use layergate_worker::Worker;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{aws_json, context};

/// The function's name.
pub(super) const FUNCTION_NAME: &str = "layergate-worker";

/// The worker's timeout in the template.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The largest payload of an asynchronous invocation, in bytes.
/// Source: [Lambda
/// quotas](https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const LARGEST_PAYLOAD: usize = 1024 * 1024;

/// Invokes the worker.
#[derive(Clone)]
pub(super) struct Lambda {
    worker: Arc<Worker>,
    /// The invocations that have not ended.
    invocations: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
}

impl Lambda {
    pub(super) fn new(worker: Worker, invocations: TaskTracker, stop: CancellationToken) -> Self {
        Self { worker: Arc::new(worker), invocations, stop }
    }

    /// Answers a request.
    /// Source: [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
    pub(super) async fn answer(&self, request: Request) -> Response {
        let path = format!("/2015-03-31/functions/{FUNCTION_NAME}/invocations");
        if request.method() != Method::POST || request.uri().path() != path {
            return error(
                StatusCode::NOT_FOUND,
                "ResourceNotFoundException",
                "only the worker is here",
            );
        }
        let is_event =
            request.headers().get("x-amz-invocation-type").is_some_and(|kind| kind == "Event");
        let payload = to_bytes(request.into_body(), LARGEST_PAYLOAD).await.ok();
        let event = payload.and_then(|payload| serde_json::from_slice::<Event>(&payload).ok());
        let Some(event) = event else {
            return error(
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                "it is no event of the worker",
            );
        };
        let (worker, stop) = (self.worker.clone(), self.stop.clone());
        // In a thread of its own, because on Lambda the worker has a machine of its own.
        let invocation = self.invocations.spawn_blocking(move || {
            let handling = worker.handle(LambdaEvent::new(event, context(TIMEOUT)));
            Handle::current().block_on(stop.run_until_cancelled(handling))
        });
        if is_event {
            let mut accepted = Response::new(Body::empty());
            *accepted.status_mut() = StatusCode::ACCEPTED;
            return accepted;
        }
        match invocation.await {
            Ok(Some(Ok(answer))) => aws_json::response(StatusCode::OK, &json!(answer)),
            _ => {
                let mut failed =
                    aws_json::response(StatusCode::OK, &json!({"errorMessage": "it failed"}));
                failed
                    .headers_mut()
                    .insert("x-amz-function-error", http::HeaderValue::from_static("Unhandled"));
                failed
            }
        }
    }
}

fn error(status: StatusCode, name: &'static str, message: &str) -> Response {
    let mut response = aws_json::response(status, &json!({"Message": message}));
    response.headers_mut().insert("x-amzn-errortype", http::HeaderValue::from_static(name));
    response
}
