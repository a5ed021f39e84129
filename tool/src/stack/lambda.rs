//! The embedded Lambda: one function, the worker, which runs in this process.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use lambda_runtime::{Context, LambdaEvent};
use layergate::worker::Event;
use layergate_worker::Worker;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// The function's name.
pub(super) const FUNCTION_NAME: &str = "layergate-worker";

/// The worker's timeout in the template.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The largest payload of an asynchronous invocation, in bytes.
/// Source: [Lambda quotas](https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const LARGEST_PAYLOAD: usize = 1024 * 1024;

/// Invokes the worker.
#[derive(Clone)]
pub(super) struct Lambda {
    worker: Arc<Worker>,
    /// What was invoked and has not ended.
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
            return error(StatusCode::NOT_FOUND, "ResourceNotFoundException", "only the worker is here");
        }
        let is_event = request.headers().get("x-amz-invocation-type").is_some_and(|kind| kind == "Event");
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
        // In a thread of its own, as it has a machine of its own on Lambda.
        let invocation = self.invocations.spawn_blocking(move || {
            let handling = worker.handle(LambdaEvent::new(event, context()));
            Handle::current().block_on(stop.run_until_cancelled(handling))
        });
        if is_event {
            return response(StatusCode::ACCEPTED, String::new());
        }
        match invocation.await {
            Ok(Some(Ok(answer))) => response(StatusCode::OK, json!(answer).to_string()),
            _ => {
                let mut failed = response(StatusCode::OK, json!({"errorMessage": "it failed"}).to_string());
                failed
                    .headers_mut()
                    .insert("x-amz-function-error", http::HeaderValue::from_static("Unhandled"));
                failed
            }
        }
    }
}

fn context() -> Context {
    let since_1970 = (SystemTime::now() + TIMEOUT).duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut context = Context::default();
    context.request_id = Uuid::new_v4().to_string();
    context.deadline = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    context
}

fn error(status: StatusCode, name: &'static str, message: &str) -> Response {
    let mut response = response(status, json!({"Message": message}).to_string());
    response.headers_mut().insert("x-amzn-errortype", http::HeaderValue::from_static(name));
    response
}

fn response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}
