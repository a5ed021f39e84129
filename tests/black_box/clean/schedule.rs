//! The worker as the process that Lambda starts: the scheduled cleaning.

use std::time::{Duration, SystemTime};

use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Fault, FaultProxy, Layout, RuntimeApi, Stack, end_worker, sha256, worker};

/// What the template's schedule sends.
fn schedule() -> Value {
    json!({"clean": {"olderThanDays": 7}})
}

/// A stack with an image in each of three repositories, and of each a deleted one; all objects are
/// eight days old.
async fn stack_with_garbage() -> Stack {
    let stack = Stack::start().await;
    for name in ["one", "two", "three"] {
        stack
            .publish(&Layout::of_layers(&[b"shared", name.as_bytes()]), &format!("{name}:stays"))
            .await;
        let deleted = format!("deleted from {name}");
        stack
            .publish(&Layout::of_layers(&[b"shared", deleted.as_bytes()]), &format!("{name}:goes"))
            .await;
        stack.json(&["image", "delete", &format!("{name}:goes")]).await;
    }
    let eight_days_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    for kind in ["layers", "manifests"] {
        for object in objects(&stack, kind) {
            std::fs::File::options()
                .write(true)
                .open(object)
                .unwrap()
                .set_modified(eight_days_ago)
                .unwrap();
        }
    }
    stack
}

fn objects(stack: &Stack, kind: &str) -> Vec<std::path::PathBuf> {
    let folder = stack.folder.path().join(format!("s3/layergate/{kind}/{ACCOUNT}/sha256"));
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

/// Lambda's deadline is nearer here than what a slice leaves of it. So each does as little as it
/// may, and the next one goes on.
#[tokio::test]
async fn slices_clean_the_whole_registry_and_tell_what_they_freed() {
    let stack = stack_with_garbage().await;
    let before = objects(&stack, "layers").len();
    let mut api = RuntimeApi::start().await;
    let worker = worker(&stack, &api).env("AWS_LAMBDA_LOG_LEVEL", "TRACE").spawn().unwrap();
    // Once through all that there is, and once more from the beginning.
    let slices = 12;
    for _ in 0..slices {
        assert_eq!(api.invoke(schedule()).await, ("response".to_owned(), Value::Null));
    }
    let (lines, errors) = end_worker(worker).await;
    assert_eq!(errors, "");
    assert_eq!(lines.len(), slices, "one line for each slice");
    let sum = |field: &str| lines.iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    // Of each repository a layer, a configuration and a manifest.
    assert_eq!((sum("objects"), sum("layers"), sum("images")), (9, 6, 0));
    assert!(sum("bytes") > 0);
    assert_eq!(before - objects(&stack, "layers").len(), 6);
    let complete: Vec<_> =
        lines.iter().map(|line| line["is_complete"].as_bool().unwrap()).collect();
    assert!(!complete[0] && complete.contains(&true), "{complete:?}");
    assert!(lines.iter().all(|line| line["message"] == "clean" && line["registry"] == ACCOUNT));

    for name in ["one", "two", "three"] {
        for layer in [b"shared", name.as_bytes()] {
            let url = stack.ask(name, &sha256(layer)).await;
            let bytes = reqwest::get(url.url()).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, layer, "{name}");
        }
    }
}

#[tokio::test]
async fn a_new_registry_has_nothing_to_clean() {
    let stack = Stack::start().await;
    let mut api = RuntimeApi::start().await;
    let worker = worker(&stack, &api).spawn().unwrap();
    assert_eq!(api.invoke(schedule()).await.0, "response");
    let (lines, _) = end_worker(worker).await;
    assert_eq!((&lines[0]["objects"], &lines[0]["is_complete"]), (&json!(0), &json!(true)));
    // And it is as new as before: its first image can be published.
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
}

#[tokio::test]
async fn a_cleaning_that_fails_is_an_error_with_its_cause_in_the_log() {
    let stack = stack_with_garbage().await;
    let proxy = FaultProxy::to(&stack.local.engines.s3_url).await;
    proxy.set(Fault::Answer(
        "403 Forbidden",
        "<Error><Code>AccessDenied</Code><Message>No</Message></Error>",
    ));
    let mut api = RuntimeApi::start().await;
    let worker = worker(&stack, &api).env("AWS_ENDPOINT_URL_S3", &proxy.url).spawn().unwrap();
    // The first slices look only at records, which are in DynamoDB.
    let mut answer = api.invoke(schedule()).await;
    for _slice in 0..5 {
        if answer.0 == "response" {
            answer = api.invoke(schedule()).await;
        }
    }
    let (kind, error) = answer;
    assert_eq!(kind, "error");
    assert!(error["errorMessage"].as_str().unwrap().contains("the log has the cause"), "{error}");
    proxy.set(Fault::None);
    assert_eq!(api.invoke(schedule()).await.0, "response", "the next one goes on");
    // What is no event of the schedule's cleans nothing.
    let no_events = [
        json!({}),
        json!({"clean": {}}),
        json!({"clean": {"olderThanDays": -1}}),
        json!({"clean": {"olderThanDays": 7, "dryRun": true}}),
        json!({"clean": {"olderThanDays": 7}, "dryRun": true}),
        json!({"olderThanDays": 7}),
    ];
    for event in no_events {
        assert_eq!(api.invoke(event.clone()).await.0, "error", "{event}");
    }
    let (lines, _) = end_worker(worker).await;
    let failed: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "clean" && line["level"] == "ERROR")
        .collect();
    assert_eq!(failed.len(), 1, "{lines:?}");
    assert!(
        failed[0]["cause"].as_str().unwrap().contains("S3 answered 403 (AccessDenied)"),
        "{failed:?}"
    );
}
