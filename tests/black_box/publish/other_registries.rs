//! `layergate publish docker://...`: an image straight from another registry.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, stream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use support::{Layout, Recorder, Stack, assert_refused, breaking, headed, sha256, stderr};

const LAYER: &[u8] = b"a layer's bytes";

/// Publishes from a registry, with no credentials but those in `home`.
pub async fn publish(stack: &Stack, home: &Path, source: &str, options: &[&str]) -> Output {
    let arguments =
        [&["--output", "json", "publish", "--create-repository", source, "app:1"], options]
            .concat();
    let mut command = stack.command(&arguments);
    command.env("HOME", home).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
    command.output().await.unwrap()
}

async fn assert_downloads(stack: &Stack, layer: &[u8]) {
    let answer = stack.ask("app", &sha256(layer)).await;
    let downloaded = reqwest::get(answer.url()).await.unwrap().bytes().await.unwrap();
    assert!(downloaded == layer, "{} of {} bytes", downloaded.len(), layer.len());
}

#[tokio::test]
async fn an_index_is_copied_with_all_its_images() {
    let layout = Layout::empty();
    let images = [layout.add_image(&[LAYER]), layout.add_image(&[LAYER, b"another"])];
    let index = layout.add_index(&images);
    layout.set_index(std::slice::from_ref(&index));
    let registry = Recorder::registry(&layout, |_| None).await;
    let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());

    let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let published: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(published["imageDigest"], index["digest"]);
    assert_eq!(published["images"], json!([images[0]["digest"], images[1]["digest"]]));
    for layer in [LAYER, b"another"] {
        assert_downloads(&stack, layer).await;
    }
    assert_eq!(registry.header("authorization").concat(), "");

    let before = registry.asked().len();
    let one =
        format!("docker://{}/team/app@{}", registry.host(), images[0]["digest"].as_str().unwrap());
    let output = publish(&stack, home.path(), &one, &[]).await;
    let published: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(published["imageDigest"], images[0]["digest"]);
    let uploaded = published["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| layer["uploaded"] == json!(true));
    assert_eq!(uploaded.count(), 0);
    assert_eq!(
        registry.asked().len() - before,
        3,
        "a manifest, and whether it has the two blobs: {published}"
    );
}

#[tokio::test]
async fn a_large_layer_goes_in_parts_and_on_where_its_connection_broke() {
    let large: Vec<u8> = (0..20 * 1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    let layout = Layout::of_layers(&[&large]);
    let (path, layer) = (sha256(&large), large.clone());
    let registry = Recorder::registry(&layout, move |request| {
        let range = request.headers.get("range").map(|range| range.to_str().unwrap().to_owned());
        let is_layer = request.uri.path().ends_with(&path);
        is_layer.then(|| rest(&layer, range.as_deref().unwrap_or("bytes=0-"), 9 * 1024 * 1024))
    })
    .await;
    let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
    let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_downloads(&stack, &large).await;
    assert!(stack.unfinished_uploads().is_empty());
    let ranges: Vec<_> =
        registry.header("range").into_iter().filter(|range| !range.is_empty()).collect();
    assert_eq!(ranges, ["bytes=9437184-", "bytes=18874368-"], "nothing is fetched twice");
}

/// What a registry that takes ranges sends, if it breaks after `most` bytes.
fn rest(layer: &[u8], range: &str, most: usize) -> Response {
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    let rest = &layer[from..];
    let body = match most < rest.len() {
        true => breaking(&rest[..most]),
        false => Body::from(rest.to_vec()),
    };
    let status = if from == 0 { 200 } else { 206 };
    let range = format!("bytes {from}-{}/{}", layer.len() - 1, layer.len());
    let response = Response::builder().status(status).header("content-length", rest.len());
    response.header("content-range", range).body(body).unwrap()
}

#[tokio::test]
async fn a_foreign_layer_that_the_registry_lacks_is_left_out() {
    let layout = Layout::empty();
    let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
    let media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let absent = json!({"mediaType": media_type, "digest": sha256(b"elsewhere"), "size": 9});
    let present = layout.add_blob(media_type, b"here");
    layout.set_index(&[layout.add_manifest(&config, &[absent, present])]);
    let registry = Recorder::registry(&layout, |_| None).await;
    let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
    let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_downloads(&stack, b"here").await;
    assert_eq!(stack.ask("app", &sha256(b"elsewhere")).await.error(), "LayersNotFoundException");
}

#[tokio::test]
async fn what_cannot_be_had_is_told_in_a_line_and_nothing_of_it_is_published() {
    const SECRETS: [&str; 4] = ["pass:word", "X-Amz-Signature", "the-token", "the body"];
    type Case = (&'static str, fn(&Parts) -> Option<Response>, i32, &'static [&'static str]);
    fn of_layer(request: &Parts) -> bool {
        request.uri.path().ends_with(&sha256(LAYER))
    }
    let cases: [Case; 12] = [
        (
            "not for this user",
            |_| Some(headed(403, "x", "x")),
            3,
            &["refused access (403", "docker login 127.0.0.1:"],
        ),
        (
            "no such tag",
            |_| Some(headed(404, "x", "x")),
            3,
            &["the tag '1'", "has no such image", "check the name"],
        ),
        (
            "too many requests",
            |_| Some(headed(429, "retry-after", "90")),
            1,
            &["too many requests", "in 90 s"],
        ),
        ("busy", |_| Some(headed(503, "retry-after", "90")), 1, &["is busy", "in 90 s", "later"]),
        (
            "a fault",
            |_| Some((axum::http::StatusCode::BAD_GATEWAY, "the body").into_response()),
            1,
            &["502", "later"],
        ),
        (
            "a redirect to a private address",
            |_| Some(headed(307, "location", "https://10.1.2.3/?X-Amz-Signature=s")),
            3,
            &["10.1.2.3", "not one of the internet", "--allow-host 10.1.2.3"],
        ),
        (
            "a redirect without TLS",
            |_| Some(headed(307, "location", "http://registry.example/?X-Amz-Signature=s")),
            3,
            &["registry.example", "not by https", "--plain-http"],
        ),
        (
            "a redirect to itself",
            |_| Some(headed(307, "location", "?X-Amz-Signature=s")),
            3,
            &["redirected too often"],
        ),
        (
            "a layer with other bytes",
            |request| of_layer(request).then(|| "a layer's bytez".into_response()),
            3,
            &["the blob sha256:", "corrupt"],
        ),
        (
            "a layer of another size",
            |request| of_layer(request).then(|| "a layer's".into_response()),
            3,
            &["the blob sha256:", "another size"],
        ),
        (
            "a layer that is missing",
            |request| of_layer(request).then(|| headed(404, "x", "x")),
            3,
            &["the blob sha256:"],
        ),
        (
            "a manifest of another kind",
            |request| {
                request
                    .uri
                    .path()
                    .ends_with("/1")
                    .then(|| ([("content-type", "text/html")], "{}").into_response())
            },
            3,
            &["the media type 'text/html'", "neither an image's nor an index's"],
        ),
    ];
    let (stack, home) = (Stack::start().await, home(&json!({"auths": {}})));
    for (description, first, status, words) in cases {
        let layout = Layout::of_layers(&[LAYER]);
        let token_server =
            Recorder::start(|_| axum::Json(json!({"token": "the-token"})).into_response()).await;
        let realm = token_server.url;
        let registry = Recorder::registry(&layout, move |request| {
            let challenge = format!(r#"Bearer realm="{realm}""#);
            match request.headers.contains_key("authorization") {
                false => Some(headed(401, "www-authenticate", &challenge)),
                true => first(request),
            }
        })
        .await;
        set_auths(home.path(), registry.host(), "user:pass:word");
        let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
        let said = stderr(&output);
        eprintln!("{description}: {said}");
        assert_refused(&output, status, words);
        assert!(said.contains(registry.host()), "{description}: {said}");
        for secret in SECRETS {
            assert!(!said.contains(secret), "{description}: {said}");
        }
        assert_eq!(
            stack.ask("app", &sha256(LAYER)).await.error(),
            "RepositoryNotFoundException",
            "{description}"
        );
    }
    assert_eq!(stack.json(&["repository", "list"]).await["repositories"], json!([]));
}

/// A home with this configuration of docker's.
pub fn home(config: &Value) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".docker")).unwrap();
    fs::write(home.path().join(".docker/config.json"), config.to_string()).unwrap();
    home
}

fn set_auths(home: &Path, host: &str, credentials: &str) {
    let config = json!({"auths": {host: {"auth": BASE64_STANDARD.encode(credentials)}}});
    fs::write(home.join(".docker/config.json"), config.to_string()).unwrap();
}

/// Each first request is refused, as by a registry that counts them.
#[tokio::test]
async fn a_registry_that_asks_to_come_back_does_not_end_it() {
    let layout = Layout::of_layers(&[LAYER, b"another"]);
    let refused = std::sync::Mutex::new(std::collections::HashSet::new());
    let refused = Arc::new(refused);
    let registry = Recorder::registry(&layout, move |request| {
        let is_first = refused.lock().unwrap().insert(request.uri.path().to_owned());
        is_first.then(|| headed(429, "retry-after", "1"))
    })
    .await;
    let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
    let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_downloads(&stack, LAYER).await;
}

#[tokio::test]
async fn a_reference_that_is_none_is_told() {
    let stack = Stack::start().await;
    let cases = [
        ("docker://busybox:1", "must begin with the registry's host"),
        ("docker://registry.example/app", "must name an image"),
        ("docker://registry.example:5000/app", "must name an image"),
        ("docker://registry.example/App:1", "the name after the host"),
        ("docker://registry.example/app@sha256:xyz", "the digest"),
        ("docker://registry.example/app:-", "the tag"),
        ("docker://user:password@registry.example/app:1", "error"),
    ];
    for (source, words) in cases {
        let output = stack.layergate(&["publish", source, "app:1"]).await;
        assert_eq!(output.status.code(), Some(2), "{source}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{source}: {}", stderr(&output));
    }
    let source = "docker://registry.example/app:1";
    let output =
        stack.layergate(&["publish", "--create-repository", source, "app:1", "--image", "x"]).await;
    assert_refused(&output, 3, &["--image", "docker://HOST/NAME@DIGEST"]);
}

#[tokio::test]
async fn tls_is_wanted_except_on_loopback() {
    let layout = Layout::of_layers(&[LAYER]);
    let registry = Recorder::registry(&layout, |_| None).await;
    let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
    let output = publish(&stack, home.path(), &registry.docker(), &["--plain-http=false"]).await;
    assert_refused(&output, 1, &["does not speak TLS", "--plain-http"]);
    assert_eq!(registry.asked(), Vec::<String>::new());
    let named = registry.docker().replace("127.0.0.1", "localhost");
    let output = publish(&stack, home.path(), &named, &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn ctrl_c_ends_it_while_the_registry_keeps_it_waiting() {
    let large = vec![7; 20 * 1024 * 1024];
    let layer = format!("blobs/{}", sha256(&large));
    for (waiting, sent) in [("manifests/1", 10), (&layer, 9 * 1024 * 1024)] {
        let layout = Layout::of_layers(&[&large]);
        let (arrived, part) = (Arc::new(Notify::new()), large[..sent].to_vec());
        let (is_arrived, path) = (arrived.clone(), format!("/v2/team/app/{waiting}"));
        let registry = Recorder::registry(&layout, move |request| {
            let is_arrived = is_arrived.clone();
            let endless =
                stream::iter([Ok::<_, Infallible>(part.clone())]).chain(stream::once(async move {
                    is_arrived.notify_one();
                    std::future::pending().await
                }));
            (request.uri.path() == path).then(|| Body::from_stream(endless).into_response())
        })
        .await;
        let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
        let mut publish =
            stack.command(&["publish", "--create-repository", &registry.docker(), "app:1"]);
        let publish =
            publish.env("HOME", home.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let publish = publish.spawn().unwrap();
        arrived.notified().await;
        let pid = Pid::from_raw(publish.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let output = publish.wait_with_output().await.unwrap();
        assert_refused(&output, 130, &["interrupted"]);
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{waiting}");
    }
}
