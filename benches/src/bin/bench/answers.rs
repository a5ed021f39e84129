//! DynamoDB as far as the function sees it: to a query, the two records of a layer that an image
//! references; to a GetItem, the record of the table's layout, which the function reads when it
//! makes its connection ready.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use layergate_bench::Result;
use layergate_bench::http::{Connection, message};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The canned answer, over HTTP and over TLS.
pub struct Answers {
    pub http: SocketAddr,
    pub tls: SocketAddr,
    /// The certificate that vouches for the TLS side, as PEM.
    pub authority: String,
    requests: Arc<AtomicU64>,
}

impl Answers {
    pub fn serve() -> Result<Self> {
        let requests = Arc::new(AtomicU64::new(0));
        let answer = Arc::new(Canned::new());
        let (config, authority) = tls()?;

        let (http, (sent, counted)) = (listen()?, (answer.clone(), requests.clone()));
        let http_address = http.local_addr()?;
        thread::spawn(move || accept(&http, &sent, &counted, Ok));

        let (tls, (sent, counted)) = (listen()?, (answer, requests.clone()));
        let tls_address = tls.local_addr()?;
        thread::spawn(move || {
            accept(&tls, &sent, &counted, move |stream| {
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Ok(StreamOwned::new(session, stream))
            });
        });
        Ok(Self { http: http_address, tls: tls_address, authority, requests })
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}

fn accept<S: Read + Write + Send + 'static>(
    listener: &TcpListener,
    answers: &Arc<Canned>,
    requests: &Arc<AtomicU64>,
    wrap: impl Fn(TcpStream) -> io::Result<S>,
) {
    for stream in listener.incoming() {
        let Ok(stream) =
            stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)).and_then(&wrap)
        else {
            continue;
        };
        let (answers, requests) = (answers.clone(), requests.clone());
        thread::spawn(move || {
            let mut connection = Connection::new(stream);
            // An error is the end of the connection, as when its process was ended.
            while let Ok(Some(request)) = connection.receive() {
                requests.fetch_add(1, Ordering::Relaxed);
                let is_get = request
                    .header("x-amz-target")
                    .is_some_and(|target| target.ends_with(".GetItem"));
                let answer = if is_get { &answers.layout } else { &answers.layer };
                if connection.send_bytes(answer).is_err() {
                    break;
                }
            }
        });
    }
}

/// The answers, as they are sent.
struct Canned {
    layer: Vec<u8>,
    layout: Vec<u8>,
}

impl Canned {
    fn new() -> Self {
        let hex = "abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1";
        let pk = json!({"S": format!("layer#000000000000/hello@sha256:{hex}")});
        let layer = json!({
            "pk": pk, "sk": {"S": "layer"}, "size": {"N": "143"},
            "object_key": {"S": format!("layers/000000000000/sha256/{hex}")},
            "media_type": {"S": "application/vnd.oci.image.layer.v1.tar+gzip"},
        });
        let image = "988a40ebf42bd43888c81442623d1ca441156e90a1db103e2fb16616e012334a";
        let reference = json!({"pk": pk, "sk": {"S": format!("reference#sha256:{image}")}});
        let layout = json!({"pk": {"S": "table"}, "sk": {"S": "layout"}, "version": {"N": "3"}});
        let consumed = json!({"TableName": "layergate", "CapacityUnits": 1});
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n\
                    x-amzn-RequestId: 3F8QK2N7B5D1T9V6W0X4Y2Z8A1VV4KQNSO5AEMVJF66Q9ASUAAJG";
        let answer = |body: Value| message(head, body.to_string().as_bytes());
        Self {
            layer: answer(json!({"Count": 2, "ScannedCount": 2, "Items": [layer, reference]})),
            layout: answer(json!({"Item": layout, "ConsumedCapacity": consumed})),
        }
    }
}

/// A server of a certificate that an authority of its own signed, as a real one is.
fn tls() -> Result<(Arc<ServerConfig>, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate of its issuer's name for one that signed itself.
    authority.distinguished_name.push(DnType::CommonName, "layergate's benchmark");
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    Ok((Arc::new(config), authority_pem))
}
