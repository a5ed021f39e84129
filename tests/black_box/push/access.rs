//! Who may push.

use std::time::SystemTime;

use support::{Layout, OUTSIDER, Registry, Stack};

use layergate_local::ACCOUNT;

#[tokio::test]
async fn web_pages_can_neither_push_nor_read() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let layout = Layout::of_layers(&[b"layer"]);
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
    let pages = [
        ("a page of another site", ("origin", "https://example.com")),
        ("a sandboxed page", ("origin", "null")),
        ("a page whose own name leads here", ("host", "rebind.example.com")),
    ];
    let requests = [
        ("GET", "/v2/app/tags/list"),
        ("GET", "/v2/app/manifests/1"),
        ("POST", "/v2/app/blobs/uploads/"),
        ("DELETE", "/v2/app/manifests/1"),
        ("POST", "/"),
    ];
    for (page, header) in pages {
        for (method, path) in requests {
            let refused = registry.send(method, path, &[header], "").await;
            assert_eq!(refused.status, 403, "{page}: {method} {path}: {refused:?}");
        }
    }
    assert_eq!(registry.send("HEAD", "/v2/app/manifests/1", &[], "").await.status, 200);
}

#[tokio::test]
async fn another_account_cannot_push() {
    let stack = Stack::start_as(Some(OUTSIDER)).await;
    stack.json(&["repository", "create", "app"]).await;
    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    assert_reads_only(&stack.registry()).await;
}

#[tokio::test]
async fn with_a_login_the_registrys_own_account_pushes_and_others_read_what_is_granted() {
    let stack = Stack::start_with_login().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let mut registry = stack.registry();
    let refused = registry.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(refused.status, 401, "nobody logged in: {refused:?}");
    assert!(refused.header("www-authenticate").starts_with("Basic "), "{refused:?}");

    registry.authorization = Some(stack.login(ACCOUNT, SystemTime::now()).await);
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
    assert_eq!(registry.push(&layout, "private", "1").await.status, 201);

    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    registry.authorization = Some(stack.login(OUTSIDER, SystemTime::now()).await);
    assert_eq!(registry.send("HEAD", "/v2/app/manifests/1", &[], "").await.status, 200);
    assert_eq!(registry.send("HEAD", "/v2/private/manifests/1", &[], "").await.status, 403);
    assert_reads_only(&registry).await;

    registry.authorization = Some("Basic QVdTOm5vLXRva2Vu".to_owned());
    let refused = registry.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(refused.status, 401, "a token that is none: {refused:?}");
}

async fn assert_reads_only(registry: &Registry) {
    let requests = [
        ("POST", "/v2/app/blobs/uploads/"),
        ("PUT", "/v2/app/manifests/1"),
        ("DELETE", "/v2/app/manifests/1"),
    ];
    for (method, path) in requests {
        let refused = registry.send(method, path, &[], "").await;
        assert_eq!(refused.outcome(), (405, "UNSUPPORTED".to_owned()), "{method} {path}");
    }
}
