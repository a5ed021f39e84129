//! Pull through cache rules at work: which one counts, whom it lets pull, and where its credentials
//! go.

use std::sync::atomic::Ordering;

use axum::http::request::Parts;
use axum::response::IntoResponse;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::upstream::{basic, bearer, is_authorized};
use support::{
    Layout, OUTSIDER, Recorder, Shape, Stack, TARGET, assert_consistent, call, count_requests,
    headed, now, secret, sha256,
};

const REPOSITORY: &str = "hub/team/app";

#[tokio::test]
async fn the_rule_with_the_longest_prefix_counts() {
    let stack = Stack::start().await;
    let mut registries = Vec::new();
    let rules: [(&str, &[&str]); 4] = [
        ("ROOT", &[]),
        ("hub", &[]),
        ("hub/team", &[]),
        ("mirror", &["--upstream-prefix", "library/copies"]),
    ];
    for (prefix, options) in rules {
        let registry = Recorder::start(|_| headed(404, "x", "x")).await;
        stack.rule(prefix, &registry.url, options).await;
        registries.push((prefix, registry));
    }
    let cases = [
        ("hub/team/app", "hub/team", "app"),
        ("hub/team/deep/app", "hub/team", "deep/app"),
        ("hub/teams/app", "hub", "teams/app"),
        ("hub/app", "hub", "app"),
        ("hubs/app", "ROOT", "hubs/app"),
        ("hub", "ROOT", "hub"),
        ("other/hub/app", "ROOT", "other/hub/app"),
        ("mirror/app", "mirror", "library/copies/app"),
        ("hub/a", "hub", "a"), // shorter than ECR's names
    ];
    for (repository, expected, name) in cases {
        let answer = stack.batch_get(repository, "1").await;
        assert_eq!(answer.error(), "", "{repository}: {answer:?}");
        assert_eq!(
            answer.body["failures"][0]["failureCode"], "ImageNotFound",
            "{repository}: {answer:?}"
        );
        for (prefix, registry) in &registries {
            let of_this = match *prefix == expected {
                true => ["HEAD", "GET"].map(|m| format!("{m} /v2/{name}/manifests/1")).to_vec(),
                false => vec![],
            };
            assert_eq!(registry.take_asked(), of_this, "{repository} at {prefix}");
        }
    }
}

#[tokio::test]
async fn accounts_that_a_rule_grants_may_make_the_first_pull() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let registry = Recorder::registry(&layout, |_| None).await;
    stack.rule("hub", &registry.url, &["--grant", OUTSIDER]).await;
    let (url, requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(url));
    let digest = sha256(b"layer");
    let ask = async |caller: &str, operation: &str, repository: &str| {
        let members = match operation {
            "BatchGetImage" => json!({
                "registryId": ACCOUNT, "repositoryName": repository, "imageIds": [{"imageTag": "1"}],
            }),
            _ => {
                json!({"registryId": ACCOUNT, "repositoryName": repository, "layerDigest": digest})
            }
        };
        let target = TARGET.replace("GetDownloadUrlForLayer", operation);
        let before = requests.load(Ordering::SeqCst);
        let members = members.to_string();
        let answer =
            call(&handler, Shape::Rest, Some(&target), members.as_bytes(), Some(caller)).await;
        (answer, requests.load(Ordering::SeqCst) - before)
    };
    let (answer, _) = ask(OUTSIDER, "BatchGetImage", REPOSITORY).await;
    assert_eq!(answer.body["images"].as_array().map(Vec::len), Some(1), "{answer:?}");
    let (answer, _) = ask(OUTSIDER, "GetDownloadUrlForLayer", REPOSITORY).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_consistent(&stack, REPOSITORY).await;

    // Others learn nothing: neither from the error, nor from what it costs.
    stack.publish(&Layout::of_layers(&[b"own"]), "hub/own/app:1").await;
    let asked = registry.asked();
    for operation in ["BatchGetImage", "GetDownloadUrlForLayer"] {
        let mut seen = Vec::new();
        for repository in [REPOSITORY, "hub/own/app", "hub/not/there", "elsewhere/app"] {
            let (answer, requests) = ask("333333333333", operation, repository).await;
            assert_eq!(
                answer.error(),
                "AccessDeniedException",
                "{operation} {repository}: {answer:?}"
            );
            seen.push((answer.message().replace(repository, "NAME"), requests));
        }
        assert!(seen.iter().all(|one| *one == seen[0]), "{operation}: {seen:?}");
    }
    // What was published by hand has its own grants.
    let (answer, _) = ask(OUTSIDER, "BatchGetImage", "hub/own/app").await;
    assert_eq!(answer.error(), "AccessDeniedException", "{answer:?}");
    assert_eq!(registry.asked(), asked);
}

#[tokio::test]
async fn credentials_go_to_the_token_server_that_was_named_first() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let token_server = Recorder::start(|request| match is_authorized(request, &basic()) {
        true => axum::Json(json!({"token": "the-token"})).into_response(),
        false => headed(401, "x", "x"),
    })
    .await;
    let another =
        Recorder::start(|_| axum::Json(json!({"token": "the-token"})).into_response()).await;
    let (registry, upstream) = Recorder::switched(&layout).await;
    let wants_token_of = |realm: &str| {
        let realm = realm.to_owned();
        move |request: &Parts| {
            (!is_authorized(request, "Bearer the-token"))
                .then(|| bearer(&format!("{realm}/token"), ""))
        }
    };
    upstream.set(wants_token_of(&token_server.url));
    let arn = secret(&stack, "hub", r#"{"username":"alice","accessToken":"pass:word"}"#);
    stack.rule("hub", &registry.url, &["--credential-arn", &arn]).await;
    stack.batch_get(REPOSITORY, "1").await;
    assert_eq!(token_server.header("authorization"), [basic()]);
    let shown = registry.header("authorization");
    assert!(shown.iter().all(|value| value.is_empty() || value == "Bearer the-token"), "{shown:?}");

    upstream.set(wants_token_of(&another.url));
    let since = now();
    let refused = stack.ask_patiently(REPOSITORY, &sha256(b"layer")).await;
    assert_eq!(refused.error(), "UnableToGetUpstreamLayerException", "{refused:?}");
    assert!(refused.message().ends_with("an address that is not allowed."), "{refused:?}");
    stack.assert_remembered((REPOSITORY, "layer"), "ForbiddenAddress", 300, since).await;
    assert_eq!(another.asked(), Vec::<String>::new());

    // If the token server really moved, the user creates the rule again.
    stack.json(&["pull-through", "delete", "hub"]).await;
    stack.rule("hub", &registry.url, &["--credential-arn", &arn]).await;
    stack.let_fills_pass(REPOSITORY).await;
    stack.ask_and_download(REPOSITORY, b"layer", "the rule was made again").await;
    assert_eq!(another.header("authorization"), [basic()]);
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_told_and_nothing_is_asked_without_it() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let registry = Recorder::registry(&layout, |request| {
        (!is_authorized(request, &basic()))
            .then(|| headed(401, "www-authenticate", "Basic realm=\"r\""))
    })
    .await;
    let arn = format!("arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:ecr-pullthroughcache/hub");
    stack.rule("hub", &registry.url, &["--credential-arn", &arn]).await;
    let garbled =
        ["", "alice", r#"{"username":"alice"}"#, r#"{"username":"alice","accessToken":""}"#];
    for value in [None].into_iter().chain(garbled.map(Some)) {
        if let Some(value) = value {
            secret(&stack, "hub", value);
        }
        let since = now();
        let refused = stack.batch_get(REPOSITORY, "1").await;
        let failure = &refused.body["failures"][0];
        assert_eq!(failure["failureCode"], "UpstreamAccessDenied", "{value:?}: {refused:?}");
        let reason = failure["failureReason"].as_str().unwrap();
        assert!(reason.ends_with("the secret of the rule cannot be used"), "{value:?}: {reason}");
        let refused = stack.pull("GET", "/v2/hub/team/app/manifests/1").await;
        assert_eq!((refused.status, refused.code()), (403, "DENIED"), "{value:?}");
        stack.assert_remembered((REPOSITORY, "image"), "SecretUnusable", 60, since).await;
        stack.let_fills_pass(REPOSITORY).await;
    }
    assert_eq!(registry.asked(), Vec::<String>::new());
    secret(&stack, "hub", r#"{"username":"alice","accessToken":"pass:word"}"#);
    stack.pull_image(REPOSITORY, "1").await;
}
