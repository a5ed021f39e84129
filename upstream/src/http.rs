//! HTTP to hosts that an upstream names, which may be hostile.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;
use url::{Host, Url};

use super::address::is_public;
use super::body::Body;
use super::error::{Danger, Error};
use super::tls::TlsProblem;

/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// How long an upstream is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long an answer may take to begin, with looking up the name, connecting and TLS.
    pub answer: Duration,
    /// How long nothing may come of an answer that has begun.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(10), idle: Duration::from_secs(20) }
    }
}

/// The hosts that may be reached although they are in this machine or a private network.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The hosts, without ports.
    pub hosts: Vec<Host>,
    /// Whether these hosts may be reached without TLS.
    pub plain_http: bool,
}

impl Trust {
    /// Refuses what must not be reached. A name's addresses are checked when it is resolved.
    fn check(&self, url: &Url) -> Result<(), Error> {
        let host = url.host().map(|host| host.to_owned());
        let is_trusted = host.as_ref().is_some_and(|host| self.hosts.contains(host));
        let forbidden = |reason| {
            Err(Error::Forbidden { host: url.host_str().unwrap_or("nowhere").to_owned(), reason })
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && is_trusted && self.plain_http) {
            return forbidden(Danger::NoTls);
        }
        // hyper does not ask the resolver for an address that is written out.
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
}

/// An HTTP client that reaches public hosts over TLS, and those that it was told to trust.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    trust: Arc<Trust>,
    patience: Patience,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Http {
    /// A client with the root certificates of the system. Fails if there are none.
    pub fn new(trust: Trust) -> io::Result<Self> {
        let trust = Arc::new(trust);
        let mut connector = HttpConnector::new_with_resolver(Resolver(trust.clone()));
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIME));
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, trust, patience: Patience::default() })
    }

    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Sends a request to `url`, and follows no redirect. The answer's body is still to be read.
    pub async fn send(
        &self,
        url: &Url,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Body>, Error> {
        self.trust.check(url)?;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| Error::Unavailable("it redirected to what is not a URL".to_owned()))?;
        let Patience { answer, idle } = self.patience;
        let is_plain = url.scheme() == "http";
        match tokio::time::timeout(answer, self.client.request(request)).await {
            // What many servers answer that want TLS.
            Ok(Ok(response)) if is_plain && response.status() == StatusCode::BAD_REQUEST => {
                Err(Error::Tls(TlsProblem::Required))
            }
            Ok(Ok(response)) => Ok(response.map(|body| Body::new(body, idle))),
            Ok(Err(error)) => match TlsProblem::of_plain(&error).filter(|_| is_plain) {
                Some(problem) => Err(Error::Tls(problem)),
                None => Err(Error::of_transport(&error)),
            },
            Err(_) => Err(Error::Unavailable(format!("it did not answer within {answer:?}"))),
        }
    }
}

/// Looks up names, and leaves out the addresses that must not be reached. What it gives is what is
/// connected to, so there is no second look-up that could be answered otherwise.
#[derive(Debug, Clone)]
struct Resolver(Arc<Trust>);

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
            let is_trusted = trust.hosts.contains(&Host::Domain(name.as_str().to_owned()));
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
