//! `layergate local` as a process.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{stderr, tool};

/// Starts a stack and waits until it says that it is up. Gives what `. local.env` sets.
pub async fn start_local(data: &Path, log: Stdio) -> (Child, HashMap<String, String>) {
    start_local_with(0, data, log, &[]).await
}

/// The same at a port.
pub async fn start_local_at(
    port: u16,
    data: &Path,
    log: Stdio,
) -> (Child, HashMap<String, String>) {
    start_local_with(port, data, log, &[]).await
}

/// The same, with these environment variables.
pub async fn start_local_with(
    port: u16,
    data: &Path,
    log: Stdio,
    variables: &[(&str, &str)],
) -> (Child, HashMap<String, String>) {
    let mut stack = Command::new(tool())
        .args(["local", "--port", &port.to_string(), "--data"])
        .arg(data)
        .envs(variables.iter().copied())
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

/// Ends it with a signal, which it must do well.
pub async fn stop_local(mut stack: Child, signal: Signal) {
    let pid = Pid::from_raw(stack.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    assert!(stack.wait().await.unwrap().success(), "{signal:?}");
}

pub async fn layergate(environment: &HashMap<String, String>, arguments: &[&str]) -> String {
    let mut command = Command::new(tool());
    let output = command.args(arguments).env_clear().envs(environment).output().await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}
