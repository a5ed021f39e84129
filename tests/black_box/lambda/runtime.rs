//! The function as the process that Lambda starts, driven through the Lambda Runtime API.
//!
//! Source: [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::process::{Child, Command};

use support::{
    Fault, FaultProxy, REQUEST_ID, RuntimeApi, SIGNED_TOO_EARLY, Stack, answer, as_lambda_starts,
    count_requests, program, sample, source,
};

/// The function, about to start.
fn bootstrap(stack: &Stack, api: &RuntimeApi) -> Command {
    as_lambda_starts(program("bootstrap"), stack, api)
}

async fn end(mut function: Child) -> Output {
    function.start_kill().unwrap();
    function.wait_with_output().await.unwrap()
}

fn event(name: &str) -> Value {
    let path = source("events").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

async fn stack_with_sample() -> Stack {
    let stack = Stack::start().await;
    stack.json(&["publish", "--create-repository", sample().to_str().unwrap(), "hello:1.0"]).await;
    stack
}

#[tokio::test]
async fn it_answers_from_its_first_event_on_and_logs_one_line_each() {
    let stack = stack_with_sample().await;
    let mut api = RuntimeApi::start().await;
    // The noisiest log level, which must not tell more than the quietest.
    let function = bootstrap(&stack, &api).env("AWS_LAMBDA_LOG_LEVEL", "TRACE").spawn().unwrap();

    let (kind, response) = api.invoke(event("rest/OK.json")).await;
    assert_eq!(kind, "response");
    let first = answer(&response);
    first.assert_well_formed();
    assert!(
        first.url().contains("X-Amz-Security-Token=the-session-token"),
        "its own credentials sign"
    );
    let (kind, response) = api.invoke(event("http/LayersNotFoundException.json")).await;
    assert_eq!((kind.as_str(), answer(&response).error()), ("response", "LayersNotFoundException"));
    let (kind, response) = api.invoke(serde_json::json!({"no": "gateway's event"})).await;
    assert_eq!((kind.as_str(), answer(&response).error()), ("response", "SerializationException"));

    let output = end(function).await;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let log = String::from_utf8(output.stdout).unwrap();
    let secret = &stack.environment()["AWS_SECRET_ACCESS_KEY"];
    let signature = first.url().rsplit('=').next().unwrap();
    for hidden in
        [secret.as_str(), "the-session-token", signature, "X-Amz-", "Authorization", "layers/0000"]
    {
        assert!(!log.contains(hidden), "'{hidden}' is in the log: {log}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    let field = |n: usize, name: &str| lines[n][name].clone();
    let outcomes = [0, 1, 2].map(|n| field(n, "outcome"));
    assert_eq!(outcomes, ["OK", "LayersNotFoundException", "SerializationException"]);
    assert_eq!([0, 1, 2].map(|n| field(n, "cold_start")), [true, false, false]);
    for n in [0, 1] {
        assert_eq!(field(n, "request_id"), REQUEST_ID);
        assert_eq!(field(n, "operation"), "GetDownloadUrlForLayer");
        assert_eq!(field(n, "registry"), "000000000000");
        assert_eq!(field(n, "repository"), "hello");
        assert!(field(n, "digest").as_str().unwrap().starts_with("sha256:"));
        assert!(field(n, "duration_ms").as_f64().unwrap() > 0.0);
    }
}

#[tokio::test]
async fn it_is_ready_before_its_first_event_where_that_comes_later() {
    let stack = stack_with_sample().await;
    for (initialization, requests) in [("on-demand", 1), ("provisioned-concurrency", 2)] {
        let (dynamodb, count) = count_requests(&stack.local.engines.dynamodb_url).await;
        let mut api = RuntimeApi::start().await;
        let mut function = bootstrap(&stack, &api);
        function.env("AWS_LAMBDA_INITIALIZATION_TYPE", initialization);
        let function = function.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).spawn().unwrap();
        let (_, response) = api.invoke(event("rest/OK.json")).await;
        assert_eq!(answer(&response).status, 200);
        assert_eq!(count.load(Ordering::SeqCst), requests, "{initialization}");
        end(function).await;
    }
}

#[tokio::test]
async fn a_dynamodb_that_fails_during_init_keeps_nothing_from_starting() {
    let stack = stack_with_sample().await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    proxy.set_on(&[], 0, Fault::InternalError, 3); // so often is a request tried
    let mut api = RuntimeApi::start().await;
    let mut function = bootstrap(&stack, &api);
    function.env("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency");
    let function = function.env("AWS_ENDPOINT_URL_DYNAMODB", &proxy.url).spawn().unwrap();
    let (_, response) = api.invoke(event("rest/OK.json")).await;
    assert_eq!(answer(&response).status, 200);
    let log = String::from_utf8(end(function).await.stdout).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "WARN", "{log}");
    assert!(line["cause"].as_str().unwrap().contains("DynamoDB answered 500"), "{log}");
}

#[tokio::test]
async fn a_fault_is_told_to_the_log_and_not_to_the_client() {
    let stack = stack_with_sample().await;
    let mut api = RuntimeApi::start().await;
    let function = bootstrap(&stack, &api).env("TABLE_NAME", "another-table").spawn().unwrap();
    let (_, response) = api.invoke(event("url/OK.json")).await;
    let fault = answer(&response);
    fault.assert_well_formed();
    assert_eq!(fault.error(), "ServerException");
    assert!(!fault.message().contains("ResourceNotFoundException"));
    let log = String::from_utf8(end(function).await.stdout).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&line["outcome"], &line["level"]), (&"ServerException".into(), &"ERROR".into()));
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("DynamoDB") && cause.contains("ResourceNotFoundException"), "{cause}");
}

#[tokio::test]
async fn what_dynamodb_says_of_a_signature_is_logged_without_the_request_it_repeats() {
    let stack = stack_with_sample().await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    proxy.set(SIGNED_TOO_EARLY);
    let mut api = RuntimeApi::start().await;
    let mut function = bootstrap(&stack, &api);
    let function = function.env("AWS_ENDPOINT_URL_DYNAMODB", &proxy.url).spawn().unwrap();
    let (_, response) = api.invoke(event("rest/OK.json")).await;
    assert_eq!(answer(&response).error(), "ServerException");
    let log = String::from_utf8(end(function).await.stdout).unwrap();
    let line: Value = serde_json::from_str(log.trim()).unwrap();
    let cause = line["cause"].as_str().unwrap();
    assert!(
        cause.contains("InvalidSignatureException") && cause.contains("Signature expired"),
        "{cause}"
    );
    assert!(!log.contains("the-session-token"), "{log}");
}

#[tokio::test]
async fn a_bad_setting_keeps_it_from_starting_and_is_named() {
    let stack = Stack::start().await;
    let api = RuntimeApi::start().await;
    for (variable, value) in [
        ("TABLE_NAME", ""),
        ("BUCKET_NAME", "A bucket"),
        ("DEFAULT_REGISTRY_ID", "1"),
        ("URL_EXPIRY_SECONDS", "0"),
        ("AUTHORIZATION", "open"),
        ("AWS_REGION", ""),
    ] {
        let output = bootstrap(&stack, &api).env(variable, value).output().await.unwrap();
        assert!(!output.status.success(), "{variable}");
        let log = String::from_utf8(output.stdout).unwrap();
        let line: Value = serde_json::from_str(log.trim()).unwrap();
        assert!(line["error"].as_str().unwrap().starts_with(variable), "{log}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[tokio::test]
async fn a_kept_connection_may_break_at_any_time() {
    let stack = stack_with_sample().await;
    for fault in [Fault::Hang, Fault::Reset] {
        let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
        let mut api = RuntimeApi::start().await;
        let function = bootstrap(&stack, &api)
            .env("AWS_ENDPOINT_URL_DYNAMODB", &proxy.url)
            .env("CACHE_SECONDS", "0")
            .spawn()
            .unwrap();
        let mut ask = async || answer(&api.invoke(event("rest/OK.json")).await.1);
        for _ in 0..2 {
            assert_eq!(ask().await.status, 200);
        }
        assert_eq!(proxy.connections(), 1, "it is kept");
        proxy.set_on(&[], 0, fault, 1);
        assert_eq!(ask().await.status, 200, "{fault:?} once: tried again");
        assert_eq!(proxy.connections(), 2, "{fault:?}: on a new connection");
        proxy.set(fault);
        assert_eq!(ask().await.error(), "ServerException", "{fault:?}");
        proxy.set(Fault::None);
        assert_eq!(ask().await.status, 200, "after {fault:?}");
        end(function).await;
    }
}

#[tokio::test]
async fn what_it_remembers_is_as_cache_seconds_says() {
    let stack = stack_with_sample().await;
    for (seconds, requests) in [("0", 3), ("300", 1)] {
        let (dynamodb, count) = count_requests(&stack.local.engines.dynamodb_url).await;
        let mut api = RuntimeApi::start().await;
        let function = bootstrap(&stack, &api)
            .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
            .env("CACHE_SECONDS", seconds)
            .spawn()
            .unwrap();
        for _ in 0..3 {
            let (_, response) = api.invoke(event("rest/OK.json")).await;
            assert_eq!(answer(&response).status, 200);
        }
        assert_eq!(count.load(Ordering::SeqCst), requests, "CACHE_SECONDS={seconds}");
        end(function).await;
    }
}

#[tokio::test]
async fn an_open_door_is_told_at_start() {
    let stack = stack_with_sample().await;
    let mut api = RuntimeApi::start().await;
    let function = bootstrap(&stack, &api).env("AUTHORIZATION", "gateway").spawn().unwrap();
    let (_, response) = api.invoke(event("rest/AccessDeniedException.json")).await;
    assert_eq!(answer(&response).status, 200);
    let log = String::from_utf8(end(function).await.stdout).unwrap();
    assert!(log.lines().next().unwrap().contains("AUTHORIZATION is gateway"), "{log}");
}
