//! A stand-in for DynamoDB. It answers every query with the two records of a layer that an image
//! references. It answers GetItem with the record of the table's layout, which the function reads
//! to open its connection early.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layergate_bench::Result;
use layergate_bench::http::{self, Connection, message};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The stand-in, over HTTP and over TLS.
pub struct Answers {
    pub http: SocketAddr,
    pub tls: SocketAddr,
    /// The certificate of the authority that signed the TLS side's certificate, as PEM.
    pub authority: String,
    requests: Arc<AtomicU64>,
}

impl Answers {
    pub fn serve() -> Result<Self> {
        let requests = Arc::new(AtomicU64::new(0));
        let answer = Arc::new(Canned::new());
        let (config, authority) = tls()?;

        let (sent, counted) = (answer.clone(), requests.clone());
        let http = http::listen(move |stream| serve(stream, &sent, &counted))?;
        let (sent, counted) = (answer, requests.clone());
        let tls = http::listen(move |stream| {
            let session = ServerConnection::new(config.clone())?;
            serve(StreamOwned::new(session, stream), &sent, &counted)
        })?;
        Ok(Self { http, tls, authority, requests })
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(stream: impl Read + Write, answers: &Canned, requests: &AtomicU64) -> Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.receive()? {
        requests.fetch_add(1, Ordering::Relaxed);
        let target = request.header("x-amz-target");
        let is_get = target.is_some_and(|target| target.ends_with(".GetItem"));
        connection.send_bytes(if is_get { &answers.layout } else { &answers.layer })?;
    }
    Ok(())
}

/// The bytes of the answers.
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

/// The settings of a TLS server, and the certificate of the authority that signed its own, as PEM.
fn tls() -> Result<(Arc<ServerConfig>, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for self-signed if its name is its issuer's.
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
