//! The pull-through cache: what comes from another registry at the first pull, and only then.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use axum::response::IntoResponse;
use futures_util::future::join_all;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{
    Delivery, Gate, Lambda, Layout, Recorder, Shape, Stack, assert_consistent, cached, call,
    count_requests, headed, image_digest, pull, sha256, verified,
};

const REPOSITORY: &str = "hub/team/app";

/// An index of two images that share a layer; gives its digest too.
fn index() -> (Layout, String) {
    let layout = Layout::empty();
    let images =
        [layout.add_image(&[b"shared", b"amd64"]), layout.add_image(&[b"shared", b"arm64"])];
    let index = layout.add_index(&images);
    layout.set_index(std::slice::from_ref(&index));
    let digest = image_digest(&layout);
    (layout, digest)
}

#[tokio::test]
async fn the_second_pull_asks_the_upstream_for_nothing() {
    let single = Layout::of_layers(&[b"base", b"application"]);
    let digest = image_digest(&single);
    let (of_two, index_digest) = index();
    let cases = [
        (
            "a single image by its tag",
            single.contents(),
            Recorder::registry(&single, |_| None).await,
            "1",
        ),
        (
            "a single image by its digest",
            single.contents(),
            Recorder::registry(&single, |_| None).await,
            &digest,
        ),
        (
            "an index by its tag",
            of_two.contents(),
            Recorder::registry(&of_two, |_| None).await,
            "1",
        ),
        (
            "an index by its digest",
            of_two.contents(),
            Recorder::registry(&of_two, |_| None).await,
            &index_digest,
        ),
    ];
    for (description, contents, registry, reference) in cases {
        let stack = Stack::start().await;
        stack.rule("hub", &registry.url, &[]).await;
        let pulled = stack.pull_image(REPOSITORY, reference).await;
        let distinct: HashSet<_> = pulled.iter().collect();
        assert_eq!(distinct, contents.keys().collect(), "{description}: all of it");
        for digest in &distinct {
            assert_eq!(
                registry.count(&["GET", digest]),
                1,
                "{description}: {:?}",
                registry.asked()
            );
        }
        assert_eq!(registry.count(&["HEAD"]), usize::from(reference == "1"), "{description}");

        let asked = registry.asked().len();
        assert_eq!(stack.pull_image(REPOSITORY, reference).await, pulled, "{description}");
        assert_eq!(registry.asked().len(), asked, "{description}: {:?}", registry.asked());
        assert!(stack.fills(REPOSITORY).await.is_empty(), "{description}");
        assert_consistent(&stack, REPOSITORY).await;
    }
}

#[tokio::test]
async fn ecrs_operations_fetch_what_is_not_here_too() {
    let layout = Layout::of_layers(&[b"layer"]);
    let (registry, stack) = cached(&layout).await;
    let answer = stack.batch_get(REPOSITORY, "1").await;
    let manifest =
        answer.body["images"][0]["imageManifest"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(sha256(manifest.as_bytes()), image_digest(&layout));
    assert_eq!(answer.body["failures"], json!([]));
    stack.ask_and_download(REPOSITORY, b"layer", "the first time").await;
    let described = stack.ok("DescribeImages", json!({"repositoryName": REPOSITORY})).await;
    assert_eq!(described["imageDetails"][0]["imageDigest"], image_digest(&layout));
    let asked = registry.asked().len();
    stack.batch_get(REPOSITORY, "1").await;
    stack.ask_and_download(REPOSITORY, b"layer", "the second time").await;
    assert_eq!(registry.asked().len(), asked);
}

#[tokio::test]
async fn a_layer_that_no_stored_manifest_names_is_never_asked_for() {
    let layout = Layout::of_layers(&[b"layer"]);
    layout.add_blob("application/octet-stream", b"another blob of the upstream");
    let (registry, stack) = cached(&layout).await;
    let layers: [&[u8]; 2] = [b"layer", b"another blob of the upstream"];
    for layer in layers {
        let answer = stack.ask(REPOSITORY, &sha256(layer)).await;
        assert_eq!(answer.error(), "RepositoryNotFoundException");
        let answer = stack.pull("GET", &format!("/v2/{REPOSITORY}/blobs/{}", sha256(layer))).await;
        assert_eq!((answer.status, answer.code()), (404, "NAME_UNKNOWN"));
    }
    assert_eq!(registry.asked(), Vec::<String>::new());

    stack.pull_image(REPOSITORY, "1").await;
    let asked = registry.asked().len();
    let another = sha256(layers[1]);
    assert_eq!(stack.ask(REPOSITORY, &another).await.error(), "LayersNotFoundException");
    let answer = stack.pull("GET", &format!("/v2/{REPOSITORY}/blobs/{another}")).await;
    assert_eq!((answer.status, answer.code()), (404, "BLOB_UNKNOWN"));
    assert_eq!(registry.asked().len(), asked);
}

#[tokio::test]
async fn a_call_for_a_stored_layer_costs_one_request() {
    let layout = Layout::of_layers(&[b"layer"]);
    let (_registry, stack) = cached(&layout).await;
    stack.pull_image(REPOSITORY, "1").await;
    let (url, requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(url));
    let body = json!({"repositoryName": REPOSITORY, "layerDigest": sha256(b"layer")}).to_string();
    let answer =
        call(&handler, Shape::Rest, Some(support::TARGET), body.as_bytes(), Some(ACCOUNT)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(requests.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// An upstream that sends its blobs from elsewhere, once the gate is open.
async fn redirecting(layout: &Layout, gate: &Gate) -> (Recorder, Recorder) {
    let (contents, gate) = (layout.contents(), gate.clone());
    let elsewhere = Recorder::start(move |request| {
        let digest = request.uri.path().strip_prefix('/').unwrap();
        let mut response = gate.body(&contents[digest]).into_response();
        let length = contents[digest].len().into();
        response.headers_mut().insert("content-length", length);
        response
    })
    .await;
    let target = elsewhere.url.clone();
    let registry = Recorder::registry(layout, move |request| {
        let (_, digest) = request.uri.path().split_once("/blobs/")?;
        Some(headed(
            307,
            "location",
            &format!("{target}/{digest}?X-Amz-Signature=0123456789abcdef"),
        ))
    });
    (registry.await, elsewhere)
}

#[tokio::test]
async fn a_layer_on_its_way_can_be_had_from_where_the_upstream_redirects_to() {
    let layout = Layout::of_layers(&[b"layer"]);
    let gate = Gate::closed();
    let (registry, elsewhere) = redirecting(&layout, &gate).await;
    let stack = Stack::start().await;
    stack.rule("hub", &registry.url, &["--before-stored", "redirect"]).await;
    let _ = stack.batch_get(REPOSITORY, "1").await;
    let digest = sha256(b"layer");
    let expected = format!("{}/{digest}?X-Amz-Signature=0123456789abcdef", elsewhere.url);

    let answer = stack.ask(REPOSITORY, &digest).await;
    assert_eq!((answer.status, answer.url()), (200, expected.as_str()));
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let answer = stack.pull("GET", &path).await;
    assert_eq!((answer.status, answer.headers["location"].as_str()), (307, expected.as_str()));
    assert_eq!(registry.count(&["/blobs/"]), 1, "{:?}", registry.asked());
    assert_eq!(elsewhere.header("authorization"), [""]);

    // That URL is signed for GET.
    let head = stack.pull("HEAD", &path);
    tokio::pin!(head);
    tokio::select! {
        answer = &mut head => panic!("{answer:?}"),
        () = tokio::time::sleep(Duration::from_millis(600)) => gate.open(),
    }
    let answer = head.await;
    assert_eq!(answer.status, 307, "{answer:?}");
    assert!(answer.headers["location"].starts_with(&stack.local.engines.s3_url), "{answer:?}");
    let answer = stack.ask(REPOSITORY, &digest).await;
    assert!(answer.url().starts_with(&stack.local.engines.s3_url), "{answer:?}");
    verified(answer.url(), &digest).await;
    assert_eq!((registry.count(&["/blobs/"]), elsewhere.asked().len()), (1, 1));
}

/// Waits are for what the rule says is waited for, and what the upstream sends itself instead of
/// redirecting.
#[tokio::test]
async fn a_layer_that_takes_long_is_throttled_by_ecrs_api_and_waited_for_by_the_registry() {
    let stack = Stack::start().await;
    let cases = [("wait", "wait"), ("bytes", "redirect")].map(async |(prefix, before_stored)| {
        let (layer, gate) = (prefix.as_bytes(), Gate::closed());
        let (digest, layout) = (sha256(layer), Layout::of_layers(&[layer]));
        let (registry, _elsewhere) = match before_stored {
            "wait" => redirecting(&layout, &gate).await,
            _ => {
                let (gate, digest) = (gate.clone(), digest.clone());
                let is_layer = move |path: &str| path.ends_with(&format!("/blobs/{digest}"));
                let body = move || gate.body(prefix.as_bytes()).into_response();
                let registry = Recorder::registry(&layout, move |request| {
                    is_layer(request.uri.path()).then(&body)
                });
                (registry.await, Recorder::start(|_| "".into_response()).await)
            }
        };
        stack.rule(prefix, &registry.url, &["--before-stored", before_stored]).await;
        let repository = format!("{prefix}/team/app");
        stack.batch_get(&repository, "1").await;

        let blob = format!("/v2/{repository}/blobs/{digest}");
        let patient = stack.pull("GET", &blob);
        let impatient = async {
            let started = Instant::now();
            let answer = stack.ask(&repository, &digest).await;
            let waited = started.elapsed();
            gate.open();
            assert_eq!(answer.error(), "ThrottlingException", "{prefix}: {answer:?}");
            let message = "The layer is being fetched from the upstream registry; try again";
            assert_eq!(answer.message(), message, "{prefix}");
            assert!(waited >= Duration::from_secs(3), "{prefix}: {waited:?}");
        };
        let (answer, ()) = tokio::join!(patient, impatient);
        assert_eq!(answer.status, 307, "{prefix}: {answer:?}");
        assert!(
            answer.headers["location"].starts_with(&stack.local.engines.s3_url),
            "{prefix}: {answer:?}"
        );
        verified(&answer.headers["location"], &digest).await;
        stack.ask_and_download(&repository, layer, prefix).await;
        assert_eq!(registry.count(&["/blobs/"]), 1, "{prefix}: {:?}", registry.asked());
    });
    join_all(cases).await;
}

/// Most clients give up a pull at the first error, and all follow redirects.
#[tokio::test]
async fn who_has_waited_as_long_as_a_gateway_lets_is_sent_to_the_same_place_again_a_few_times() {
    let layout = Layout::of_layers(&[b"layer"]);
    let gate = Gate::closed();
    let (registry, _elsewhere) = redirecting(&layout, &gate).await;
    let stack = Stack::start().await;
    stack.rule("hub", &registry.url, &["--before-stored", "wait"]).await;
    stack.batch_get(REPOSITORY, "1").await;
    let cases = [
        ("the first time", "", 307, Some("?waited=1")),
        ("the last time", "?waited=7", 307, Some("?waited=8")),
        ("after that", "?waited=8", 429, None),
        ("what nobody was sent to", "?waited=often", 307, Some("?waited=1")),
    ];
    let asked = cases.map(async |(description, query, status, location)| {
        let answer =
            stack.pull("GET", &format!("/v2/{REPOSITORY}/blobs/{}{query}", sha256(b"layer"))).await;
        let found = answer.headers.get("location").map(String::as_str);
        assert_eq!((answer.status, found), (status, location), "{description}: {answer:?}");
    });
    join_all(asked).await;
    gate.open();
    stack.ask_and_download(REPOSITORY, b"layer", "once it is here").await;
}

#[tokio::test]
async fn of_64_askers_one_makes_the_upstream_send() {
    let layout = Layout::of_layers(&[b"layer"]);
    let (registry, stack) = cached(&layout).await;
    // Each as if it met another instance of the function.
    let handlers: Vec<_> = (0..64).map(|_| stack.handler_with(|_| {})).collect();
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let path = format!("/v2/{REPOSITORY}/manifests/1");
    let answers =
        join_all(handlers.iter().map(|handler| pull(handler, "GET", &path, Some(&authorization))));
    let answers = answers.await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(registry.count(&["/manifests/"]), 2, "a HEAD and a GET: {:?}", registry.asked());

    let path = format!("/v2/{REPOSITORY}/blobs/{}", sha256(b"layer"));
    let answers =
        join_all(handlers.iter().map(|handler| pull(handler, "GET", &path, Some(&authorization))));
    let answers = answers.await;
    assert!(answers.iter().all(|answer| answer.status == 307), "{answers:?}");
    assert_eq!(registry.count(&["/blobs/"]), 1, "{:?}", registry.asked());
    assert_consistent(&stack, REPOSITORY).await;
}

#[tokio::test]
async fn an_event_that_lambda_delivers_twice_makes_one_fetch() {
    let layout = Layout::of_layers(&[b"layer"]);
    let (registry, stack) = cached(&layout).await;
    let lambda = Lambda::on(&stack, Delivery::Twice).await;
    let handler = stack.handler_with(|config| config.lambda_endpoint = Some(lambda.url.clone()));
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    for (path, status) in
        [("manifests/1".to_owned(), 200), (format!("blobs/{}", sha256(b"layer")), 307)]
    {
        let answer =
            pull(&handler, "GET", &format!("/v2/{REPOSITORY}/{path}"), Some(&authorization)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(registry.asked().len(), 3, "{:?}", registry.asked());
    let kinds: Vec<_> =
        lambda.events().iter().map(|event| event["fill"]["imageTag"] == Value::Null).collect();
    assert_eq!(kinds, [false, true]);
}
