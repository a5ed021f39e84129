//! Who may read what, and how little a refusal tells.

use layergate_core::config::Authorization;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::{Answer, Layout, OUTSIDER, SHAPES, Shape, Stack, TARGET, call, sha256};

const LAYER: &[u8] = b"a layer";

async fn ask_as(
    stack: &Stack,
    shape: Shape,
    caller: &str,
    repository: &str,
    digest: &str,
) -> Answer {
    let body = json!({"registryId": ACCOUNT, "repositoryName": repository, "layerDigest": digest})
        .to_string();
    call(&stack.handler, shape, Some(TARGET), body.as_bytes(), Some(caller)).await
}

#[tokio::test]
async fn an_account_reads_what_was_granted_to_it_and_no_more() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[LAYER]);
    stack.publish(&layout, "app:1").await;
    stack.publish(&layout, "other:1").await;
    let digest = sha256(LAYER);
    for shape in SHAPES {
        assert_eq!(
            ask_as(&stack, shape, OUTSIDER, "app", &digest).await.error(),
            "AccessDeniedException"
        );

        let shown = stack.json(&["repository", "grant", "app", OUTSIDER]).await;
        assert_eq!(shown["accounts"], json!([OUTSIDER]));
        assert_eq!(ask_as(&stack, shape, OUTSIDER, "app", &digest).await.status, 200);
        let unknown = ask_as(&stack, shape, OUTSIDER, "app", &sha256(b"unknown")).await;
        assert_eq!(
            unknown.error(),
            "LayersNotFoundException",
            "whoever may read is told the truth"
        );
        let other = ask_as(&stack, shape, OUTSIDER, "other", &digest).await;
        assert_eq!(other.error(), "AccessDeniedException", "a grant is for one repository");
        let third = ask_as(&stack, shape, "333333333333", "app", &digest).await;
        assert_eq!(third.error(), "AccessDeniedException", "and for one account");

        let shown = stack.json(&["repository", "revoke", "app", OUTSIDER]).await;
        assert_eq!(shown["accounts"], json!([]));
        assert_eq!(
            ask_as(&stack, shape, OUTSIDER, "app", &digest).await.error(),
            "AccessDeniedException"
        );
    }
    assert_eq!(ask_as(&stack, Shape::Rest, ACCOUNT, "app", &digest).await.status, 200);
}

#[tokio::test]
async fn an_outsider_cannot_tell_what_exists() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[LAYER]), "exists").await;
    let digest = sha256(LAYER);
    for shape in SHAPES {
        let exists = ask_as(&stack, shape, OUTSIDER, "exists", &digest).await;
        let missing = ask_as(&stack, shape, OUTSIDER, "absent", &sha256(b"unknown")).await;
        assert_eq!(exists.error(), "AccessDeniedException");
        assert_eq!(exists.headers, missing.headers);
        let hide = |answer: &Answer, name: &str| answer.body.to_string().replace(name, "…");
        assert_eq!(hide(&exists, "exists"), hide(&missing, "absent"));
    }
}

#[tokio::test]
async fn an_outsider_over_http_is_refused_too() {
    let stack = Stack::start_as(Some(OUTSIDER)).await;
    stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
    let answer = reqwest::Client::new()
        .post(&stack.local.url)
        .header("x-amz-target", TARGET)
        .body(json!({"repositoryName": "app", "layerDigest": sha256(LAYER)}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["x-amzn-errortype"], "AccessDeniedException");
}

#[tokio::test]
async fn whoever_a_trusted_gateway_lets_in_reads_everything() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
    let handler = stack.handler_with(|config| config.authorization = Authorization::Gateway);
    let body = json!({"repositoryName": "app", "layerDigest": sha256(LAYER)}).to_string();
    for shape in SHAPES {
        for caller in [None, Some(OUTSIDER)] {
            let answer = call(&handler, shape, Some(TARGET), body.as_bytes(), caller).await;
            assert_eq!(answer.status, 200, "{shape:?} {caller:?}");
        }
    }
}

#[tokio::test]
async fn grants_are_kept_to_repositories_that_exist() {
    let stack = Stack::start().await;
    for arguments in [["grant", "missing"], ["revoke", "missing"]] {
        let output = stack.layergate(&["repository", arguments[0], arguments[1], OUTSIDER]).await;
        support::assert_refused(&output, 4, &["missing", "repository list"]);
    }
    let output = stack.layergate(&["repository", "grant", "missing", "12345"]).await;
    assert_eq!(output.status.code(), Some(2));
}
