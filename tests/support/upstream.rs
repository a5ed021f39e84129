//! The client of other registries, and the credentials of alice, who is a user of them.

use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use layergate_core::types::{Digest, ImageTag};
use layergate_upstream::{Blob, Credentials, Error, Http, Trust, Upstream, UpstreamRepository};

use super::{headed, sha256};

/// The client of `team/app` at a URL on loopback.
pub fn client(url: &str, credentials: Option<Credentials>) -> Upstream {
    let host = url.strip_prefix("http://").unwrap();
    let repository = UpstreamRepository::parse(&format!("{host}/team/app")).unwrap();
    let trust = Trust { hosts: vec![repository.host().clone()], plain_http: true };
    Upstream::new(repository, credentials, Http::direct(trust).unwrap()).unwrap()
}

pub fn credentials() -> Option<Credentials> {
    Some(Credentials {
        username: "alice".to_owned(),
        password: "pass:word".to_owned(),
        realm: None,
    })
}

pub fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode("alice:pass:word"))
}

pub fn tag() -> ImageTag {
    ImageTag::parse("1").unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::parse(&sha256(bytes)).unwrap()
}

pub async fn read(mut blob: Blob) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(bytes) = blob.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// A scope that is not what the client asks for.
pub const ALL_SCOPES: &str = r#",scope="*:*:*""#;

/// What a registry answers that wants a token. `scope` is empty, or begins with a comma.
pub fn bearer(realm: &str, scope: &str) -> Response {
    headed(401, "www-authenticate", &format!(r#"Bearer realm="{realm}",service="registry"{scope}"#))
}

pub fn is_authorized(request: &Parts, value: &str) -> bool {
    request.headers.get("authorization").is_some_and(|header| header == value)
}
