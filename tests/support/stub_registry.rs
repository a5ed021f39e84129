//! A registry of the OCI distribution protocol, good or hostile, that keeps what it was asked.

use std::io;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::{Layout, serve};

/// A server on loopback that keeps the heads of all requests.
#[derive(Clone)]
pub struct Recorder {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    requests: Arc<Mutex<Vec<Parts>>>,
}

impl Recorder {
    /// Answers requests with `answer`.
    pub async fn start(
        answer: impl Fn(&Parts) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = requests.clone();
        let url = serve(move |request: Request| {
            let (parts, _) = request.into_parts();
            let response = answer(&parts);
            record.lock().unwrap().push(parts);
            async move { response }
        });
        Self { url: url.await, requests }
    }

    /// A registry whose repository `team/app` has all that is in a layout, and the tag `1` for the
    /// only image that its index names; where `first` answers, it answers.
    pub async fn registry(
        layout: &Layout,
        first: impl Fn(&Parts) -> Option<Response> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (contents, root) = (layout.contents(), layout.root());
        Self::start(move |request| {
            if let Some(response) = first(request) {
                return response;
            }
            let Some(what) = request.uri.path().strip_prefix("/v2/team/app/") else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let digest = match what.split_once('/') {
                Some(("manifests", "1")) => root["digest"].as_str().unwrap(),
                Some((_, digest)) => digest,
                None => "",
            };
            let Some(bytes) = contents.get(digest) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let manifest: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
            let media_type =
                manifest.and_then(|manifest| Some(manifest["mediaType"].as_str()?.to_owned()));
            let media_type = media_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            (
                [
                    (header::CONTENT_TYPE.as_str(), media_type),
                    ("docker-content-digest", digest.to_owned()),
                ],
                bytes.clone(),
            )
                .into_response()
        })
        .await
    }

    /// The same, and what answers before it can be changed at any time: [`Switch`].
    pub async fn switched(layout: &Layout) -> (Self, Switch) {
        let switch = Switch::default();
        let first = switch.clone();
        let registry = Self::registry(layout, move |request| {
            let answer = first.0.lock().unwrap().clone();
            answer.and_then(|answer| answer(request))
        });
        (registry.await, switch)
    }

    /// How many requests so far have all these words in their first line.
    pub fn count(&self, words: &[&str]) -> usize {
        self.asked().iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// The repository `team/app` of this registry, for `layergate publish`.
    pub fn docker(&self) -> String {
        format!("docker://{}/team/app:1", self.host())
    }

    /// What was asked so far, as `METHOD /path?query`.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|request| format!("{} {}", request.method, request.uri)).collect()
    }

    /// The same, and forgets it.
    pub fn take_asked(&self) -> Vec<String> {
        let asked = self.asked();
        self.requests.lock().unwrap().clear();
        asked
    }

    /// The values of a header in the requests so far; empty where a request has none.
    pub fn header(&self, name: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let value = |request: &Parts| {
            request.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        requests.iter().map(|request| value(request).unwrap_or_default()).collect()
    }
}

type First = Arc<dyn Fn(&Parts) -> Option<Response> + Send + Sync>;

/// What a registry answers before it looks at what it has.
#[derive(Clone, Default)]
pub struct Switch(Arc<Mutex<Option<First>>>);

impl Switch {
    pub fn set(&self, first: impl Fn(&Parts) -> Option<Response> + Send + Sync + 'static) {
        *self.0.lock().unwrap() = Some(Arc::new(first));
    }

    /// The registry is well again.
    pub fn off(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// Holds bodies back.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    pub fn opened() -> Self {
        Self(Arc::new(watch::channel(true).0))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// A body that sends these bytes once the gate is open.
    pub fn body(&self, bytes: &[u8]) -> Body {
        let (mut gate, bytes) = (self.0.subscribe(), bytes.to_vec());
        Body::from_stream(stream::once(async move {
            let _ = gate.wait_for(|is_open| *is_open).await; // a gate that is gone is open
            Ok::<_, io::Error>(bytes)
        }))
    }
}

/// An answer that has this status and header, and no body.
pub fn headed(status: u16, name: &str, value: &str) -> Response {
    Response::builder().status(status).header(name, value).body(Body::empty()).unwrap()
}

/// A body that breaks its connection after these bytes.
pub fn breaking(bytes: &[u8]) -> Body {
    let chunks = stream::iter([Ok(bytes.to_vec()), Err(io::Error::other("broken"))]);
    // The server sends what it has when nothing more is there yet.
    Body::from_stream(chunks.then(async |chunk| {
        tokio::task::yield_now().await;
        chunk
    }))
}
