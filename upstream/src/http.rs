//! HTTP requests to servers that an upstream names and that may be hostile.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use layergate_core::proxy::Proxies;
use tower_service::Service;
use url::{Host, Url};

use super::address::is_public;
use super::body::Body;
use super::error::{Danger, Error};
use super::proxy::ProxyConnector;
use super::target::Target;
use super::tls::TlsProblem;

/// The time limit for a new connection.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// How long to wait for an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until an answer begins. This includes DNS, the connection and TLS.
    pub answer: Duration,
    /// Until the next bytes of an answer.
    pub idle: Duration,
    /// In all, for times that the upstream asks for with `Retry-After`.
    pub retry_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            retry_after: Duration::from_secs(60),
        }
    }
}

/// The hosts that may be reached although their addresses are private.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The hosts, without ports.
    pub hosts: Vec<Host>,
    /// Whether these hosts may be reached without TLS.
    pub plain_http: bool,
}

impl Trust {
    /// Whether a URL may be requested. A name's addresses are checked when it is resolved.
    fn check(&self, url: &Url) -> Result<(), Error> {
        let host = url.host().map(|host| host.to_owned());
        let is_trusted = host.as_ref().is_some_and(|host| self.hosts.contains(host));
        let forbidden = |reason| {
            Err(Error::Forbidden { host: url.host_str().unwrap_or("nowhere").to_owned(), reason })
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && is_trusted && self.plain_http) {
            return forbidden(Danger::NoTls);
        }
        // hyper does not call the resolver for a literal address.
        let address: Option<IpAddr> = match host {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        match address {
            Some(address) if !is_trusted && !is_public(address) => {
                forbidden(Danger::PrivateAddress)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.hosts.contains(&Host::Domain(name.to_ascii_lowercase()))
    }
}

/// An HTTP client that connects to public hosts with TLS, and to hosts that it was told to trust.
/// Clones share connections.
#[derive(Clone)]
pub struct Http {
    client: Arc<dyn Fn(Request<Empty<Bytes>>) -> ResponseFuture + Send + Sync>,
    trust: Arc<Trust>,
    patience: Patience,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Http {
    /// A client that connects directly, with the root certificates of the system. Fails if there
    /// are none.
    pub fn direct(trust: Trust) -> io::Result<Self> {
        let trust = Arc::new(trust);
        let client = client(tcp(Resolver(trust.clone())))?;
        Ok(Self::new(trust, move |request| client.request(request)))
    }

    /// The same as [`direct`](Self::direct), but connects through the proxies that the environment
    /// names: [`Proxies`]. A proxy resolves names itself, so private addresses cannot be refused
    /// then. Names that only exist in private networks still are.
    pub fn through_proxies(trust: Trust) -> io::Result<Self> {
        let Some(proxies) = Proxies::from_env().map_err(io::Error::other)? else {
            return Self::direct(trust);
        };
        let (trust, proxies) = (Arc::new(trust), Arc::new(proxies));
        let direct = tcp(Resolver(trust.clone()));
        let client = client(ProxyConnector::new(direct, trust.clone(), proxies.clone())?)?;
        Ok(Self::new(trust, move |mut request| {
            proxies.authorize(&mut request);
            client.request(request)
        }))
    }

    fn new(
        trust: Arc<Trust>,
        client: impl Fn(Request<Empty<Bytes>>) -> ResponseFuture + Send + Sync + 'static,
    ) -> Self {
        Self { client: Arc::new(client), trust, patience: Patience::default() }
    }

    pub(super) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Sends a request. Follows no redirect and does not read the body.
    pub(super) async fn send(
        &self,
        target: &Target,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Body>, Error> {
        self.trust.check(target.url())?;
        *request.uri_mut() = target.uri().clone();
        let Patience { answer, idle, .. } = self.patience;
        let is_plain = target.url().scheme() == "http";
        match tokio::time::timeout(answer, (self.client)(request)).await {
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                let body = Body::new(body, &head.headers, idle);
                Ok(Response::from_parts(head, body))
            }
            Ok(Err(error)) => match TlsProblem::of_plain(&error).filter(|_| is_plain) {
                Some(problem) => Err(Error::Tls(problem)),
                None => Err(Error::of_transport(&error)),
            },
            Err(_) => Err(Error::Unavailable(format!("it did not answer within {answer:?}"))),
        }
    }
}

/// A client that adds TLS to these connections.
fn client<C>(connector: C) -> io::Result<Client<HttpsConnector<C>, Empty<Bytes>>>
where
    C: Service<Uri> + Clone,
    HttpsConnector<C>: Connect + Clone,
{
    let connector = with_tls(connector)?;
    Ok(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector))
}

/// Adds TLS to connections if the URL's scheme is https.
pub(super) fn with_tls<C>(connector: C) -> io::Result<HttpsConnector<C>> {
    Ok(HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector))
}

/// Makes TCP connections to the addresses that a resolver finds.
pub(super) fn tcp<R>(resolver: R) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIME));
    connector.set_nodelay(true);
    connector
}

/// Resolves names and leaves out addresses that must not be reached. The connection is made to one
/// of these addresses. So no second lookup can return another one.
#[derive(Debug, Clone)]
pub(super) struct Resolver(Arc<Trust>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let trust = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map_err(|error| Error::Unreachable(error.to_string()))?;
            let is_trusted = trust.has_name(name.as_str());
            let may_be_reached = |address: &SocketAddr| is_trusted || is_public(address.ip());
            let addresses: Vec<_> = found.filter(may_be_reached).collect();
            if addresses.is_empty() {
                let host = name.as_str().to_owned();
                return Err(Error::Forbidden { host, reason: Danger::PrivateAddress });
            }
            Ok(addresses.into_iter())
        })
    }
}
