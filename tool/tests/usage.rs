//! What the tool says without any table or bucket: help, and refusals of arguments that cannot be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

fn layergate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_layergate")).args(arguments).env_clear().output().unwrap()
}

#[test]
fn help_tells_the_exit_statuses() {
    let output = layergate(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Exit status: 0 done") && text.contains("130 interrupted"), "{text}");
}

#[test]
fn names_that_cannot_be_are_refused_before_anything_is_done() {
    for reference in ["App:1", "app:", "app:a b", "a", "app:-1", ":1", "app@sha256:00"] {
        let output = layergate(&["publish", "--create-repository", "image.tar", reference]);
        assert_eq!(output.status.code(), Some(2), "{reference}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reference), "{said}");
    }
}
