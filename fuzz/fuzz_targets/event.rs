//! From the raw bytes of an event to a response: every event gets a well-formed answer, none makes
//! the handler panic, and none gets a URL out of a catalog that is empty.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use lambda_runtime::{Context, LambdaEvent};
use layergate_core::aws::Patience;
use layergate_core::config::Config;
use layergate::lambda::Handler;
use layergate::service::Service;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

static FUNCTION: LazyLock<(Runtime, Handler)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    // DynamoDB's answer for a table that has nothing: no items to a query, no item to a get.
    let endpoint = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let router = Router::new().fallback(|| async {
            r#"{"Count":0,"Items":[],"ScannedCount":0,"ConsumedCapacity":{"TableName":"layergate","CapacityUnits":0.5}}"#
        });
        tokio::spawn(async { axum::serve(listener, router).await });
        endpoint
    });
    let config = Config::from_env(|name| match name {
        "TABLE_NAME" | "BUCKET_NAME" => Some("layergate".to_owned()),
        "DEFAULT_REGISTRY_ID" => Some("000000000000".to_owned()),
        "AWS_ENDPOINT_URL_DYNAMODB" => Some(endpoint.clone()),
        _ => None,
    });
    let config = config.expect("good settings");
    let credentials = SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "fuzz"));
    let sdk = layergate_core::aws::with_credentials("us-east-1".to_owned(), credentials, Patience::CLIENT);
    let handler = Handler::new(Service::new(&sdk, &config), config.authorization);
    (runtime, handler)
});

fuzz_target!(|event: &[u8]| {
    // The runtime hands over JSON and nothing else.
    let Ok(event) = serde_json::from_slice::<Box<RawValue>>(event) else { return };
    let (runtime, handler) = &*FUNCTION;
    let deadline = SystemTime::now() + Duration::from_secs(60);
    let mut context = Context::default();
    context.request_id = "fuzz".to_owned();
    context.deadline = deadline.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;

    let Ok(response) = runtime.block_on(handler.handle(LambdaEvent::new(event, context)));
    let response = serde_json::to_value(response).expect("a response is JSON");
    if response.get("policyDocument").is_some() {
        return; // what the authorizer says of every token
    }
    if response["headers"]["content-type"] == "application/json" {
        assert_eq!(response["statusCode"], 401, "nobody is let into a registry without a key: {response}");
        return;
    }
    let body: Value = serde_json::from_str(response["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(response["headers"]["content-type"], "application/x-amz-json-1.1");
    if body == json!({"repositories": []}) {
        return; // what DescribeRepositories tells of an empty catalog
    }
    assert_eq!(response["statusCode"], 400, "{response}");
    assert_eq!(response["headers"]["x-amzn-errortype"], body["__type"]);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
});
