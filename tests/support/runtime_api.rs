//! Lambda's side of the Runtime API.
//!
//! Source: [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

use super::{REQUEST_ID, Stack, program};

/// The Lambda service's side of the Runtime API: hands out events, takes answers.
pub struct RuntimeApi {
    /// Where it is, as `AWS_LAMBDA_RUNTIME_API` names it.
    pub address: String,
    events: mpsc::UnboundedSender<Value>,
    answers: mpsc::UnboundedReceiver<(String, Value)>,
}

struct Server {
    events: Mutex<mpsc::UnboundedReceiver<Value>>,
    answers: mpsc::UnboundedSender<(String, Value)>,
    timeout: Duration,
}

impl RuntimeApi {
    /// Lambda's deadlines are as far away as the template says.
    pub async fn start() -> Self {
        Self::with_timeout(Duration::from_secs(29)).await
    }

    pub async fn with_timeout(timeout: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, next) = mpsc::unbounded_channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let server = Arc::new(Server { events: Mutex::new(next), answers: answered, timeout });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_event))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(take_answer))
            .with_state(server);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, events, answers }
    }

    /// Has an event answered; `response` or `error`, and its JSON.
    pub async fn invoke(&mut self, event: Value) -> (String, Value) {
        self.events.send(event).unwrap();
        tokio::time::timeout(Duration::from_secs(120), self.answers.recv()).await.unwrap().unwrap()
    }
}

async fn next_event(State(server): State<Arc<Server>>) -> Response {
    let Some(event) = server.events.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let deadline = (SystemTime::now() + server.timeout).duration_since(UNIX_EPOCH).unwrap();
    let headers = [
        ("lambda-runtime-aws-request-id", REQUEST_ID.to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:222222222222:function:f".to_owned(),
        ),
        ("lambda-runtime-trace-id", "Root=1-6740a1b2-0123456789abcdef01234567".to_owned()),
    ];
    (headers, event.to_string()).into_response()
}

async fn take_answer(
    State(server): State<Arc<Server>>,
    UrlPath((id, kind)): UrlPath<(String, String)>,
    body: String,
) -> Response {
    assert_eq!(id, REQUEST_ID);
    server.answers.send((kind, serde_json::from_str(&body).unwrap())).unwrap();
    (axum::http::StatusCode::ACCEPTED, "{}").into_response()
}

/// A program as Lambda starts it, with a stack's engines and nothing else of this process's
/// environment.
pub fn as_lambda_starts(
    program: impl AsRef<std::ffi::OsStr>,
    stack: &Stack,
    runtime_api: &RuntimeApi,
) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(stack.environment())
        .env("AWS_SESSION_TOKEN", "the-session-token")
        .env("AWS_LAMBDA_RUNTIME_API", &runtime_api.address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "layergate")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The worker, about to start.
pub fn worker(stack: &Stack, api: &RuntimeApi) -> Command {
    as_lambda_starts(program("worker"), stack, api)
}

/// Ends it; gives the lines that it has logged, and what it has written besides.
pub async fn end_worker(mut worker: Child) -> (Vec<Value>, String) {
    worker.start_kill().unwrap();
    let output = worker.wait_with_output().await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, String::from_utf8(output.stderr).unwrap())
}
