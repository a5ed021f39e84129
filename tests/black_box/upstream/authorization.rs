//! What the client of other registries shows them, and to whom it shows nothing.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use layergate_upstream::{Credentials, Danger, Error};
use serde_json::json;

use support::upstream::{
    ALL_SCOPES, basic, bearer, client, credentials, digest, is_authorized, read, tag,
};
use support::{Layout, Recorder, headed};

const LAYER: &[u8] = b"a layer's bytes";

#[tokio::test]
async fn credentials_go_to_the_registry_and_its_token_server_only() {
    let layout = Layout::of_layers(&[LAYER]);
    let cdn = Recorder::start(|_| LAYER.into_response()).await;
    let token_server =
        Recorder::start(|_| axum::Json(json!({"token": "the-token"})).into_response()).await;
    let (realm, target) =
        (format!("{}/token?account=layergate", token_server.url), cdn.url.clone());
    let registry = Recorder::registry(&layout, move |request| {
        if !is_authorized(request, "Bearer the-token") {
            return Some(bearer(&realm, ALL_SCOPES));
        }
        let is_blob = request.uri.path().contains("/blobs/");
        is_blob.then(|| headed(307, "location", &format!("{target}/layer?X-Amz-Signature=secret")))
    })
    .await;
    let upstream = client(&registry.url, credentials());
    upstream.tagged_manifest(&tag()).await.unwrap();
    let mut blob = upstream.blob(&digest(LAYER), LAYER.len() as u64).unwrap();
    blob.open().await.unwrap();
    let redirect = blob.redirect().unwrap().clone();
    assert_eq!(redirect.reveal(), format!("{}/layer?X-Amz-Signature=secret", cdn.url));
    assert_eq!(format!("{redirect:?}"), "DownloadUrl(..)");
    assert_eq!(read(blob).await.unwrap(), LAYER);

    let asked =
        ["GET /token?account=layergate&service=registry&scope=repository%3Ateam%2Fapp%3Apull"];
    assert_eq!(token_server.asked(), asked, "once, and for no more than is needed");
    assert_eq!(token_server.header("authorization"), [basic()]);
    assert_eq!(registry.header("authorization"), ["", "Bearer the-token", "Bearer the-token"]);
    assert_eq!(cdn.header("authorization"), [""]);
    let debugged = format!("{upstream:?} {:?}", credentials());
    for secret in ["alice", "pass:word", "the-token", &basic()] {
        assert!(!debugged.contains(secret), "{debugged}");
    }
}

#[tokio::test]
async fn a_registry_without_a_token_server_gets_the_credentials_when_it_asks() {
    let layout = Layout::of_layers(&[LAYER]);
    let registry = Recorder::registry(&layout, |request| {
        (!is_authorized(request, &basic()))
            .then(|| headed(401, "www-authenticate", "Basic realm=\"r\""))
    })
    .await;
    let upstream = client(&registry.url, credentials());
    upstream.tagged_manifest(&tag()).await.unwrap();
    upstream.tagged_manifest(&tag()).await.unwrap();
    assert_eq!(registry.header("authorization"), ["".to_owned(), basic(), basic()]);
}

#[tokio::test]
async fn a_redirect_within_the_registry_is_followed_with_the_token() {
    let layout = Layout::of_layers(&[LAYER]);
    let token_server =
        Recorder::start(|_| axum::Json(json!({"access_token": "t"})).into_response()).await;
    let realm = token_server.url.clone();
    let registry = Recorder::registry(&layout, move |request| match request.uri.path() {
        _ if !is_authorized(request, "Bearer t") => Some(bearer(&realm, ALL_SCOPES)),
        "/artifacts/layer" => Some(LAYER.into_response()),
        path if path.contains("/blobs/") => Some(headed(302, "location", "/artifacts/layer")),
        _ => None,
    })
    .await;
    let mut blob = client(&registry.url, None).blob(&digest(LAYER), LAYER.len() as u64).unwrap();
    blob.open().await.unwrap();
    assert_eq!(blob.redirect(), None, "what needs the token is of no use to others");
    assert_eq!(read(blob).await.unwrap(), LAYER);
    assert_eq!(token_server.header("authorization"), [""], "there are no credentials");
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced() {
    let layout = Layout::of_layers(&[LAYER]);
    let token_server = Recorder::start(|request| {
        let number = request.headers.len(); // any answer will do: the registry takes each token once
        axum::Json(json!({"token": format!("t{number}")})).into_response()
    })
    .await;
    let realm = token_server.url.clone();
    let served = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let registry = Recorder::registry(&layout, move |request| {
        let is_expired = served.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 == 2;
        (is_expired || !request.headers.contains_key("authorization"))
            .then(|| bearer(&realm, ALL_SCOPES))
    })
    .await;
    let upstream = client(&registry.url, None);
    upstream.tagged_manifest(&tag()).await.unwrap();
    upstream.tagged_manifest(&tag()).await.unwrap();
    assert_eq!(token_server.asked().len(), 2);
}

#[tokio::test]
async fn token_servers_that_cannot_be_used_are_told_apart() {
    type Case = (&'static str, fn() -> Response, Error);
    let gave_none = || Error::Unavailable("its token server gave no token".to_owned());
    let cases: [Case; 11] = [
        ("wrong credentials", || headed(401, "x", "x"), Error::Denied(StatusCode::UNAUTHORIZED)),
        ("not for this user", || headed(403, "x", "x"), Error::Denied(StatusCode::FORBIDDEN)),
        (
            "too many requests",
            || headed(429, "retry-after", "61"),
            Error::RateLimited { retry_after: Some(Duration::from_secs(61)) },
        ),
        (
            "missing",
            || headed(404, "x", "x"),
            Error::Unavailable("its token server answered 404 Not Found".to_owned()),
        ),
        (
            "a redirect, which is not followed",
            || headed(307, "location", "https://elsewhere.example/"),
            Error::Unavailable("its token server answered 307 Temporary Redirect".to_owned()),
        ),
        ("too large", || vec![b' '; 64 * 1024 + 1].into_response(), Error::TooLarge(64 * 1024)),
        ("no JSON", || "secret".into_response(), gave_none()),
        ("an empty token", || r#"{"token": ""}"#.into_response(), gave_none()),
        ("no token", || r#"{"token": null, "access_token": ""}"#.into_response(), gave_none()),
        ("nothing", || "null".into_response(), gave_none()),
        (
            "a token that is two headers",
            || r#"{"token": "t\r\nX-Other: 1"}"#.into_response(),
            Error::Unavailable(
                "its token server gave a token with forbidden characters".to_owned(),
            ),
        ),
    ];
    for (description, answer, expected) in cases {
        let token_server = Recorder::start(move |_| answer()).await;
        let realm = token_server.url;
        let registry = Recorder::start(move |_| bearer(&realm, ALL_SCOPES)).await;
        let asked = client(&registry.url, credentials()).tagged_manifest(&tag()).await;
        assert_eq!(asked.unwrap_err(), expected, "{description}");
    }
}

/// Artifactory has a token server for each of its repositories, and `null` in its path if no
/// repository is asked for.
#[tokio::test]
async fn a_token_server_is_known_by_its_host_and_port() {
    let layout = Layout::of_layers(&[LAYER]);
    let token_server = Recorder::start(|_| axum::Json(json!({"token": "t"})).into_response()).await;
    let host = token_server.url.clone();
    let paths = ["/docker-a/token", "/null/token?for=team", "/", ""];
    for known in paths {
        for named in paths {
            let realm = format!("{host}{named}");
            let registry = Recorder::registry(&layout, move |request| {
                (!is_authorized(request, "Bearer t")).then(|| bearer(&realm, ""))
            })
            .await;
            let realm = Some(format!("{host}{known}").parse().unwrap());
            let upstream =
                client(&registry.url, Some(Credentials { realm, ..credentials().unwrap() }));
            upstream.tagged_manifest(&tag()).await.unwrap();
            let asked = token_server.take_asked();
            let path = named.split('?').next().unwrap().trim_start_matches('/');
            assert!(asked[0].starts_with(&format!("GET /{path}?")), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn the_first_token_that_is_not_empty_counts() {
    let layout = Layout::of_layers(&[LAYER]);
    for answer in [
        json!({"token": "t"}),
        json!({"token": "t", "access_token": ""}),
        json!({"token": "t", "access_token": null}),
        json!({"token": "", "access_token": "t"}),
        json!({"token": null, "access_token": "t", "expires_in": null}),
    ] {
        let body = answer.clone();
        let token_server = Recorder::start(move |_| axum::Json(body.clone()).into_response()).await;
        let realm = token_server.url;
        let registry = Recorder::registry(&layout, move |request| {
            (!is_authorized(request, "Bearer t")).then(|| bearer(&realm, r#",scope="",error="""#))
        })
        .await;
        let manifest = client(&registry.url, None).tagged_manifest(&tag()).await;
        assert!(manifest.is_ok(), "{answer}: {manifest:?}");
    }
}

#[tokio::test]
async fn credentials_go_to_no_other_token_server_than_the_first() {
    let thief = Recorder::start(|_| axum::Json(json!({"token": "t"})).into_response()).await;
    let token_server = Recorder::start(|_| axum::Json(json!({"token": "t"})).into_response()).await;
    let realms = [token_server.url.clone(), thief.url.clone()];
    let registry = Recorder::start(move |request| {
        let is_tagged = request.uri.path().ends_with("/1");
        bearer(&realms[usize::from(!is_tagged)], ALL_SCOPES)
    })
    .await;
    let expected = Error::Forbidden { host: "127.0.0.1".to_owned(), reason: Danger::OtherRealm };
    let upstream = client(&registry.url, credentials());
    assert!(matches!(upstream.tagged_manifest(&tag()).await, Err(Error::Denied(_))));
    assert_eq!(upstream.realm().await.unwrap().as_str(), format!("{}/", token_server.url));
    assert_eq!(upstream.manifest(&digest(b"any")).await.unwrap_err(), expected);

    let pinned = Credentials { realm: upstream.realm().await, ..credentials().unwrap() };
    let upstream = client(&registry.url, Some(pinned));
    assert_eq!(
        upstream.manifest(&digest(b"any")).await.unwrap_err(),
        expected,
        "from an earlier time"
    );
    assert_eq!(thief.asked(), Vec::<String>::new());
}
