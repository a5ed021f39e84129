//! What a function instance remembers, for how long, and what it never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use layergate::lambda::Handler;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::{Answer, Layout, OUTSIDER, Shape, Stack, TARGET, call, count_requests, sha256};

/// A handler that remembers for `life`, and the count of its requests to DynamoDB.
async fn remembering(stack: &Stack, life: Duration) -> (Handler, Arc<AtomicUsize>) {
    let (url, requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| {
        config.dynamodb_endpoint = Some(url);
        config.cache_life = life;
    });
    (handler, requests)
}

async fn ask(
    handler: &Handler,
    caller: &str,
    registry: &str,
    repository: &str,
    digest: &str,
) -> Answer {
    let body = json!({"registryId": registry, "repositoryName": repository, "layerDigest": digest});
    call(handler, Shape::Rest, Some(TARGET), body.to_string().as_bytes(), Some(caller)).await
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_layer_that_was_seen_costs_no_request_and_gets_a_url_of_its_own() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let (handler, requests) = remembering(&stack, LONG).await;
    let digest = sha256(b"layer");
    for asked in 1..=3 {
        let answer = ask(&handler, ACCOUNT, ACCOUNT, "app", &digest).await;
        assert_eq!(reqwest::get(answer.url()).await.unwrap().status(), 200, "{asked}");
        assert_eq!(requests.load(Ordering::SeqCst), 1, "{asked}");
    }
    let upper = format!("sha256:{}", digest["sha256:".len()..].to_uppercase());
    let answer = ask(&handler, ACCOUNT, ACCOUNT, "app", &upper).await;
    assert_eq!(
        answer.body["layerDigest"], upper,
        "the same layer, echoed as this request spells it"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn with_a_life_of_nothing_every_call_looks() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let (handler, requests) = remembering(&stack, Duration::ZERO).await;
    for asked in 1..=3 {
        ask(&handler, ACCOUNT, ACCOUNT, "app", &sha256(b"layer")).await;
        assert_eq!(requests.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn a_deleted_layer_is_given_no_longer_than_the_life() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let life = Duration::from_millis(1500);
    let (handler, _) = remembering(&stack, life).await;
    assert_eq!(ask(&handler, ACCOUNT, ACCOUNT, "app", &sha256(b"layer")).await.status, 200);
    let remembered = std::time::Instant::now();
    stack.json(&["image", "delete", "app:1"]).await;
    loop {
        let asked = remembered.elapsed();
        let answer = ask(&handler, ACCOUNT, ACCOUNT, "app", &sha256(b"layer")).await;
        if answer.status == 400 {
            assert_eq!(answer.error(), "LayerInaccessibleException");
            break;
        }
        assert!(asked < life, "still given after {asked:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_refusal_is_never_remembered() {
    let stack = Stack::start().await;
    let (handler, _) = remembering(&stack, LONG).await;
    let ask = async || ask(&handler, ACCOUNT, ACCOUNT, "app", &sha256(b"layer")).await;
    assert_eq!(ask().await.error(), "RepositoryNotFoundException");
    stack.json(&["repository", "create", "app"]).await;
    assert_eq!(ask().await.error(), "LayersNotFoundException");
    let layout = Layout::of_layers(&[b"layer"]);
    stack.publish(&layout, "app:1").await;
    stack.json(&["image", "delete", "app:1"]).await;
    assert_eq!(ask().await.error(), "LayerInaccessibleException");
    stack.publish(&layout, "app:1").await;
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn what_one_caller_was_given_opens_nothing_to_another() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "create", "other"]).await;
    let (handler, requests) = remembering(&stack, LONG).await;
    let digest = sha256(b"layer");
    assert_eq!(ask(&handler, ACCOUNT, ACCOUNT, "app", &digest).await.status, 200);

    let refused = ask(&handler, OUTSIDER, ACCOUNT, "app", &digest).await;
    assert_eq!(refused.error(), "AccessDeniedException");
    let other = ask(&handler, ACCOUNT, ACCOUNT, "other", &digest).await;
    assert_eq!(other.error(), "LayersNotFoundException");
    let elsewhere = ask(&handler, OUTSIDER, OUTSIDER, "app", &digest).await;
    assert_eq!(elsewhere.error(), "RepositoryNotFoundException");

    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    requests.store(0, Ordering::SeqCst);
    assert_eq!(ask(&handler, OUTSIDER, ACCOUNT, "app", &digest).await.status, 200);
    assert_eq!(
        requests.load(Ordering::SeqCst),
        2,
        "the grant is looked up each time, and with it the layer"
    );
    requests.store(0, Ordering::SeqCst);
    ask(&handler, "222222222222", ACCOUNT, "app", &digest).await;
    let existing = requests.swap(0, Ordering::SeqCst);
    ask(&handler, "222222222222", ACCOUNT, "absent", &digest).await;
    assert_eq!(
        existing,
        requests.load(Ordering::SeqCst),
        "a refusal costs the same, whatever exists"
    );
    stack.json(&["repository", "revoke", "app", OUTSIDER]).await;
    assert_eq!(
        ask(&handler, OUTSIDER, ACCOUNT, "app", &digest).await.error(),
        "AccessDeniedException"
    );
}
