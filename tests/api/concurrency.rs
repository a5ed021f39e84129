//! Publishing and deleting at once: whatever is told to be published is there, whichever step of the one the other
//! comes between.

use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{Layout, Stack, forward, serve, sha256, stderr};

/// A proxy to DynamoDB whose `step`th request waits: it tells when that has arrived, and is told to let it go.
async fn waiting_at(step: usize, stack: &Stack) -> (String, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (arrived, arrival) = oneshot::channel();
    let (let_go, may_go) = oneshot::channel::<()>();
    let wait = Arc::new(Mutex::new(Some((arrived, may_go))));
    let (client, requests) = (reqwest::Client::new(), Arc::new(AtomicUsize::new(0)));
    let engine = stack.local.engines.dynamodb_url.clone();
    let url = serve(move |request: Request| {
        let waits = requests.fetch_add(1, Ordering::SeqCst) + 1 == step;
        let wait = if waits { wait.lock().unwrap().take() } else { None };
        let (engine, client) = (engine.clone(), client.clone());
        async move {
            if let Some((arrived, may_go)) = wait {
                arrived.send(()).unwrap();
                may_go.await.unwrap();
            }
            forward(&client, &engine, request).await
        }
    });
    (url.await, arrival, let_go)
}

/// Runs the tool with `first`, and with `second` while the `step`th request of that to DynamoDB waits. `None` if it
/// has no such step.
async fn between_steps(
    stack: &Stack,
    step: usize,
    first: &[&str],
    second: &[&str],
) -> Option<(Output, Output)> {
    let (dynamodb, arrival, let_go) = waiting_at(step, stack).await;
    let mut first = stack.command(first);
    let first = first.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).output();
    tokio::pin!(first);
    tokio::select! {
        _ = &mut first => None,
        _ = arrival => {
            let second = stack.layergate(second).await;
            let_go.send(()).unwrap();
            Some((first.await.unwrap(), second))
        }
    }
}

/// An index of an image with this layer and one that is `shared`.
fn index(layer: &str) -> Layout {
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"shared"]), layout.add_image(&[layer.as_bytes()])];
    layout.set_index(&[layout.add_index(&images)]);
    layout
}

#[tokio::test]
async fn what_is_published_while_something_else_is_deleted_is_all_there() {
    let stack = Stack::start().await;
    let cases = [
        ("an index that shares an image with the deleted one", index("one"), index("two"), ["shared", "two"]),
        ("another tag of the deleted image", index("two"), index("two"), ["shared", "two"]),
    ];
    for (case, (description, one, two, layers)) in cases.iter().enumerate() {
        for deletes_first in [true, false] {
            let mut steps = 0;
            loop {
                steps += 1;
                let repository = format!("case-{case}/{deletes_first}/{steps}");
                let (tag_one, tag_two) = (format!("{repository}:1"), format!("{repository}:2"));
                stack.publish(one, &tag_one).await;
                let delete = ["image", "delete", &tag_one];
                let path = two.path();
                let publish = ["publish", &path, &tag_two];
                let (deleted, published) = match deletes_first {
                    true => match between_steps(&stack, steps, &delete, &publish).await {
                        Some(outputs) => outputs,
                        None => break,
                    },
                    false => match between_steps(&stack, steps, &publish, &delete).await {
                        Some((published, deleted)) => (deleted, published),
                        None => break,
                    },
                };
                assert!(deleted.status.success(), "{description}: {}", stderr(&deleted));
                if !published.status.success() {
                    assert_eq!(published.status.code(), Some(5), "{}", stderr(&published));
                    assert!(stderr(&published).contains("being deleted"), "{}", stderr(&published));
                    stack.publish(two, &tag_two).await;
                }
                let listed = stack.json(&["image", "list", &repository]).await;
                let images = listed["images"].as_array().unwrap();
                assert_eq!(images.len(), 3, "{description}, {repository}: {listed}");
                let are_published = images.iter().all(|image| image["imagePushedAt"].is_u64());
                assert!(are_published, "{description}, {repository}: {listed}");
                for layer in layers {
                    let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                    assert_eq!(answer.status, 200, "{description}, {repository}, {layer}");
                }

                stack.json(&["image", "delete", &tag_two]).await;
                let listed = stack.json(&["image", "list", &repository]).await;
                assert_eq!(
                    listed["images"],
                    json!([]),
                    "{description}, {repository}: nothing is left behind"
                );
                for layer in layers {
                    let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                    assert_eq!(answer.error(), "LayerInaccessibleException", "{repository}, {layer}");
                }
            }
            assert!(steps > 5, "{description}: {steps} requests to DynamoDB");
        }
    }
}

#[tokio::test]
async fn a_delete_that_was_killed_is_completed_when_run_again() {
    let stack = Stack::start().await;
    let layout = index("own");
    let commands: [&[&str]; 2] = [&["image", "delete"], &["repository", "delete", "--force"]];
    for command in commands {
        let mut steps = 0;
        loop {
            steps += 1;
            let repository = format!("{}/{steps}", command[0]);
            let tagged = format!("{repository}:1");
            stack.publish(&layout, &tagged).await;
            let delete = [command, &[if command[0] == "image" { &tagged } else { &repository }]].concat();
            let (dynamodb, arrival, _let_go) = waiting_at(steps, &stack).await;
            let mut killed = stack.command(&delete);
            let killed = killed.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).stdout(Stdio::null());
            let mut killed = killed.spawn().unwrap();
            tokio::select! {
                _ = killed.wait() => break,
                _ = arrival => killed.kill().await.unwrap(),
            }
            let listed = stack.json(&["image", "list", &repository]).await;
            let is_published = listed["images"][0]["imagePushedAt"].is_u64();
            for layer in ["shared", "own"] {
                let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                assert!(answer.status == 200 || !is_published, "{command:?}, {steps}: {answer:?}");
            }

            stack.json(&delete).await;
            let answer = stack.ask(&repository, &sha256(b"own")).await;
            if command[0] == "image" {
                let listed = stack.json(&["image", "list", &repository]).await;
                assert_eq!(listed["images"], json!([]), "{command:?}, {steps}");
                assert_eq!(answer.error(), "LayerInaccessibleException", "{command:?}, {steps}");
            } else {
                assert_eq!(answer.error(), "RepositoryNotFoundException", "{command:?}, {steps}");
            }
            stack.publish(&layout, &tagged).await;
        }
        assert!(steps > 5, "{command:?}: {steps} requests to DynamoDB");
    }
}
