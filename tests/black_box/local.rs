//! `layergate local` as a process: its environment file, its end, and its data the next time.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{assert_refused, sample, tool};

/// Starts a stack and waits until it says that it is up. Gives what `. local.env` sets.
pub async fn start(data: &Path, log: Stdio) -> (Child, HashMap<String, String>) {
    let mut stack = Command::new(tool())
        .args(["local", "--port", "0", "--data"])
        .arg(data)
        .env("RUST_LOG", "trace") // nobody asks for it: what is logged is decided in one place
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(stack.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    // `. local.env` in a shell that has other credentials: what a command then sees.
    let seen = Command::new("sh")
        .args(["-c", ". \"$0\" && env", data.join("local.env").to_str().unwrap()])
        .env("AWS_SESSION_TOKEN", "somebody's")
        .env("AWS_PROFILE", "somebody's")
        .output()
        .await
        .unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    let environment: HashMap<String, String> = seen
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(first.contains(&environment["AWS_ENDPOINT_URL_ECR"]), "{first}");
    (stack, environment)
}

async fn stop(mut stack: Child, signal: Signal) {
    let pid = Pid::from_raw(stack.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    assert!(stack.wait().await.unwrap().success(), "{signal:?}");
}

pub async fn layergate(environment: &HashMap<String, String>, arguments: &[&str]) -> String {
    let mut command = Command::new(tool());
    let output = command.args(arguments).env_clear().envs(environment).output().await.unwrap();
    assert!(output.status.success(), "{}", crate::support::stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn it_stops_cleanly_and_finds_its_data_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a new folder");
    let (stack, environment) = start(&data, Stdio::null()).await;
    assert!(!environment.contains_key("AWS_SESSION_TOKEN") && !environment.contains_key("AWS_PROFILE"));
    let mode = std::fs::metadata(data.join("local.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a secret");
    layergate(&environment, &["publish", "--create-repository", sample().to_str().unwrap(), "hello:1.0"])
        .await;
    let images = layergate(&environment, &["image", "list", "hello"]).await;
    stop(stack, Signal::INT).await;

    let (stack, environment) = start(&data, Stdio::null()).await;
    assert_eq!(layergate(&environment, &["image", "list", "hello"]).await, images);
    let answer = reqwest::Client::new()
        .post(&environment["AWS_ENDPOINT_URL_ECR"])
        .header("X-Amz-Target", crate::support::TARGET)
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(r#"{"repositoryName":"hello","layerDigest":"sha256:abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-amz-json-1.1");
    let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let layer = reqwest::get(body["downloadUrl"].as_str().unwrap()).await.unwrap();
    assert_eq!(crate::support::sha256(&layer.bytes().await.unwrap()), body["layerDigest"]);
    stop(stack, Signal::TERM).await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (stack, environment) = start(folder.path(), Stdio::null()).await;
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
    stop(stack, Signal::TERM).await;
}
