//! Connections through the proxies that the environment names.

use std::error::Error as StdError;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use layergate_core::proxy::{Intercept, Proxies};
use tokio::net::TcpStream;
use tower_service::Service;

use super::address::is_private_name;
use super::error::{Danger, Error};
use super::http::{Resolver, Trust, tcp, with_tls};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Connects through a proxy, or directly if no proxy is to be used for the URL.
#[derive(Clone)]
pub struct ProxyConnector {
    proxies: Arc<Proxies>,
    trust: Arc<Trust>,
    direct: HttpConnector<Resolver>,
    /// The user named the proxies, so their addresses may be private.
    to_proxy: HttpsConnector<HttpConnector<GaiResolver>>,
}

impl ProxyConnector {
    pub fn new(
        direct: HttpConnector<Resolver>,
        trust: Arc<Trust>,
        proxies: Arc<Proxies>,
    ) -> io::Result<Self> {
        Ok(Self { proxies, trust, direct, to_proxy: with_tls(tcp(GaiResolver::new()))? })
    }

    /// Connects to `uri` through `proxy`.
    ///
    /// Source: [RFC 9110, 9.3.6](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6) for https,
    /// and [RFC 9112, 3.2.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2) for http.
    async fn connect(mut self, uri: Uri, proxy: Intercept) -> Result<Stream, BoxError> {
        let host = uri.host().unwrap_or_default();
        if is_private_name(host) && !self.trust.has_name(host) {
            let host = host.to_owned();
            return Err(Error::Forbidden { host, reason: Danger::PrivateAddress }.into());
        }
        let failed = |error: &(dyn StdError + 'static)| {
            let proxy = proxy.uri().authority().map(ToString::to_string).unwrap_or_default();
            let Error::Unavailable(words) = Error::of_transport(error) else {
                return Error::Unavailable(format!("the proxy {proxy} failed"));
            };
            Error::Unavailable(format!("the proxy {proxy} did not connect to it: {words}"))
        };
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let inner = self.to_proxy.call(proxy.uri().clone()).await;
            let inner = inner.map_err(|error| failed(error.as_ref()))?;
            return Ok(Stream { inner, is_forwarded: true });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let inner = tunnel.call(uri).await.map_err(|error| failed(&error))?;
        Ok(Stream { inner, is_forwarded: false })
    }
}

impl Service<Uri> for ProxyConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self.proxies.for_uri(&uri) {
            Some(proxy) => Box::pin(self.clone().connect(uri, proxy)),
            None => {
                let connecting = self.direct.call(uri);
                Box::pin(async move {
                    let inner = MaybeHttpsStream::Http(connecting.await?);
                    Ok(Stream { inner, is_forwarded: false })
                })
            }
        }
    }
}

/// A connection.
pub struct Stream {
    inner: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy reads the requests. They then need the whole URL.
    is_forwarded: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.is_forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }
}
