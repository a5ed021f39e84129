//! Lambda as the function sees it, with the worker in this process: it delivers events as a test
//! wants it to.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lambda_runtime::{Context, LambdaEvent};
use layergate_core::config::Config;
use layergate_upstream::Http;
use layergate_worker::Worker;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{Stack, serve};

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Once,
    /// Lambda promises no more than to deliver an event at least once.
    Twice,
    /// Lambda does not take the event.
    Refused,
}

/// The stand-in. It serves until the test ends.
pub struct Lambda {
    pub url: String,
    delivery: Arc<Mutex<Delivery>>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Lambda {
    /// One whose worker has this stack's engines.
    pub async fn on(stack: &Stack, delivery: Delivery) -> Self {
        Self::with(stack, delivery, |_| {}).await
    }

    /// One whose worker has other settings.
    pub async fn with(stack: &Stack, delivery: Delivery, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = stack.local.engines.config();
        change(&mut config);
        let worker =
            Arc::new(Worker::new(&stack.local.engines.sdk_config(), &config, Http::direct));
        let delivery = Arc::new(Mutex::new(delivery));
        let events = Arc::new(Mutex::new(Vec::new()));
        let (current, record) = (delivery.clone(), events.clone());
        let url = serve(move |request: Request| {
            let (worker, delivery) = (worker.clone(), *current.lock().unwrap());
            let record = record.clone();
            async move { answer(request, worker, delivery, &record).await }
        });
        Self { url: url.await, delivery, events }
    }

    pub fn set(&self, delivery: Delivery) {
        *self.delivery.lock().unwrap() = delivery;
    }

    /// The events that were sent so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }
}

/// Source: [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
async fn answer(
    request: Request,
    worker: Arc<Worker>,
    delivery: Delivery,
    record: &Mutex<Vec<Value>>,
) -> Response {
    let (head, body) = request.into_parts();
    assert!(head.uri.path().ends_with("/invocations"), "{}", head.uri);
    assert_eq!(head.headers["x-amz-invocation-type"], "Event");
    let event: Value = serde_json::from_slice(&to_bytes(body, 256 * 1024).await.unwrap()).unwrap();
    let times = match delivery {
        Delivery::Once => 1,
        Delivery::Twice => 2,
        Delivery::Refused => {
            let message = r#"{"Type": "Server", "Message": "Internal error"}"#;
            let code = [("x-amzn-errortype", "ServiceException")];
            return (StatusCode::INTERNAL_SERVER_ERROR, code, message).into_response();
        }
    };
    record.lock().unwrap().push(event.clone());
    for _ in 0..times {
        let mut context = Context::default();
        let deadline = SystemTime::now() + Duration::from_secs(900);
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap().as_millis();
        context.deadline = u64::try_from(deadline).unwrap();
        let event = serde_json::from_value(event.clone()).unwrap();
        let worker = worker.clone();
        tokio::task::spawn_blocking(move || {
            Handle::current().block_on(worker.handle(LambdaEvent::new(event, context))).unwrap();
        });
    }
    (StatusCode::ACCEPTED, Body::empty()).into_response()
}
