//! `layergate local` as a process: its environment file, its end, and its data the next time.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::process::Command;

use support::{assert_refused, layergate, sample, start_local, stop_local, tool};

#[tokio::test]
async fn it_stops_cleanly_and_finds_its_data_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a new folder");
    let (stack, environment) = start_local(&data, Stdio::null()).await;
    assert!(
        !environment.contains_key("AWS_SESSION_TOKEN") && !environment.contains_key("AWS_PROFILE")
    );
    let mode = std::fs::metadata(data.join("local.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a secret");
    layergate(
        &environment,
        &["publish", "--create-repository", sample().to_str().unwrap(), "hello:1.0"],
    )
    .await;
    let images = layergate(&environment, &["image", "list", "hello"]).await;
    stop_local(stack, Signal::INT).await;

    let (stack, environment) = start_local(&data, Stdio::null()).await;
    assert_eq!(layergate(&environment, &["image", "list", "hello"]).await, images);
    let answer = reqwest::Client::new()
        .post(&environment["AWS_ENDPOINT_URL_ECR"])
        .header("X-Amz-Target", support::TARGET)
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(r#"{"repositoryName":"hello","layerDigest":"sha256:abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-amz-json-1.1");
    let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let layer = reqwest::get(body["downloadUrl"].as_str().unwrap()).await.unwrap();
    assert_eq!(support::sha256(&layer.bytes().await.unwrap()), body["layerDigest"]);
    stop_local(stack, Signal::TERM).await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (stack, environment) = start_local(folder.path(), Stdio::null()).await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(tool());
        command.args(["local"]).args(arguments).output().await.unwrap()
    };
    let data = folder.path().to_str().unwrap();
    assert_refused(&run(&["--port", "0", "--data", data]).await, 1, &[data, "in use", "--data"]);

    let other = tempfile::tempdir().unwrap();
    let port = environment["AWS_ENDPOINT_URL_ECR"].rsplit(':').next().unwrap();
    let output = run(&["--port", port, "--data", other.path().to_str().unwrap()]).await;
    assert_refused(&output, 1, &[port, "in use", "--port"]);

    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_refused(&run(&["--port", "0", "--data", file.to_str().unwrap()]).await, 1, &["file"]);
    stop_local(stack, Signal::TERM).await;
}
