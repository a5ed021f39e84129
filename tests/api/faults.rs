//! An engine that breaks: what the client is told, how soon, and whether the next call works.

use std::time::{Duration, Instant};

use layergate::local::ACCOUNT;
use serde_json::json;

use crate::support::{
    Answer, Fault, FaultProxy, Layout, Shape, Stack, TARGET, assert_refused, event, send_with_deadline,
    sha256,
};

/// The function's timeout in the template.
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(6);

const FAULTS: [(Fault, &str); 8] = [
    (Fault::Hang, "ServerException"),
    (Fault::Stall, "ServerException"),
    (Fault::Reset, "ServerException"),
    (Fault::Truncated, "ServerException"),
    (Fault::Nonsense, "ServerException"),
    (Fault::OtherJson, "ServerException"),
    (Fault::InternalError, "ServerException"),
    (Fault::Throttle, "ThrottlingException"),
];

#[tokio::test]
async fn a_broken_dynamodb_is_a_fault_in_time_and_the_next_call_works() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    for (fault, expected) in FAULTS {
        let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
        let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(proxy.url.clone()));
        let ask = async |digest: &str| -> Answer {
            let body = json!({"repositoryName": "app", "layerDigest": digest}).to_string();
            let event = event(Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT));
            send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await
        };
        let layers = [("a layer that is there", sha256(b"layer")), ("one that is not", sha256(b"unknown"))];
        for (description, digest) in layers {
            proxy.set(fault);
            let started = Instant::now();
            let answer = ask(&digest).await;
            assert!(started.elapsed() < LAMBDA_TIMEOUT, "{fault:?}: {:?}", started.elapsed());
            answer.assert_well_formed();
            assert_eq!(answer.error(), expected, "{fault:?}, {description}");
        }
        proxy.set(Fault::None);
        let answer = ask(&sha256(b"layer")).await;
        assert_eq!(answer.status, 200, "after {fault:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_slow_dynamodb_is_waited_for() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(proxy.url.clone()));
    proxy.set(Fault::Slow(Duration::from_millis(700)));
    for (digest, outcome) in [(sha256(b"layer"), "OK"), (sha256(b"unknown"), "LayersNotFoundException")] {
        let body = json!({"repositoryName": "app", "layerDigest": digest}).to_string();
        let event = event(Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT));
        let answer = send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await;
        assert_eq!(if answer.status == 200 { "OK" } else { answer.error() }, outcome);
    }
}

#[tokio::test]
async fn publishing_through_a_fault_completes_or_says_so_and_completes_when_run_again() {
    let stack = Stack::start().await;
    let (small, large) = (b"small".to_vec(), vec![7; 9 * 1024 * 1024]);
    let layout = Layout::of_layers(&[&small, &large]);
    stack.json(&["repository", "create", "app"]).await;
    let engines = [
        ("AWS_ENDPOINT_URL_DYNAMODB", &stack.local.engines.dynamodb_url, "DynamoDB"),
        ("AWS_ENDPOINT_URL_S3", &stack.local.engines.s3_url, "S3"),
    ];
    for (variable, url, engine) in engines {
        for fault in [Fault::Reset, Fault::Truncated, Fault::InternalError] {
            let proxy = FaultProxy::to(url).await;
            proxy.set(fault);
            let publish = ["publish", &layout.path(), "app:1"];
            let output = stack.command(&publish).env(variable, &proxy.url).output().await.unwrap();
            assert_refused(&output, 1, &[engine]);
            assert!(stack.unfinished_uploads().is_empty(), "{engine}, {fault:?}");
            for layer in [&small, &large] {
                assert_eq!(stack.ask("app", &sha256(layer)).await.status, 400, "{engine}, {fault:?}");
            }
        }
        // A fault that ends while it is retried goes unnoticed.
        let proxy = FaultProxy::to(url).await;
        proxy.set_for(Fault::Reset, 2);
        let publish = ["publish", &layout.path(), "app:1"];
        let output = stack.command(&publish).env(variable, &proxy.url).output().await.unwrap();
        assert!(output.status.success(), "{engine}: {}", crate::support::stderr(&output));
        for layer in [&small, &large] {
            assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200);
        }
        stack.json(&["repository", "delete", "--force", "app"]).await;
        stack.json(&["repository", "create", "app"]).await;
        std::fs::remove_dir_all(stack.folder.path().join("s3/layergate/layers")).unwrap();
    }
}
