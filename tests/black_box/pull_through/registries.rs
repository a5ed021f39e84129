//! Pulls through registries that differ from the specification: what they answer is pulled all the
//! same, and if it cannot be, the client learns why.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::upstream::{basic, bearer, is_authorized};
use support::{Layout, Recorder, Shape, Stack, assert_consistent, headed, now, secret, sha256};

const LAYER: &[u8] = b"a layer's bytes";

const CREDENTIALS: &str = r#"{"username":"alice","accessToken":"pass:word"}"#;

/// Artifactory's token server: its path has the first part of the repository's name, and a token is
/// for that part alone.
#[tokio::test]
async fn a_rule_serves_all_repositories_of_a_registry_with_many_token_servers() {
    let layout = Layout::of_layers(&[LAYER]);
    let key_in = |path: &str| path.split('/').nth(2).unwrap_or_default().to_owned();
    let token_server = Recorder::start(move |request| match is_authorized(request, &basic()) {
        true => axum::Json(json!({"token": key_in(request.uri.path())})).into_response(),
        false => headed(401, "x", "x"),
    })
    .await;
    let contents = Recorder::registry(&layout, |_| None).await.url;
    let realm = token_server.url.clone();
    let registry = Recorder::start(move |request| {
        let path = request.uri.path();
        let key = path.split('/').nth(2).filter(|key| !key.is_empty()).unwrap_or("null");
        if !is_authorized(request, &format!("Bearer {key}")) {
            return bearer(&format!("{realm}/api/{key}/v2/token"), "");
        }
        match path.strip_prefix(&format!("/v2/{key}/")) {
            Some(rest) => headed(307, "location", &format!("{contents}/v2/{rest}")),
            None => "{}".into_response(),
        }
    })
    .await;
    for is_validated in [false, true] {
        let stack = Stack::start().await;
        let arn = secret(&stack, "art", CREDENTIALS);
        stack.rule("art", &registry.url, &["--credential-arn", &arn]).await;
        if is_validated {
            stack.json(&["pull-through", "validate", "art"]).await;
        }
        for key in ["docker-a", "docker-b"] {
            stack.pull_image(&format!("art/{key}/team/app"), "1").await;
        }
        let rule = stack.json(&["pull-through", "show", "art"]).await;
        assert_eq!(rule["realm"], token_server.url, "validated: {is_validated}");
    }
    assert!(token_server.header("authorization").iter().all(|shown| *shown == basic()));
}

#[tokio::test]
async fn images_of_unusual_registries_are_pulled() {
    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
    type First = Box<dyn Fn(&Parts) -> Option<Response> + Send + Sync>;
    let layout = Layout::of_layers(&[LAYER]);
    let (contents, root) = (layout.contents(), layout.root()["digest"].clone());
    let requests = Arc::new(AtomicUsize::new(0));
    let cases: [(&str, First); 4] = [
        (
            "HEAD is refused",
            Box::new(|request| (request.method == "HEAD").then(|| headed(405, "allow", "GET"))),
        ),
        (
            "everything is encoded",
            Box::new(move |request| {
                let reference = request.uri.path().rsplit('/').next()?;
                let digest = if reference == "1" { root.as_str()? } else { reference };
                let media_type = "application/vnd.oci.image.manifest.v1+json";
                let headers = [("content-encoding", "gzip"), ("content-type", media_type)];
                Some((headers, gzip(contents.get(digest)?)).into_response())
            }),
        ),
        (
            "the first request to each resource comes too early",
            Box::new(move |_| {
                let is_early = requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
                is_early.then(|| headed(429, "retry-after", "1"))
            }),
        ),
        (
            "it gives tokens in the older member, and empties the newer one",
            Box::new(|request| match request.uri.path() {
                "/token" => {
                    Some(axum::Json(json!({"token": "", "access_token": "t"})).into_response())
                }
                _ if is_authorized(request, "Bearer t") => None,
                _ => {
                    let host = request.headers["host"].to_str().unwrap();
                    Some(bearer(&format!("http://{host}/token"), r#",scope="""#))
                }
            }),
        ),
    ];
    for (description, first) in cases {
        eprintln!("{description}");
        let first = Arc::new(first);
        let registry = Recorder::registry(&layout, move |request| first(request)).await;
        let stack = Stack::start().await;
        stack.rule("hub", &registry.url, &[]).await;
        stack.pull_image("hub/team/app", "1").await;
        assert_consistent(&stack, "hub/team/app").await;
    }
}

#[tokio::test]
async fn a_registry_that_moved_is_followed_without_the_credentials() {
    let layout = Layout::of_layers(&[LAYER]);
    let new = Recorder::registry(&layout, |request| match request.uri.path() {
        "/token" => Some(axum::Json(json!({"token": "anonymous"})).into_response()),
        _ if is_authorized(request, "Bearer anonymous") => None,
        _ => {
            let host = request.headers["host"].to_str().unwrap();
            Some(bearer(&format!("http://{host}/token"), ""))
        }
    })
    .await;
    let target = new.url.clone();
    let old = Recorder::start(move |request| match is_authorized(request, &basic()) {
        true => headed(308, "location", &format!("{target}{}", request.uri.path())),
        false => headed(401, "www-authenticate", "Basic realm=\"r\""),
    })
    .await;
    let stack = Stack::start().await;
    let arn = secret(&stack, "old", CREDENTIALS);
    stack.rule("old", &old.url, &["--credential-arn", &arn]).await;
    stack.pull_image("old/team/app", "1").await;
    assert_consistent(&stack, "old/team/app").await;
    let shown = new.header("authorization");
    assert!(shown.iter().all(|value| value.is_empty() || value == "Bearer anonymous"), "{shown:?}");
}

#[tokio::test]
async fn a_name_that_no_registry_has_is_told() {
    let stack = Stack::start().await;
    let registry = Recorder::start(|_| headed(404, "x", "x")).await;
    let prefix = "p".repeat(200);
    stack.rule("hub", &registry.url, &["--upstream-prefix", &prefix]).await;
    let repository = format!("hub/{}", "n".repeat(100));
    let reason = "the upstream registry cannot have a repository of that name";

    let since = now();
    let refused = stack.batch_get(&repository, "1").await;
    let failure = &refused.body["failures"][0];
    assert_eq!(failure["failureCode"], "ImageNotFound", "{refused:?}");
    assert!(failure["failureReason"].as_str().unwrap().ends_with(reason), "{failure}");
    stack.assert_remembered((&repository, "image"), "NameInvalid", 300, since).await;
    let refused = stack.pull("GET", &format!("/v2/{repository}/manifests/1")).await;
    assert_eq!((refused.status, refused.code()), (400, "NAME_INVALID"), "{refused:?}");
    let said = refused.body["errors"][0]["message"].as_str().unwrap();
    assert!(said.ends_with(reason), "{said}");
    let members = json!({"repositoryName": repository, "layerDigest": sha256(LAYER)});
    let refused = stack.call(Shape::Rest, "GetDownloadUrlForLayer", &members, ACCOUNT).await;
    assert_eq!(refused.error(), "RepositoryNotFoundException", "{refused:?}");
    assert_eq!(registry.asked(), Vec::<String>::new());
}
