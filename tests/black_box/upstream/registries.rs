//! Registries as they are: what differs from the specification, and what the client does then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use layergate_upstream::{Error, Http, Patience, UpstreamRegistry, check};
use serde_json::json;

use support::upstream::{bearer, client, credentials, digest, is_authorized, read, tag};
use support::{Layout, Recorder, headed};

const LAYER: &[u8] = b"a layer's bytes";

type Answer = fn() -> Response;

#[tokio::test]
async fn a_tag_is_looked_up_by_get_if_head_is_refused() {
    let layout = Layout::of_layers(&[LAYER]);
    type Head = fn(&Parts) -> Response;
    let cases: [(&str, Head); 9] = [
        ("405", |_| headed(405, "allow", "GET")),
        ("404", |_| headed(404, "x", "x")),
        ("403", |_| headed(403, "x", "x")),
        ("400", |_| headed(400, "x", "x")),
        ("501", |_| headed(501, "x", "x")),
        ("500", |_| headed(500, "x", "x")),
        ("200 without a digest", |_| headed(200, "x", "x")),
        ("200 with an empty digest", |_| headed(200, "docker-content-digest", "")),
        ("a digest that nobody verifies", |_| headed(200, "docker-content-digest", "md5:abcd")),
    ];
    for (description, head) in cases {
        let registry = Recorder::registry(&layout, move |request| {
            (request.method == "HEAD").then(|| head(request))
        })
        .await;
        let found = client(&registry.url, None).digest_of(&tag()).await;
        assert_eq!(found.unwrap().to_string(), layout.root()["digest"], "{description}");
        let path = "/v2/team/app/manifests/1";
        assert_eq!(registry.asked(), [format!("HEAD {path}"), format!("GET {path}")]);
    }
}

#[tokio::test]
async fn a_get_request_would_not_help_then() {
    let cases: [(&str, Answer, Error); 3] = [
        ("401", || headed(401, "x", "x"), Error::Denied(StatusCode::UNAUTHORIZED)),
        ("429", || headed(429, "x", "x"), Error::RateLimited { retry_after: None }),
        (
            "503 for two minutes",
            || headed(503, "retry-after", "120"),
            Error::Busy { retry_after: Duration::from_secs(120) },
        ),
    ];
    for (description, answer, expected) in cases {
        let registry = Recorder::start(move |_| answer()).await;
        let found = client(&registry.url, None).digest_of(&tag()).await;
        assert_eq!(found.unwrap_err(), expected, "{description}");
        assert_eq!(registry.asked(), ["HEAD /v2/team/app/manifests/1"], "{description}");
    }
}

/// A signature is one of the URL as it was written.
#[tokio::test]
async fn redirects_are_requested_exactly_as_they_were_written() {
    let urls = [
        "/layer?X-Amz-Signature=a%2Fb&X-Amz-Credential=c/d",
        "/a%7Eb~c%2fd%2Fe'(f)!*;:@&=+$,?q='x'",
        "/a/../b/./%2e%2e/c//d/",
        "/{a}|^?{c}|d",
        "/?",
        "/a?u=https://other.example/?x",
    ];
    for url in urls {
        let cdn = Recorder::start(|_| LAYER.into_response()).await;
        let target = format!("{}{url}", cdn.url);
        let location = target.clone();
        let registry = Recorder::start(move |_| headed(307, "location", &location)).await;
        let mut blob =
            client(&registry.url, None).blob(&digest(LAYER), LAYER.len() as u64).unwrap();
        blob.open().await.unwrap();
        assert_eq!(blob.redirect().unwrap().reveal(), target);
        assert_eq!(read(blob).await.unwrap(), LAYER);
        assert_eq!(cdn.asked(), [format!("GET {url}")]);
    }
}

/// Two registries. The first one redirects everything to the second one, where the repository has
/// another name. The second one wants a token, and gives it to everybody.
async fn moved(layout: &Layout) -> (Recorder, Recorder, Recorder) {
    let token_server =
        Recorder::start(|request| match request.headers.contains_key("authorization") {
            true => headed(401, "x", "x"),
            false => axum::Json(json!({"token": "anonymous"})).into_response(),
        })
        .await;
    let realm = format!("{}/token", token_server.url);
    let second = Recorder::registry(layout, move |request| {
        let scope = r#",scope="repository:moved/team/app:pull""#;
        match is_authorized(request, "Bearer anonymous") {
            false => Some(bearer(&realm, scope)),
            true if request.uri.path() == "/v2/" => Some("{}".into_response()),
            true => None,
        }
    })
    .await;
    let target = second.url.clone();
    let first = Recorder::start(move |request| {
        headed(307, "location", &format!("{target}{}", request.uri.path()))
    });
    (first.await, second, token_server)
}

#[tokio::test]
async fn a_registry_that_another_one_redirects_to_gets_an_anonymous_token() {
    let layout = Layout::of_layers(&[LAYER]);
    for credentials in [None, credentials()] {
        let (first, second, token_server) = moved(&layout).await;
        let upstream = client(&first.url, credentials);
        let found = upstream.digest_of(&tag()).await.unwrap();
        assert_eq!(found.to_string(), layout.root()["digest"]);
        upstream.manifest(&found).await.unwrap();
        let mut blob = upstream.blob(&digest(LAYER), LAYER.len() as u64).unwrap();
        blob.open().await.unwrap();
        assert_eq!(blob.redirect(), None, "other clients have no token");
        assert_eq!(read(blob).await.unwrap(), LAYER);

        let asked = "GET /token?service=registry&scope=repository%3Amoved%2Fteam%2Fapp%3Apull";
        assert_eq!(token_server.asked(), [asked], "once");
        assert_eq!(token_server.header("authorization"), [""], "without credentials");
        assert_eq!(first.header("authorization"), ["", "", ""]);
        let shown = second.header("authorization");
        assert_eq!(shown, ["", "Bearer anonymous", "Bearer anonymous", "Bearer anonymous"]);
        assert_eq!(upstream.realm().await, None, "not the token server of the registry itself");
    }
    let (first, _, _) = moved(&layout).await;
    let registry = UpstreamRegistry::parse(&first.url).unwrap();
    let http = Http::direct(registry.trust(Vec::new())).unwrap();
    assert_eq!(check(&registry, credentials(), http).await, Ok(None));
}

#[tokio::test]
async fn a_registry_that_another_one_redirects_to_gets_no_credentials() {
    for challenge in ["Basic realm=\"r\"", "Negotiate"] {
        let second = Recorder::start(|_| headed(401, "www-authenticate", challenge)).await;
        let target = second.url.clone();
        let first = Recorder::start(move |_| headed(307, "location", &target)).await;
        let error = client(&first.url, credentials()).tagged_manifest(&tag()).await.unwrap_err();
        assert_eq!(error, Error::Denied(StatusCode::UNAUTHORIZED));
        assert_eq!(second.header("authorization"), [""], "{challenge}");
    }
}

/// Answers the first `times` requests with this, and all others with a manifest.
async fn busy(times: usize, answer: Answer) -> Recorder {
    let layout = Layout::of_layers(&[LAYER]);
    let asked = Arc::new(AtomicUsize::new(0));
    Recorder::registry(&layout, move |_| {
        (asked.fetch_add(1, Ordering::SeqCst) < times).then(answer)
    })
    .await
}

#[tokio::test]
async fn a_client_comes_back_when_it_was_asked_to() {
    let cases: [(&str, Answer); 4] = [
        ("429", || headed(429, "retry-after", "1")),
        ("429 at once", || headed(429, "retry-after", "0")),
        ("503", || headed(503, "retry-after", "1")),
        ("429 until a time that has passed", || {
            headed(429, "retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")
        }),
    ];
    for (description, answer) in cases {
        let registry = busy(1, answer).await;
        let started = Instant::now();
        let found = client(&registry.url, None).tagged_manifest(&tag()).await;
        assert!(found.is_ok(), "{description}: {found:?}");
        assert!(started.elapsed() >= Duration::from_secs(1), "{description}");
        assert_eq!(registry.asked().len(), 2, "{description}");
    }
}

#[tokio::test]
async fn a_client_does_not_come_back_for_ever() {
    let patience = Patience { retry_after: Duration::from_secs(2), ..Patience::default() };
    let cases: [(&str, Answer, Error, usize); 4] = [
        (
            "a second each time",
            || headed(429, "retry-after", "1"),
            Error::RateLimited { retry_after: Some(Duration::from_secs(1)) },
            3,
        ),
        (
            "a second each time, busy",
            || headed(503, "retry-after", "1"),
            Error::Busy { retry_after: Duration::from_secs(1) },
            3,
        ),
        (
            "longer than is waited",
            || headed(429, "retry-after", "3"),
            Error::RateLimited { retry_after: Some(Duration::from_secs(3)) },
            1,
        ),
        ("no time", || headed(429, "x", "x"), Error::RateLimited { retry_after: None }, 1),
    ];
    for (description, answer, expected, requests) in cases {
        let registry = busy(usize::MAX, answer).await;
        let upstream = client(&registry.url, None).with_patience(patience);
        let error = upstream.tagged_manifest(&tag()).await.unwrap_err();
        assert_eq!(error, expected, "{description}");
        assert_eq!(registry.asked().len(), requests, "{description}");
    }
}
