//! A clean and another command at once: one is stopped at each of its requests, to DynamoDB and to
//! S3, while the other runs to its end. Nothing that is published loses a byte, and nothing is left
//! behind that a further clean would not remove.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use layergate_core::catalog::Catalog;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

use support::{
    CLEAN, Layout, Stack, age_cleaners_and_intents, assert_consistent, assert_intact, at_each_step,
    forward, images_of, objects, repository, serve, sha256, stderr, waiting_at_both,
};

/// A stack where the image that is published has one layer with a record and no reference, one that
/// is only an object, and one that is new; and where a publishing of this image was killed long
/// ago. Each step has a copy of it.
struct Scene {
    data: TempDir,
    layout: Layout,
    stays: Value,
}

impl Scene {
    /// `images` are published too.
    async fn prepare(images: &[(&Layout, &str)]) -> Self {
        let stack = Stack::start().await;
        let stays = stack.publish(&Layout::of_layers(&[b"stays"]), "stays:1").await;
        stack.publish(&Layout::of_layers(&[b"recorded"]), "app:old").await;
        stack.publish(&Layout::of_layers(&[b"stored", b"garbage"]), "other:1").await;
        stack.json(&["image", "delete", "app:old"]).await;
        stack.json(&["repository", "delete", "--force", "other"]).await;
        let layout = Layout::of_layers(&[b"recorded", b"stored", b"new"]);

        let catalog =
            Catalog::new(&stack.local.engines.sdk_config(), &stack.local.engines.config());
        let repository = repository("app");
        let image = images_of(&layout).pop().unwrap();
        let intent = catalog.announce(&repository.registry, [image.digest.clone()]).await.unwrap();
        catalog.begin_image(&repository, &image, &intent).await.unwrap();
        age_cleaners_and_intents(&stack).await;
        for (image, reference) in images {
            stack.publish(image, reference).await;
        }
        Self { data: stack.stop().await, layout, stays }
    }

    /// What must be true after both commands, and after one more clean.
    async fn check(&self, stack: &Stack, published: &Value, context: &str) {
        assert_intact(stack, published, context).await;
        age_cleaners_and_intents(stack).await;
        stack.json(&CLEAN).await;
        assert_intact(stack, published, &format!("{context}, cleaned again")).await;
        assert_intact(stack, &self.stays, context).await;
        // Three layers and the configuration of the one image, one and the configuration of the
        // other.
        assert_eq!(objects(stack, "layers").len(), 6, "{context}: garbage is left");
        assert_eq!(objects(stack, "manifests").len(), 2, "{context}: garbage is left");
    }
}

/// A proxy to DynamoDB that tells when a command waits for a cleaner: it asks for the cleaners
/// before and after it publishes, and oftener only if it waits.
async fn telling_who_waits(stack: &Stack) -> (String, Arc<Notify>) {
    let (waits, asked) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (engine, client) = (stack.local.engines.dynamodb_url.clone(), reqwest::Client::new());
    let tell = waits.clone();
    let url = serve(move |request: Request| {
        let (engine, client, tell, asked) =
            (engine.clone(), client.clone(), tell.clone(), asked.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let is_query = head
                .headers
                .get("x-amz-target")
                .is_some_and(|target| target == "DynamoDB_20120810.Query");
            if is_query
                && String::from_utf8_lossy(&body).contains("cleaning#")
                && asked.fetch_add(1, Ordering::SeqCst) >= 2
            {
                tell.notify_one();
            }
            forward(&client, &engine, Request::from_parts(head, Body::from(body))).await
        }
    });
    (url.await, waits)
}

/// Stops `first` at its `step`th request, and runs `second` there: to its end, or until it waits
/// for the first. `None` if there is no such step.
async fn between(
    stack: &Stack,
    step: usize,
    first: &[&str],
    second: &[&str],
) -> Option<[Output; 2]> {
    let (environment, arrived, let_go) = waiting_at_both(step, stack).await;
    let mut first = stack.command(first);
    let mut first = Box::pin(first.envs(environment).output());
    tokio::select! {
        _ = &mut first => return None,
        () = arrived.notified() => {}
    }
    let (dynamodb, waits) = telling_who_waits(stack).await;
    let mut second = stack.command(second);
    let mut second = Box::pin(second.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).output());
    let ended = tokio::select! {
        ended = &mut second => Some(ended.unwrap()),
        () = waits.notified() => None,
    };
    let_go.send(true).unwrap();
    let first = first.await.unwrap();
    Some([
        first,
        match ended {
            Some(ended) => ended,
            None => second.await.unwrap(),
        },
    ])
}

/// A publishing and a clean, one of them stopped at each of its requests.
async fn publish_and_clean(publishing_is_stopped: bool) {
    let scene = Scene::prepare(&[]).await;
    let path = scene.layout.path();
    let publish = ["--output", "json", "publish", &path, "app:new"];
    at_each_step(usize::from(publishing_is_stopped), 20, async |step| {
        let stack = Stack::start_on_copy(&scene.data).await;
        let outputs = match publishing_is_stopped {
            true => between(&stack, step, &publish, &CLEAN).await,
            false => between(&stack, step, &CLEAN, &publish)
                .await
                .map(|[cleaned, published]| [published, cleaned]),
        };
        let Some([published, cleaned]) = outputs else { return false };
        let context = format!("stopped at {step}: {}{}", stderr(&published), stderr(&cleaned));
        assert!(published.status.success() && cleaned.status.success(), "{context}");
        scene.check(&stack, &serde_json::from_slice(&published.stdout).unwrap(), &context).await;
        true
    })
    .await;
}

#[tokio::test]
async fn a_publishing_that_is_stopped_loses_nothing_to_a_clean() {
    publish_and_clean(true).await;
}

#[tokio::test]
async fn a_clean_that_is_stopped_takes_nothing_from_a_publishing() {
    publish_and_clean(false).await;
}

#[tokio::test]
async fn a_clean_and_a_deletion_leave_what_a_further_clean_removes() {
    let scene = Scene::prepare(&[(&Layout::of_layers(&[b"recorded", b"own"]), "app:1")]).await;
    let deletes: [&[&str]; 3] =
        [&["image", "delete", "app:1"], &["repository", "delete", "--force", "app"], &CLEAN];
    for (case, delete) in deletes.into_iter().enumerate() {
        at_each_step(case, 20, async |step| {
            let stack = Stack::start_on_copy(&scene.data).await;
            let Some([cleaned, deleted]) = between(&stack, step, &CLEAN, delete).await else {
                return false;
            };
            let context =
                format!("{delete:?}, stopped at {step}: {}{}", stderr(&cleaned), stderr(&deleted));
            assert!(cleaned.status.success() && deleted.status.success(), "{context}");
            assert_consistent(&stack, "app").await;
            if delete == CLEAN {
                assert_eq!(stack.ask("app", &sha256(b"own")).await.status, 200, "{context}");
            } else {
                stack.json(&CLEAN).await;
                assert_eq!(objects(&stack, "layers").len(), 2, "{context}: garbage is left");
            }
            assert_intact(&stack, &scene.stays, &context).await;
            true
        })
        .await;
    }
}
