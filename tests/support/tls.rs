//! A server that speaks TLS, with a certificate of its own.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A server on loopback that answers 404 to all requests that come by TLS.
pub struct TlsServer {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// Its certificate, which it has signed itself, as PEM.
    pub certificate: String,
}

impl TlsServer {
    /// Starts it. Its certificate is for `name`; `is_authority` makes it one that may only sign
    /// others, like those of `openssl req -x509`.
    pub async fn start(name: &str, is_authority: bool) -> Self {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        if is_authority {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut request = [0; 4096]; // no client here sends more at once
                    let _ = client.read(&mut request).await?;
                    let answer =
                        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    client.write_all(answer.as_bytes()).await?;
                    client.shutdown().await
                });
            }
        });
        Self { host, certificate: certificate.pem() }
    }
}
