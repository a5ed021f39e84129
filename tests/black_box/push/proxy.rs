//! `layergate proxy`: pushes into the registry that the settings name.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use support::{Layout, OUTSIDER, Registry, Stack, assert_refused};

/// A proxy that runs until it is dropped, and the registry that it is.
async fn proxy(stack: &Stack, arguments: &[&str]) -> (Child, Registry) {
    let mut command = stack.command(&[&["proxy", "--port", "0"], arguments].concat());
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let address = first.trim_end_matches(':').rsplit(' ').next().unwrap();
    (process, Registry::at(&format!("http://{address}")))
}

#[tokio::test]
async fn an_image_that_is_pushed_through_it_is_in_the_registry() {
    let stack = Stack::start().await;
    let (_process, registry) = proxy(&stack, &["--create-repositories"]).await;
    let layout = Layout::of_layers(&[b"layer"]);
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
    for registry in [&registry, &stack.registry()] {
        let got = registry.send("HEAD", "/v2/app/manifests/1", &[], "").await;
        assert_eq!(got.header("docker-content-digest"), layout.root()["digest"]);
    }
    let ecr = registry.send("POST", "/", &[("x-amz-target", support::TARGET)], "{}").await;
    assert_eq!(ecr.status, 403, "ECR's API has no login here: {ecr:?}");
}

#[tokio::test]
async fn a_repository_that_is_missing_is_created_only_if_that_is_wanted() {
    let stack = Stack::start().await;
    let (_process, registry) = proxy(&stack, &[]).await;
    let refused = registry.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(refused.outcome(), (404, "NAME_UNKNOWN".to_owned()));
    let advice = "layergate repository create app";
    assert!(refused.sentence().contains(advice), "{}", refused.sentence());
    stack.json(&["repository", "create", "app"]).await;
    let layout = Layout::of_layers(&[b"layer"]);
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
}

#[tokio::test]
async fn it_is_open_to_this_machine_only_unless_clients_log_in() {
    let stack = Stack::start().await;
    let output = stack.layergate(&["proxy", "--port", "0", "--listen", "0.0.0.0"]).await;
    assert_refused(&output, 2, &["0.0.0.0", "--login"]);

    let (_process, mut registry) =
        proxy(&stack, &["--listen", "127.0.0.1", "--login", "--create-repositories"]).await;
    let layout = Layout::of_layers(&[b"layer"]);
    let refused = registry.send("GET", "/v2/", &[], "").await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let now = std::time::SystemTime::now();
    registry.authorization = Some(stack.login(OUTSIDER, now).await);
    let refused = registry.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(refused.outcome(), (405, "UNSUPPORTED".to_owned()));
    registry.authorization = Some(stack.login(layergate_local::ACCOUNT, now).await);
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
}
