//! Images from other registries, by the [OCI distribution
//! specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pull).
//!
//! What a registry answers is not trusted. Everything is bounded in time and size. Redirects and
//! token servers lead to public addresses over TLS, or to hosts that the caller trusts. Credentials
//! go to the registry and its token server, and to nowhere that these redirect to. Nothing here
//! logs, and no error has a URL in it.

mod address;
mod authorization;
mod blob;
mod body;
mod error;
mod http;
pub mod manifest;
mod name;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;

use self::authorization::Authorization;
use self::body::Body;
use self::http::Http;
use layergate_core::publish::Verifier;
use layergate_core::types::{Digest, DownloadUrl, ImageTag};

pub use self::authorization::Credentials;
pub use self::blob::Blob;
pub use self::error::{Danger, Error};
pub use self::http::{Patience, Trust};
pub use self::name::{NameError, UpstreamRegistry, UpstreamRepository};
pub use self::tls::TlsProblem;
pub use url::{Host, Url};

/// The largest manifest, in bytes: the limit of most registries.
const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// The largest blob, in bytes.
const LARGEST_BLOB: u64 = 10 * 1024 * 1024 * 1024;

/// How many redirects are followed.
const MOST_HOPS: usize = 5;

/// How often something is tried that has failed.
const TRIES: usize = 3;

/// The manifests that are asked for: those of images and indexes, as OCI and docker call them.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// The header in which registries say a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository of another registry, to fetch images from. Clones share connections and the token.
#[derive(Debug, Clone)]
pub struct Upstream {
    http: Http,
    /// The URL below which everything is that is asked for.
    base: Url,
    authorization: Arc<Authorization>,
}

/// A manifest, verified.
#[derive(Debug)]
pub struct Manifest {
    /// Its digest: the one that was asked for, or its sha256 digest if it was asked for by tag.
    pub digest: Digest,
    /// Its media type by the registry's word, which has to agree with what is in it.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is asked of a repository.
struct Wanted {
    method: Method,
    /// The path below the base.
    path: String,
    /// The first byte that is wanted, if not all are.
    from: Option<u64>,
}

/// An answer with status 200 or 206, its body still to be read.
struct Answer {
    response: Response<Body>,
    redirect: Option<DownloadUrl>,
}

impl Upstream {
    /// A client of this repository. It is reached without TLS if `trust` allows that. Fails if the
    /// system has no root certificates.
    pub fn new(
        repository: UpstreamRepository,
        credentials: Option<Credentials>,
        trust: Trust,
    ) -> io::Result<Self> {
        let base = repository.base(&trust).map_err(io::Error::other)?;
        let authorization =
            Arc::new(Authorization::new(credentials, Some(repository.name().clone())));
        Ok(Self { http: Http::new(trust)?, base, authorization })
    }

    /// The same client, with another patience with the upstream than the default one.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { http: self.http.with_patience(patience), ..self }
    }

    /// The token server that the registry has named, if it wanted a token: for
    /// [`Credentials::realm`] from then on.
    pub async fn realm(&self) -> Option<Url> {
        self.authorization.realm().await
    }

    /// The digest of the manifest that has a tag now. Registries do not count this as a pull.
    pub async fn digest_of(&self, tag: &ImageTag) -> Result<Digest, Error> {
        let wanted = Wanted { method: Method::HEAD, path: format!("manifests/{tag}"), from: None };
        match digest_in(self.get(&wanted).await?.response.headers()) {
            Some(digest) => Ok(digest),
            None => Ok(self.tagged_manifest(tag).await?.digest),
        }
    }

    /// The manifest that has a tag now.
    pub async fn tagged_manifest(&self, tag: &ImageTag) -> Result<Manifest, Error> {
        retried(|| async {
            let (headers, bytes) = self.read_manifest(tag.as_ref()).await?;
            if let Some(digest) = digest_in(&headers) {
                verify(&digest, &bytes)?;
            }
            let digest = Digest::of_bytes(&bytes);
            Ok(Manifest { digest, media_type: media_type(&headers), bytes })
        })
        .await
    }

    /// The manifest with this digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        retried(|| async {
            let (headers, bytes) = self.read_manifest(&digest.to_string()).await?;
            verify(digest, &bytes)?;
            Ok(Manifest { digest: digest.clone(), media_type: media_type(&headers), bytes })
        })
        .await
    }

    /// A blob of this size, to be read. Nothing is asked of the upstream yet.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob, Error> {
        match size {
            0..=LARGEST_BLOB => Ok(Blob::new(self.clone(), digest.clone(), size)),
            _ => Err(Error::TooLarge(LARGEST_BLOB)),
        }
    }

    async fn read_manifest(&self, reference: &str) -> Result<(HeaderMap, Vec<u8>), Error> {
        let wanted =
            Wanted { method: Method::GET, path: format!("manifests/{reference}"), from: None };
        let (head, body) = self.follow(&wanted).await?.response.into_parts();
        Ok((head.headers, body.read(LARGEST_MANIFEST).await?))
    }

    /// Asks, and tries again if there is no answer.
    async fn get(&self, wanted: &Wanted) -> Result<Answer, Error> {
        retried(|| self.follow(wanted)).await
    }

    /// Asks once, and follows redirects.
    async fn follow(&self, wanted: &Wanted) -> Result<Answer, Error> {
        let broken = || Error::Unavailable("it redirected to what is not a URL".to_owned());
        let mut url = self.base.join(&wanted.path).map_err(|_| broken())?;
        for hop in 0..=MOST_HOPS {
            let (response, is_authorized) = match url.origin() == self.base.origin() {
                true => self.ask_registry(&url, wanted).await?,
                false => (self.http.send(&url, request(wanted, None)).await?, false),
            };
            if !is_redirect(response.status()) {
                Error::of_status(response.status(), response.headers())?;
                let redirect = (hop > 0 && !is_authorized).then(|| DownloadUrl::new(url.into()));
                return Ok(Answer { response, redirect });
            }
            let location =
                response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            url = location.and_then(|location| url.join(location).ok()).ok_or_else(broken)?;
        }
        Err(Error::RedirectLoop)
    }

    /// Asks the registry itself, and does what it wants to see first. Also returns whether it saw
    /// anything.
    async fn ask_registry(
        &self,
        url: &Url,
        wanted: &Wanted,
    ) -> Result<(Response<Body>, bool), Error> {
        let known = self.authorization.current().await;
        let response = self.http.send(url, request(wanted, known.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok((response, known.is_some()));
        }
        let answer =
            self.authorization.answer(&self.http, response.headers(), known.as_ref()).await?;
        Ok((self.http.send(url, request(wanted, Some(answer))).await?, true))
    }
}

/// Asks a registry whether it is one and takes these credentials, without asking for an image.
/// Returns the token server that it has named, if it wanted a token. `trust` is as in
/// [`Upstream::new`].
///
/// Source: [Determining
/// support](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support).
pub async fn check(
    registry: &UpstreamRegistry,
    credentials: Option<Credentials>,
    trust: Trust,
) -> Result<Option<Url>, Error> {
    let base = registry.base(&trust).map_err(|error| Error::Unavailable(error.to_string()))?;
    let http = Http::new(trust).map_err(|error| Error::Unavailable(error.to_string()))?;
    let upstream =
        Upstream { http, base, authorization: Arc::new(Authorization::new(credentials, None)) };
    upstream.get(&Wanted { method: Method::GET, path: String::new(), from: None }).await?;
    Ok(upstream.realm().await)
}

fn request(wanted: &Wanted, authorization: Option<HeaderValue>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = wanted.method.clone();
    let headers = request.headers_mut();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("layergate/", env!("CARGO_PKG_VERSION"))),
    );
    if wanted.path.starts_with("manifests/") {
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
    }
    if let Some(range) =
        wanted.from.and_then(|from| HeaderValue::try_from(format!("bytes={from}-")).ok())
    {
        headers.insert(RANGE, range);
    }
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    request
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn digest_in(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok().filter(Digest::is_verifiable)
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let mut verifier =
        Verifier::of(digest).ok_or(Error::WrongContent("its digest cannot be verified"))?;
    verifier.update(bytes);
    match verifier.matches() {
        true => Ok(()),
        false => Err(Error::WrongContent("its bytes do not have its digest")),
    }
}

/// Tries again what only reads, if it failed in a way that may pass.
async fn retried<T, F: Future<Output = Result<T, Error>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    for tried in 1..TRIES {
        match attempt().await {
            Err(error) if error.is_worth_another_try() => pause(tried).await,
            other => return other,
        }
    }
    attempt().await
}

/// Waits before the next try: half a second at most after the first, twice that after the second.
async fn pause(tried: usize) {
    tokio::time::sleep(
        Duration::from_millis(250) * tried as u32 + Duration::from_millis(fastrand::u64(0..250)),
    )
    .await;
}
