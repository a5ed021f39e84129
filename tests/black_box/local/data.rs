//! Data that a local stack cannot use, and a full disk under it.

use std::process::Stdio;

use support::{Layout, stderr, tool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn data_that_cannot_be_used_is_told_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let (file, damaged) = (folder.path().join("file"), folder.path().join("damaged"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&damaged).unwrap();
    let database = damaged.join("dynamodb.sqlite");
    std::fs::write(
        &database,
        "this is no database, but it is long enough for a header. ".repeat(90),
    )
    .unwrap();
    let cases = [
        (&file, format!("{} is a file, not a folder; choose another --data", file.display())),
        (
            &damaged,
            format!(
                "{} is damaged; choose another --data, or delete it and publish again",
                database.display()
            ),
        ),
    ];
    for (data, sentence) in cases {
        let mut local = Command::new(tool());
        let output = local.args(["local", "--port", "0", "--data"]).arg(data).output().await;
        let output = output.unwrap();
        assert_eq!(stderr(&output), format!("layergate: {sentence}\n"));
        assert_eq!(output.status.code(), Some(1));
    }
}

/// A limit on the size of files stands for a full disk.
#[tokio::test]
async fn a_full_disk_under_a_local_stack_is_named_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" local --port 0 --data \"$1\""; // 2 MiB
    let mut local = Command::new("sh");
    local.args(["-c", script]).arg(tool()).arg(&data).kill_on_drop(true);
    let mut local =
        local.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut lines = BufReader::new(local.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap(); // it is up
    let environment = std::fs::read_to_string(data.join("local.env")).unwrap();
    let environment =
        environment.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let layer: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    let layout = Layout::of_layers(&[&layer]);
    let mut publish = Command::new(tool());
    publish.envs(environment).args(["publish", "--create-repository", &layout.path(), "app:1"]);
    let output = publish.output().await.unwrap();
    let said = stderr(&output);
    let sentence = said.lines().last().unwrap_or_default();
    let objects = data.join("s3");
    let expected = format!(
        "layergate: S3 answered 507 (DiskFull): the local stack cannot use {}: File too large (os error 27); make room \
         on the disk of the local stack, and run it again",
        objects.display()
    );
    assert_eq!((sentence, output.status.code()), (expected.as_str(), Some(1)), "{said}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("the embedded S3 failed") && log.contains("File too large"), "{log}");
    local.kill().await.unwrap();
}
