//! `layergate publish` from what can be read only once: a pipe.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;

use support::{Layout, Stack, assert_refused, sha256, stderr};

const LAYER: &[u8] = b"a layer's bytes";

/// Runs the tool with these bytes on its standard input, through a pipe; its temporary files go to
/// `spool`.
async fn publish_piped(stack: &Stack, spool: &Path, source: &str, bytes: Vec<u8>) -> Output {
    let mut publish = stack.command(&["publish", "--create-repository", source, "app:1"]);
    publish
        .env("TMPDIR", spool)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut publish = publish.spawn().unwrap();
    let mut stdin = publish.stdin.take().unwrap();
    // It may end before it has read all, with a sentence that is looked at.
    let written = async move {
        let _ = stdin.write_all(&bytes).await;
    };
    let (_, output) = tokio::join!(written, publish.wait_with_output());
    output.unwrap()
}

#[tokio::test]
async fn an_archive_can_come_through_a_pipe() {
    let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let large = vec![7; 9 * 1024 * 1024];
    let archive = folder.path().join("image.tar");
    Layout::of_layers(&[LAYER, &large]).archive(&archive);
    let bytes = fs::read(&archive).unwrap();
    for source in ["-", "/dev/stdin"] {
        let stack = Stack::start().await;
        let output = publish_piped(&stack, spool.path(), source, bytes.clone()).await;
        assert!(output.status.success(), "{source}: {}", stderr(&output));
        for layer in [LAYER, &large] {
            assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200, "{source}");
        }
    }
    let stack = Stack::start().await;
    let cases: [(&str, Vec<u8>, &[&str]); 3] = [
        ("nothing", Vec::new(), &["standard input holds no image"]),
        ("half of an archive", bytes[..bytes.len() / 2].to_vec(), &["standard input is truncated"]),
        ("no archive", vec![b'x'; 4096], &["standard input is not an intact tar archive"]),
    ];
    for (description, bytes, words) in cases {
        eprintln!("{description}");
        assert_refused(&publish_piped(&stack, spool.path(), "-", bytes).await, 3, words);
    }
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0, "no temporary file is left");
}

#[tokio::test]
async fn a_publish_that_is_killed_while_it_reads_a_pipe_leaves_no_file() {
    let stack = Stack::start().await;
    let spool = tempfile::tempdir().unwrap();
    let mut publish = stack.command(&["publish", "--create-repository", "-", "app:1"]);
    publish
        .env("TMPDIR", spool.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut publish = publish.spawn().unwrap();
    // More than a pipe holds: when all is written, it has begun to read.
    publish.stdin.as_mut().unwrap().write_all(&vec![0; 1024 * 1024]).await.unwrap();
    publish.kill().await.unwrap();
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
}
