//! Fetches images from other registries, by the [OCI distribution
//! specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pull).
//!
//! The other registry (the upstream) is not trusted:
//!
//! - Every answer is limited in time and size.
//! - Redirects and token servers must be public addresses with TLS, or hosts that the caller
//!   trusts.
//! - Credentials are sent to the upstream and its token server only, never to a redirect's target.
//! - This crate writes no logs, and its errors contain no URLs.

mod address;
mod authorization;
mod blob;
mod body;
mod error;
mod http;
pub mod manifest;
mod name;
mod proxy;
mod target;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT,
};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use url::Origin;

use self::authorization::{Authorization, Scope};
use self::body::Body;
use self::target::{Target, not_a_url};
use layergate_core::publish::has_digest;
use layergate_core::types::{Digest, DownloadUrl, ImageTag};

pub use self::authorization::Credentials;
pub use self::blob::Blob;
pub use self::error::{Danger, Error};
pub use self::http::{Http, Patience, Trust};
pub use self::name::{NameError, UpstreamRegistry, UpstreamRepository};
pub use self::tls::TlsProblem;
pub use url::{Host, Url};

/// The largest manifest, in bytes. Most registries have this limit.
const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// The largest blob, in bytes.
const LARGEST_BLOB: u64 = 10 * 1024 * 1024 * 1024;

/// The most redirects that one request follows.
const MOST_HOPS: usize = 5;

/// How often a request is sent if it fails in a way that may pass.
const TRIES: usize = 3;

/// The shortest time to wait before a request that the upstream asked to send later.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The media types that are accepted for manifests: OCI's and docker's images and indexes.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// The header with a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A client of one repository in another registry. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Upstream {
    http: Http,
    /// All paths are relative to this URL.
    base: Url,
    authorization: Arc<Authorization>,
    /// The registry that `base` redirects to, if that one also wants a token.
    elsewhere: Arc<Mutex<Option<Elsewhere>>>,
    /// The repository's name; `None` if the client only checks the registry.
    name: Option<String>,
}

/// A registry that another one redirects to. It gets no credentials.
#[derive(Debug)]
struct Elsewhere {
    origin: Origin,
    authorization: Arc<Authorization>,
}

/// A verified manifest.
#[derive(Debug)]
pub struct Manifest {
    /// The requested digest, or the sha256 digest if a tag was requested.
    pub digest: Digest,
    /// The media type in the registry's answer. The manifest may contain another one.
    pub media_type: String,
    /// The manifest itself.
    pub bytes: Vec<u8>,
}

/// A request to a repository.
struct Wanted {
    method: Method,
    /// The path, relative to the base.
    path: String,
    /// The first byte of a range request.
    from: Option<u64>,
}

/// An answer whose body was not read yet.
struct Answer {
    response: Response<Body>,
    /// Where the answer came from, if that needs no token and is not the first URL.
    redirect: Option<DownloadUrl>,
}

impl Upstream {
    /// A client of this repository.
    pub fn new(
        repository: UpstreamRepository,
        credentials: Option<Credentials>,
        http: Http,
    ) -> Result<Self, Error> {
        let name = repository.name().to_owned();
        let base = repository.base(http.trust()).map_err(|_| not_a_url())?;
        Ok(Self::at(base, credentials, http, Some(name)))
    }

    fn at(base: Url, credentials: Option<Credentials>, http: Http, name: Option<String>) -> Self {
        let authorization = Authorization::new(credentials, Scope::own(name.as_deref()));
        let (authorization, elsewhere) = (Arc::new(authorization), Arc::default());
        Self { http, base, authorization, elsewhere, name }
    }

    /// The same client with other time limits.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { http: self.http.with_patience(patience), ..self }
    }

    /// The token server that the registry named, if it wanted a token. Keep it in
    /// [`Credentials::realm`], so that no other server gets the credentials later.
    pub async fn realm(&self) -> Option<Url> {
        self.authorization.realm().await
    }

    /// The digest of the manifest that has this tag now. Sends a HEAD request, which registries do
    /// not count as a pull. If the registry does not answer HEAD as it should, sends a GET request.
    pub async fn digest_of(&self, tag: &ImageTag) -> Result<Digest, Error> {
        let wanted = Wanted { method: Method::HEAD, path: format!("manifests/{tag}"), from: None };
        let head = self.retried(|| async {
            let Answer { response, .. } = self.follow(&wanted).await?;
            match Error::of_status(response.status(), response.headers()) {
                Ok(()) => Ok(digest_in(response.headers())),
                // A GET request would get the same answer.
                Err(error @ (Error::RateLimited { .. } | Error::Busy { .. })) => Err(error),
                Err(error @ Error::Denied(StatusCode::UNAUTHORIZED)) => Err(error),
                Err(_) => Ok(None),
            }
        });
        match head.await? {
            Some(digest) => Ok(digest),
            None => Ok(self.tagged_manifest(tag).await?.digest),
        }
    }

    /// The manifest that has this tag now.
    pub async fn tagged_manifest(&self, tag: &ImageTag) -> Result<Manifest, Error> {
        self.retried(|| async {
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
        self.retried(|| async {
            let (headers, bytes) = self.read_manifest(&digest.to_string()).await?;
            verify(digest, &bytes)?;
            Ok(Manifest { digest: digest.clone(), media_type: media_type(&headers), bytes })
        })
        .await
    }

    /// A blob of this size, in bytes. Sends no request yet.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob, Error> {
        match size {
            0..=LARGEST_BLOB => Ok(Blob::new(self.clone(), digest.clone(), size)),
            _ => Err(Error::TooLarge(LARGEST_BLOB)),
        }
    }

    async fn read_manifest(&self, reference: &str) -> Result<(HeaderMap, Vec<u8>), Error> {
        let path = format!("manifests/{reference}");
        let answer = self.get_once(&Wanted { method: Method::GET, path, from: None }).await?;
        let (head, body) = answer.response.into_parts();
        Ok((head.headers, body.read(LARGEST_MANIFEST).await?))
    }

    /// Sends a request, also again if it fails in a way that may pass. The answer's status is 200
    /// or 206.
    async fn get(&self, wanted: &Wanted) -> Result<Answer, Error> {
        self.retried(|| self.get_once(wanted)).await
    }

    async fn get_once(&self, wanted: &Wanted) -> Result<Answer, Error> {
        let answer = self.follow(wanted).await?;
        let status = answer.response.status();
        // Many servers that want TLS answer so to a request without it.
        if status == StatusCode::BAD_REQUEST && self.base.scheme() == "http" {
            return Err(Error::Tls(TlsProblem::Required));
        }
        Error::of_status(status, answer.response.headers())?;
        Ok(answer)
    }

    /// Sends a request once and follows redirects. The answer may have any status that is not a
    /// redirect.
    async fn follow(&self, wanted: &Wanted) -> Result<Answer, Error> {
        let url = self.base.join(&wanted.path).map_err(|_| not_a_url())?;
        let mut target = Target::new(url)?;
        for hop in 0..=MOST_HOPS {
            let (response, is_authorized) = self.ask(&target, wanted).await?;
            if !is_redirect(response.status()) {
                let redirect = (hop > 0 && !is_authorized).then(|| target.download_url());
                return Ok(Answer { response, redirect });
            }
            target = target.redirect(response.headers().get(LOCATION).ok_or_else(not_a_url)?)?;
        }
        Err(Error::RedirectLoop)
    }

    /// Sends a request to one server. On 401, authenticates and sends it once more. Also returns
    /// whether the request had credentials or a token.
    async fn ask(&self, target: &Target, wanted: &Wanted) -> Result<(Response<Body>, bool), Error> {
        let authorization = self.authorization_at(target);
        let known = authorization.current().await;
        let response = self.http.send(target, request(wanted, known.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok((response, known.is_some()));
        }
        let answer = authorization.answer(&self.http, response.headers(), known.as_ref()).await?;
        if target.url().origin() != self.base.origin()
            && let Ok(mut elsewhere) = self.elsewhere.lock()
        {
            *elsewhere = Some(Elsewhere { origin: target.url().origin(), authorization });
        }
        Ok((self.http.send(target, request(wanted, Some(answer))).await?, true))
    }

    /// How to authenticate at a server: with the credentials at the registry itself, anonymously
    /// everywhere else.
    fn authorization_at(&self, target: &Target) -> Arc<Authorization> {
        let origin = target.url().origin();
        if origin == self.base.origin() {
            return self.authorization.clone();
        }
        let known = self.elsewhere.lock().ok().and_then(|elsewhere| {
            let known = elsewhere.as_ref().filter(|elsewhere| elsewhere.origin == origin)?;
            Some(known.authorization.clone())
        });
        known.unwrap_or_else(|| {
            Arc::new(Authorization::new(None, Scope::elsewhere(self.name.as_deref())))
        })
    }

    /// Repeats a request that only reads, if it failed in a way that may pass. If the upstream says
    /// when to come back, waits that long; in all, not longer than [`Patience::retry_after`].
    async fn retried<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let (mut failures, mut patience) = (0, self.http.patience().retry_after);
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if let Some(wait) = error.retry_after() {
                let wait = wait.max(SHORTEST_WAIT);
                patience = patience.checked_sub(wait).ok_or(error)?;
                tokio::time::sleep(wait + jitter()).await;
            } else {
                failures += 1;
                if failures == TRIES || !error.is_worth_another_try() {
                    return Err(error);
                }
                pause(failures).await;
            }
        }
    }
}

/// Checks that a registry answers and accepts these credentials, without a request for an image.
/// Returns the token server that the registry named, if it wanted a token.
///
/// Source: [Determining
/// support](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support).
pub async fn check(
    registry: &UpstreamRegistry,
    credentials: Option<Credentials>,
    http: Http,
) -> Result<Option<Url>, Error> {
    let base = registry.base(http.trust()).map_err(|_| not_a_url())?;
    let upstream = Upstream::at(base, credentials, http, None);
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
    // Digests, sizes and ranges are those of the bytes without a content encoding.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
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
    match has_digest(bytes, digest) {
        true => Ok(()),
        false => Err(Error::WrongContent("its bytes do not have its digest")),
    }
}

/// Waits before a request is sent again: up to half a second after the first failure, and a
/// quarter of a second longer after each further one.
async fn pause(failures: usize) {
    tokio::time::sleep(Duration::from_millis(250) * failures as u32 + jitter()).await;
}

/// A random time, so that clients that failed together do not all come back together.
fn jitter() -> Duration {
    Duration::from_millis(fastrand::u64(0..250))
}
