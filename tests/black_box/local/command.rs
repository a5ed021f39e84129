//! `layergate local` as a process: its environment file, its end, and its data the next time.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use layergate_local::{LocalStack, Options};
use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use support::{assert_refused, layergate, sample, start_local, start_local_at, stop_local, tool};

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

/// A port with five free ones after it, below those that the system picks.
fn free_ports() -> u16 {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let from = 20_000 + u16::try_from(std::process::id() % 1000).unwrap() * 6;
    let mut firsts = (from..32_000).step_by(6);
    firsts.find(|&first| (first..=first + 5).all(is_free)).unwrap()
}

#[tokio::test]
async fn at_a_port_the_environment_stays_the_same_between_starts() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports();
    let (stack, before) = start_local_at(port, folder.path(), Stdio::null()).await;
    let mut ports: Vec<u16> = before
        .iter()
        .filter(|(name, _)| name.starts_with("AWS_ENDPOINT_URL_"))
        .map(|(_, url)| url.split([':', '/']).nth(4).unwrap().parse().unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (port..=port + 5).collect::<Vec<_>>());
    let file = || std::fs::read_to_string(folder.path().join("local.env")).unwrap();
    let first = file();
    stop_local(stack, Signal::INT).await;

    let (stack, _) = start_local_at(port, folder.path(), Stdio::null()).await;
    assert_eq!(file(), first);
    // A shell that read the file of the first start.
    layergate(
        &before,
        &["publish", "--create-repository", sample().to_str().unwrap(), "hello:1.0"],
    )
    .await;
    stop_local(stack, Signal::TERM).await;

    let output = Command::new(tool()).args(["local", "--port", "65531"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "there are no five ports after it");
}

/// What `layergate local` prints, up to the empty line at the end.
async fn banner(current: &Path, arguments: &[&str]) -> String {
    let mut stack = Command::new(tool())
        .args(["local", "--port", "0"])
        .args(arguments)
        .current_dir(current)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = stack.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"REPOSITORY\n") {
        text.push(output.read_u8().await.unwrap());
    }
    stop_local(stack, Signal::INT).await;
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn it_prints_how_to_use_it_from_this_directory() {
    let folder = tempfile::tempdir().unwrap();
    let current = folder.path().canonicalize().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    let below = current.join("it's data");
    let login = "layergate login | docker login --username AWS --password-stdin 127.0.0.1:";
    let cases: [(&[&str], String, bool); 5] = [
        (&[], "  . .layergate/local.env\n".to_owned(), false),
        (&["--login"], "  . .layergate/local.env\n".to_owned(), true),
        (&["--data", "."], "  . ./local.env\n".to_owned(), false),
        (&["--data", below.to_str().unwrap()], r"  . 'it'\''s data/local.env'".to_owned(), false),
        (&["--data", elsewhere], format!("  . {elsewhere}/local.env\n"), false),
    ];
    for (arguments, expected, has_login) in cases {
        let text = banner(&current, arguments).await;
        assert!(text.contains(&expected), "{text}");
        assert!(!text.contains(current.to_str().unwrap()), "{text}");
        assert!(text.contains("  docker pull 127.0.0.1:"), "{text}");
        assert_eq!(text.contains(login), has_login, "{text}");
    }
}

/// For scripts, each line of the log is a JSON object. At a terminal it is text for a person.
#[tokio::test]
async fn the_log_is_text_at_a_terminal_and_json_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let logged = |kind: &'static str, log: Stdio| async move {
        let data = tempfile::tempdir().unwrap();
        let (stack, environment) = start_local(data.path(), log).await;
        let url = format!("{}/v2/hello/tags/list", environment["API_URL"]);
        assert_eq!(reqwest::get(url).await.unwrap().status(), 404, "{kind}");
        stop_local(stack, Signal::INT).await;
    };

    logged("a file", File::create(&file).unwrap().into()).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["operation"], &line["outcome"]),
        (&"ListTags".into(), &"NAME_UNKNOWN".into())
    );

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let other_end = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let other_end = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().try_into().unwrap())
        .open(other_end)
        .unwrap();
    logged("a terminal", other_end.into()).await;
    rustix::fs::fcntl_setfl(&terminal, OFlags::NONBLOCK).unwrap();
    let mut text = [0; 4096];
    let length = File::from(terminal).read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    let words = ["operation=\"ListTags\"", "repository=\"hello\"", "outcome=\"NAME_UNKNOWN\""];
    assert!(words.iter().all(|word| text.contains(word)) && !text.contains('{'), "{text}");
}

/// A client that never sends the rest of its request, or no further one.
#[tokio::test]
async fn a_connection_is_not_held_by_half_a_request() {
    const WHOLE: &str = "GET /v2/ HTTP/1.1\r\nhost: [::1]\r\n\r\n";
    let folder = tempfile::tempdir().unwrap();
    let patience = Some(Duration::from_millis(500));
    let stack = LocalStack::start(folder.path(), Options { patience, ..Options::default() });
    let stack = stack.await.unwrap();
    let starts = [
        ("nothing", "", ""),
        ("half a head", &WHOLE[..20], ""),
        ("a request, and half of another", &WHOLE.repeat(2)[..WHOLE.len() + 20], "HTTP/1.1 200"),
        (
            "half a body",
            "POST / HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 408",
        ),
    ];
    for (description, start, answer) in starts {
        let address = stack.url.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(start.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let reading = connection.read_to_end(&mut received);
        let closed = tokio::time::timeout(Duration::from_secs(60), reading).await;
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(closed.is_ok(), "{description}: {received}");
        assert!(received.starts_with(answer), "{description}: {received}");
    }
    stack.stop().await;
}
