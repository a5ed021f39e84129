//! Whether another registry, and the credentials for it, can be used: what is asked, and what the
//! answers are taken for.

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use layergate_upstream::{Credentials, Danger, Error, Http, UpstreamRegistry};
use serde_json::json;

use support::upstream::{basic, bearer, credentials, is_authorized};
use support::{Recorder, headed};

/// A registry that takes alice's credentials alone, and its token server.
async fn registry_of_alice(scope: &'static str) -> (Recorder, Recorder) {
    let token_server = Recorder::start(|request| match is_authorized(request, &basic()) {
        true => axum::Json(json!({"token": "the-token"})).into_response(),
        false => headed(401, "x", "x"),
    })
    .await;
    let realm = token_server.url.clone();
    let registry =
        Recorder::start(move |request| match is_authorized(request, "Bearer the-token") {
            true => "{}".into_response(),
            false => bearer(&format!("{realm}/token"), scope),
        });
    (registry.await, token_server)
}

async fn check(url: &str, credentials: Option<Credentials>) -> Result<Option<String>, Error> {
    let registry = UpstreamRegistry::parse(url).unwrap();
    let http = Http::direct(registry.trust(Vec::new())).unwrap();
    Ok(layergate_upstream::check(&registry, credentials, http).await?.map(String::from))
}

#[tokio::test]
async fn credentials_are_checked_without_asking_for_an_image() {
    let cases = [
        ("no scope", "", ""),
        ("a scope that is a word", ",scope=\"aws\"", "&scope=aws"),
        ("a scope that is some repository", ",scope=\"repository:user/image:pull\"", ""),
    ];
    for (description, challenged, asked) in cases {
        let (registry, token_server) = registry_of_alice(challenged).await;
        let realm = format!("{}/token", token_server.url);
        assert_eq!(check(&registry.url, credentials()).await, Ok(Some(realm)), "{description}");
        assert_eq!(registry.asked(), ["GET /v2/", "GET /v2/"], "{description}");
        assert_eq!(
            token_server.asked(),
            [format!("GET /token?service=registry{asked}")],
            "{description}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_registry_or_its_credentials_is_found() {
    let denied = Error::Denied(StatusCode::UNAUTHORIZED);
    let (registry, token_server) = registry_of_alice("").await;
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials().unwrap() };
    assert_eq!(check(&registry.url, Some(wrong)).await, Err(denied.clone()));
    assert_eq!(check(&registry.url, None).await, Err(denied.clone()));
    let elsewhere = Some("https://elsewhere.example/token".parse().unwrap());
    let other_realm = Credentials { realm: elsewhere, ..credentials().unwrap() };
    let expected = Error::Forbidden { host: "127.0.0.1".to_owned(), reason: Danger::OtherRealm };
    assert_eq!(check(&registry.url, Some(other_realm)).await, Err(expected));
    assert_eq!(token_server.asked().len(), 2);

    type Case =
        (&'static str, fn(&Parts) -> Response, Option<Credentials>, Result<Option<String>, Error>);
    let basic_only: fn(&Parts) -> Response = |request| match is_authorized(request, &basic()) {
        true => "{}".into_response(),
        false => headed(401, "www-authenticate", "Basic realm=\"r\""),
    };
    let cases: [Case; 6] = [
        ("open to all", |_| "{}".into_response(), None, Ok(None)),
        ("a token server is not needed", basic_only, credentials(), Ok(None)),
        ("credentials are needed", basic_only, None, Err(denied.clone())),
        (
            "it takes no credentials",
            |_| headed(401, "www-authenticate", "Basic"),
            credentials(),
            Err(denied),
        ),
        ("no registry", |_| headed(404, "x", "x"), credentials(), Err(Error::NotFound)),
        (
            "broken",
            |_| headed(503, "x", "x"),
            None,
            Err(Error::Unavailable("it answered 503 Service Unavailable".to_owned())),
        ),
    ];
    for (description, answer, credentials, expected) in cases {
        let registry = Recorder::start(answer).await;
        assert_eq!(check(&registry.url, credentials).await, expected, "{description}");
    }
}
