//! HTTP proxies: reverse ones between the code and an engine, whose answers they pass on, and one
//! that clients are told to connect through.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt;
use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Serves requests with `answer` on a port of its own; gives its URL.
pub async fn serve<F, A>(answer: F) -> String
where
    F: Fn(Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // One answer in two writes would wait for the client's delayed acknowledgement.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

/// A URL at which nobody listens, and what keeps it so: the port belongs to this socket.
pub fn nobody_listens() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    (format!("http://{}", socket.local_addr().unwrap()), socket)
}

/// Hands a request on to an engine.
pub async fn forward(client: &Client, engine: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let url = format!("{engine}{}", parts.uri);
    let answer =
        client.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = Body::from(answer.bytes().await.unwrap());
    response
}

/// A proxy that counts the requests to an engine.
pub async fn count_requests(engine: &str) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, engine, client) = (count.clone(), engine.to_owned(), Client::new());
    let url = serve(move |request| {
        let (engine, client) = (engine.clone(), client.clone());
        counter.fetch_add(1, Ordering::SeqCst);
        async move { forward(&client, &engine, request).await }
    });
    (url.await, count)
}

/// A proxy as companies have them: clients connect to hosts through it, and only it knows where
/// these are.
pub struct ForwardProxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// Knows the addresses, as `127.0.0.1:PORT`, of these hosts, as `HOST:PORT`. Answers 502 for all
    /// others. If it has credentials, it answers 407 to requests without them.
    pub async fn start(hosts: &[(&str, &str)], credentials: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let owned = |(host, address): &(&str, &str)| ((*host).to_owned(), (*address).to_owned());
        let hosts: Arc<Vec<_>> = Arc::new(hosts.iter().map(owned).collect());
        let credentials = credentials.map(str::to_owned);
        let record = requests.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (hosts, record) = (hosts.clone(), record.clone());
                tokio::spawn(proxied(client, hosts, credentials.clone(), record));
            }
        });
        Self { address, requests }
    }

    /// The first lines of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn proxied(
    mut client: TcpStream,
    hosts: Arc<Vec<(String, String)>>,
    credentials: Option<String>,
    record: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let (line, headers) = head.split_once("\r\n")?;
    record.lock().unwrap().push(line.to_owned());
    let (method, rest) = line.split_once(' ')?;
    let (target, version) = rest.rsplit_once(' ')?;
    let (host, path) = match target.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/')?),
        None => (target, ""),
    };
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let authorization =
        credentials.map(|credentials| format!("proxy-authorization: {credentials}").to_lowercase());
    let is_allowed = authorization
        .is_none_or(|line| headers.lines().any(|header| header.to_lowercase() == line));
    let known = hosts.iter().find(|(name, _)| *name == host);
    let answer = match known {
        _ if !is_allowed => "407 Proxy Authentication Required",
        None => "502 Bad Gateway",
        Some(_) => "",
    };
    if !answer.is_empty() {
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        client.write_all(answer.as_bytes()).await.ok()?;
        return client.shutdown().await.ok();
    }
    let mut server = TcpStream::connect(&known?.1).await.ok()?;
    match method {
        "CONNECT" => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?,
        _ => {
            let is_own = |line: &&str| line.to_lowercase().starts_with("proxy-authorization:");
            let headers: Vec<_> = headers.split("\r\n").filter(|line| !is_own(line)).collect();
            let headers = headers.join("\r\n");
            let head = format!("{method} {path} {version}\r\nconnection: close\r\n{headers}");
            server.write_all(head.as_bytes()).await.ok()?;
            // After the body, nothing more of the client goes to the server: the next request on this
            // connection would have the proxy's header.
            let length = headers.to_lowercase();
            let length = length.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
            let length = length.map_or(0, |length| length.trim().parse().unwrap());
            tokio::io::copy(&mut (&mut client).take(length), &mut server).await.ok()?;
            tokio::io::copy(&mut server, &mut client).await.ok()?;
            return client.shutdown().await.ok();
        }
    }
    copy_bidirectional(&mut client, &mut server).await.ok().map(|_| ())
}
