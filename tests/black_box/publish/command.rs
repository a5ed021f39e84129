//! `layergate publish`: large and many layers, interruptions, and running it again.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use support::{
    Answer, Layout, Stack, assert_refused, forward, nobody_listens, sample, serve, sha256, stderr,
    steps, waiting_at_both,
};

/// Bytes that are the same in every run and do not repeat within a part.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn assert_downloads(answer: &Answer, layer: &[u8]) {
    let downloaded = reqwest::get(answer.url()).await.unwrap().bytes().await.unwrap();
    assert!(downloaded == layer, "{} of {} bytes", downloaded.len(), layer.len());
}

#[tokio::test]
async fn a_layer_of_several_parts_arrives_whole() {
    let stack = Stack::start().await;
    const MEBIBYTE: usize = 1024 * 1024;
    for length in [0, 8 * MEBIBYTE, 8 * MEBIBYTE + 1, 20 * MEBIBYTE] {
        let layer = bytes(length);
        stack.publish(&Layout::of_layers(&[&layer]), "app:1").await;
        let answer = stack.ask("app", &sha256(&layer)).await;
        assert_downloads(&answer, &layer).await;
    }
    assert!(stack.unfinished_uploads().is_empty());
}

#[tokio::test]
async fn an_image_may_have_127_layers() {
    let stack = Stack::start().await;
    let layers: Vec<_> = (0..127).map(|n| format!("layer {n}").into_bytes()).collect();
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    let published = stack.publish(&Layout::of_layers(&layers), "app:1").await;
    assert_eq!(published["layers"].as_array().unwrap().len(), 128, "the config blob too");
    for layer in &layers {
        assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200);
    }
    stack.json(&["image", "delete", "app:1"]).await;
    for layer in &layers {
        assert_eq!(stack.ask("app", &sha256(layer)).await.error(), "LayerInaccessibleException");
    }
}

#[tokio::test]
async fn the_same_layer_twice_in_an_image_is_one_layer() {
    let stack = Stack::start().await;
    let published = stack.publish(&Layout::of_layers(&[b"same", b"same"]), "app:1").await;
    assert_eq!(published["layers"].as_array().unwrap().len(), 2);
    assert_eq!(stack.ask("app", &sha256(b"same")).await.status, 200);

    let layout = Layout::empty();
    let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
    let media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let absent = json!({"mediaType": media_type, "digest": sha256(b"elsewhere"), "size": 9});
    layout.set_index(&[layout.add_manifest(&config, &[absent.clone(), absent])]);
    stack.publish(&layout, "app:2").await;
    stack.json(&["image", "delete", "app:2"]).await;
    stack.publish(&layout, "app:2").await;
}

#[tokio::test]
async fn what_the_registry_has_is_not_sent_again() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let uploaded = |published: Value| -> Vec<bool> {
        let layers = published["layers"].as_array().unwrap().clone();
        layers.iter().map(|layer| layer["uploaded"].as_bool().unwrap()).collect()
    };
    assert_eq!(uploaded(stack.publish(&layout, "app:1").await), [true, true]);
    assert_eq!(uploaded(stack.publish(&layout, "app:1").await), [false, false]);
    assert_eq!(
        uploaded(stack.publish(&layout, "other:1").await),
        [false, false],
        "in any repository"
    );
    let more = Layout::of_layers(&[b"layer", b"one more"]);
    assert_eq!(uploaded(stack.publish(&more, "app:2").await), [true, false, true]);
}

#[tokio::test]
async fn a_missing_repository_is_made_only_when_asked() {
    let stack = Stack::start().await;
    let sample = sample();
    let sample = sample.to_str().unwrap();
    let output = stack.layergate(&["publish", sample, "app:1"]).await;
    assert_refused(&output, 4, &["'app'", "000000000000", "--create-repository"]);
    assert_eq!(stack.json(&["repository", "list"]).await["repositories"], serde_json::json!([]));
    let output = stack.layergate(&["publish", "--create-repository", sample, "app:1"]).await;
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(printed.starts_with("published app:1 as sha256:"), "{printed}");
    let lines = stderr(&output);
    assert_eq!(lines.lines().filter(|line| line.ends_with("uploaded")).count(), 5, "{lines}");
}

#[tokio::test]
async fn settings_and_endpoints_that_do_not_work_are_told() {
    let stack = Stack::start().await;
    let sample = sample();
    let publish = ["publish", sample.to_str().unwrap(), "app:1"];
    let (nobody_listens, _reserved) = nobody_listens();
    let cases: [(&str, &str, i32, &[&str]); 6] = [
        ("TABLE_NAME", "", 2, &["TABLE_NAME is not set"]),
        ("DEFAULT_REGISTRY_ID", "12", 2, &["DEFAULT_REGISTRY_ID must be", "'12'"]),
        ("AWS_ENDPOINT_URL_S3", "nowhere", 2, &["AWS_ENDPOINT_URL_S3 must be"]),
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            &nobody_listens,
            1,
            &["DynamoDB", "Connection refused", "endpoint"],
        ),
        ("TABLE_NAME", "other", 1, &["DynamoDB", "ResourceNotFoundException", "TABLE_NAME"]),
        ("AWS_ACCESS_KEY_ID", "stranger", 1, &["S3 answered 403", "credentials"]),
    ];
    stack.json(&["repository", "create", "app"]).await;
    for (variable, value, status, words) in cases {
        let output = stack.command(&publish).env(variable, value).output().await.unwrap();
        assert_refused(&output, status, words);
    }
}

/// An S3 that lets the first `passing` parts of uploads through, and never answers the others.
async fn holding_s3(engine: &str, passing: usize) -> (String, Arc<Notify>) {
    let held = Arc::new(Notify::new());
    let (engine, client, is_held) = (engine.to_owned(), reqwest::Client::new(), held.clone());
    let parts = Arc::new(AtomicUsize::new(0));
    let url = serve(move |request: Request| {
        let (engine, client, parts, is_held) =
            (engine.clone(), client.clone(), parts.clone(), is_held.clone());
        async move {
            let is_part = request.uri().query().is_some_and(|query| query.contains("partNumber="));
            if is_part && parts.fetch_add(1, Ordering::SeqCst) >= passing {
                is_held.notify_one();
                std::future::pending::<()>().await;
            }
            forward(&client, &engine, request).await
        }
    });
    (url.await, held)
}

#[tokio::test]
async fn an_interrupted_publish_leaves_nothing_and_completes_when_run_again() {
    let cases = [
        (Signal::INT, "while parts are still read", 40, 2),
        (Signal::TERM, "while the last parts are on their way", 9, 0),
        (Signal::HUP, "when the terminal is closed", 9, 1),
    ];
    for (signal, when, mebibytes, passing) in cases {
        eprintln!("{when}");
        let stack = Stack::start().await;
        let large = bytes(mebibytes * 1024 * 1024);
        let layout = Layout::of_layers(&[&large]);
        stack.json(&["repository", "create", "app"]).await;

        let (s3, held) = holding_s3(&stack.local.engines.s3_url, passing).await;
        let mut publish = stack.command(&["publish", &layout.path(), "app:1"]);
        let publish =
            publish.env("AWS_ENDPOINT_URL_S3", s3).stderr(Stdio::piped()).stdout(Stdio::piped());
        let publish = publish.spawn().unwrap();
        held.notified().await;
        assert!(!stack.unfinished_uploads().is_empty(), "it is in the midst of an upload");

        let pid = Pid::from_raw(publish.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let output = publish.wait_with_output().await.unwrap();
        assert_refused(&output, 130, &["interrupted", "again"]);
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new());
        let answer = stack.ask("app", &sha256(&large)).await;
        assert_eq!(answer.error(), "LayersNotFoundException");
        assert_eq!(stack.json(&["image", "list", "app"]).await["images"], serde_json::json!([]));

        stack.publish(&layout, "app:1").await;
        assert_eq!(stack.ask("app", &sha256(&large)).await.status, 200);
    }
}

#[tokio::test]
async fn two_may_publish_the_same_layer_at_once() {
    let stack = Stack::start().await;
    let large = bytes(9 * 1024 * 1024);
    let layout = Layout::of_layers(&[&large]);
    let (arrived, let_go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (is_arrived, may_go) = (arrived.clone(), let_go.clone());
    let (engine, client) = (stack.local.engines.s3_url.clone(), reqwest::Client::new());
    let s3 = serve(move |request: Request| {
        let (engine, client) = (engine.clone(), client.clone());
        let (is_arrived, may_go) = (is_arrived.clone(), may_go.clone());
        async move {
            if request.uri().query().is_some_and(|query| query.contains("partNumber=")) {
                is_arrived.notify_one();
                may_go.acquire().await.unwrap().forget();
            }
            forward(&client, &engine, request).await
        }
    });
    let mut slower =
        stack.command(&["publish", "--create-repository", &layout.path(), "app:slower"]);
    let slower = slower
        .env("AWS_ENDPOINT_URL_S3", s3.await)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    arrived.notified().await;
    assert!(!stack.unfinished_uploads().is_empty());
    stack.publish(&layout, "app:quicker").await;
    assert_eq!(
        stack.unfinished_uploads(),
        Vec::<PathBuf>::new(),
        "the slower one's upload is of no use"
    );

    let_go.add_permits(2);
    let output = slower.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("layergate: "), "no warning: {}", stderr(&output));
    assert_downloads(&stack.ask("app", &sha256(&large)).await, &large).await;
    assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_killed_publish_leaves_nothing_wrong_and_is_completed_when_run_again() {
    let stack = Stack::start().await;
    let content = bytes(9 * 1024 * 1024);
    // One after the other: an upload's parts are in one folder of the embedded S3 with those of all
    // others, and it misses some of them when it aborts an upload while others come and go.
    let mut last_step = 0;
    for step in steps(0, 2) {
        let repository = format!("killed/{step}");
        let tagged = format!("{repository}:1");
        let layers = [0, 1024 * 1024, content.len()]
            .map(|size| [repository.as_bytes(), &content[..size]].concat());
        let layout = Layout::of_layers(&layers.each_ref().map(Vec::as_slice));
        let (environment, arrived, _let_go) = waiting_at_both(step, &stack).await;
        let path = layout.path();
        let mut publishing = stack.command(&["publish", "--create-repository", &path, &tagged]);
        publishing.envs(environment).stdout(Stdio::null()).stderr(Stdio::null());
        let mut publishing = publishing.spawn().unwrap();
        tokio::select! {
            _ = publishing.wait() => break,
            () = arrived.notified() => publishing.kill().await.unwrap(), // with SIGKILL
        }
        let listed =
            stack.layergate(&["--output", "json", "image", "list", &repository]).await.stdout;
        let listed: Value = serde_json::from_slice(&listed).unwrap_or_default(); // there may be no repository
        let is_published = listed["images"][0]["imagePushedAt"].is_u64();
        for layer in &layers {
            let answer = stack.ask(&repository, &sha256(layer)).await;
            if is_published || answer.status == 200 {
                assert_downloads(&answer, layer).await;
            }
        }

        stack.publish(&layout, &tagged).await;
        for layer in &layers {
            assert_downloads(&stack.ask(&repository, &sha256(layer)).await, layer).await;
        }
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "killed at {step}");
        last_step = step;
    }
    assert!(last_step >= 20, "there are only {last_step} requests");
}

#[tokio::test]
async fn a_corrupt_large_layer_is_never_there_to_download() {
    let stack = Stack::start().await;
    let large = bytes(20 * 1024 * 1024);
    let layout = Layout::of_layers(&[&large]);
    let mut corrupt = large.clone();
    corrupt[19 * 1024 * 1024] ^= 1;
    std::fs::write(layout.blob(&sha256(&large)), corrupt).unwrap();

    stack.json(&["repository", "create", "app"]).await;
    let output = stack.layergate(&["publish", &layout.path(), "app:1"]).await;
    assert_refused(&output, 3, &[&sha256(&large), "corrupt"]);
    assert!(stack.unfinished_uploads().is_empty());
    let stored = stack
        .folder
        .path()
        .join("s3/layergate/layers/000000000000/sha256")
        .join(&sha256(&large)[7..]);
    assert!(!stored.exists());
    assert_eq!(stack.ask("app", &sha256(&large)).await.error(), "LayersNotFoundException");

    std::fs::write(layout.blob(&sha256(&large)), &large).unwrap();
    stack.publish(&layout, "app:1").await;
    assert_eq!(
        stack.ask("app", &sha256(&large)).await.status,
        200,
        "with the right bytes it goes on"
    );
}
