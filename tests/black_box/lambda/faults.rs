//! A DynamoDB that breaks: what the client is told, how soon, and whether the next call works.

use std::time::{Duration, Instant};

use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::{
    Answer, FAULTS, Fault, FaultProxy, Layout, OUTSIDER, Shape, Stack, TARGET, event,
    send_with_deadline, sha256,
};

/// The function's timeout in the template.
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(29);

#[tokio::test]
async fn a_broken_dynamodb_is_a_fault_in_time_and_the_next_call_works() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    for fault in FAULTS {
        let expected =
            if fault == Fault::Throttle { "ThrottlingException" } else { "ServerException" };
        let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
        let handler = stack.handler_with_patience(Patience::CLIENT, |config| {
            config.dynamodb_endpoint = Some(proxy.url.clone())
        });
        let ask = async |caller: &str, layer: &[u8]| -> Answer {
            let body = json!({"registryId": ACCOUNT, "repositoryName": "app", "layerDigest": sha256(layer)});
            let event = event(Shape::Rest, Some(TARGET), body.to_string().as_bytes(), Some(caller));
            send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await
        };
        // Faults meet a connection that was used and kept.
        assert_eq!(ask(ACCOUNT, b"layer").await.status, 200);
        let cases: [(&str, &str, &[u8]); 3] = [
            ("a layer that is there", ACCOUNT, b"layer"),
            ("one that is not", ACCOUNT, b"unknown"),
            ("another account that may read it", OUTSIDER, b"layer"),
        ];
        for (description, caller, layer) in cases {
            proxy.set(fault);
            let started = Instant::now();
            let answer = ask(caller, layer).await;
            assert!(started.elapsed() < LAMBDA_TIMEOUT, "{fault:?}: {:?}", started.elapsed());
            answer.assert_well_formed();
            assert_eq!(answer.error(), expected, "{fault:?}, {description}");
        }
        proxy.set(Fault::None);
        for caller in [ACCOUNT, OUTSIDER] {
            let answer = ask(caller, b"layer").await;
            assert_eq!(answer.status, 200, "after {fault:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_dynamodb_is_waited_for() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with_patience(Patience::CLIENT, |config| {
        config.dynamodb_endpoint = Some(proxy.url.clone())
    });
    proxy.set(Fault::Slow(Duration::from_millis(700)));
    for (digest, outcome) in
        [(sha256(b"layer"), "OK"), (sha256(b"unknown"), "LayersNotFoundException")]
    {
        let body = json!({"repositoryName": "app", "layerDigest": digest}).to_string();
        let event = event(Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT));
        let answer = send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await;
        assert_eq!(if answer.status == 200 { "OK" } else { answer.error() }, outcome);
    }
}
