//! HTTP proxies between the code and an engine. What passes is the engine's own answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt;
use reqwest::Client;
use tokio::net::{TcpListener, TcpSocket};

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
