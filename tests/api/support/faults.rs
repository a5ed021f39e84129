//! A proxy on TCP between the code and an engine, which breaks what an engine can break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request, once it has been received whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the engine answers.
    None,
    /// No answer, for ever.
    Hang,
    /// Half of an answer, and no more for ever.
    Stall,
    /// The connection is reset.
    Reset,
    /// The connection ends in the middle of the answer.
    Truncated,
    /// A whole answer that is not in the engine's language.
    Nonsense,
    /// A whole answer in JSON that means nothing.
    OtherJson,
    /// The engine's own fault.
    InternalError,
    /// The engine has too much to do.
    Throttle,
    /// The engine's answer, late.
    Slow(Duration),
}

/// The proxy. It serves until the test ends.
pub struct FaultProxy {
    pub url: String,
    /// The fault, and how many requests it is to break.
    fault: Arc<Mutex<(Fault, usize)>>,
}

impl FaultProxy {
    /// A proxy to the engine at this URL that breaks nothing yet.
    pub async fn to(engine: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let engine: Arc<str> = engine.strip_prefix("http://").unwrap().into();
        let fault = Arc::new(Mutex::new((Fault::None, 0)));
        let current = fault.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (engine, current) = (engine.clone(), current.clone());
                // A client that goes away in the middle is part of the game.
                tokio::spawn(async move { serve(client, &engine, &current).await });
            }
        });
        Self { url, fault }
    }

    /// Breaks the requests from now on.
    pub fn set(&self, fault: Fault) {
        self.set_for(fault, usize::MAX);
    }

    /// Breaks so many requests, and no more.
    pub fn set_for(&self, fault: Fault, requests: usize) {
        *self.fault.lock().unwrap() = (fault, requests);
    }
}

fn next_fault(fault: &Mutex<(Fault, usize)>) -> Fault {
    let (fault, left) = &mut *fault.lock().unwrap();
    match left.checked_sub(1) {
        Some(rest) => {
            *left = rest;
            *fault
        }
        None => Fault::None,
    }
}

async fn serve(mut client: TcpStream, engine: &str, fault: &Mutex<(Fault, usize)>) -> std::io::Result<()> {
    let request = read_request(&mut client).await?;
    let answer = |status: &str, length: usize, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    };
    let whole = |status: &str, body: &str| answer(status, body.len(), body);
    let fault = next_fault(fault);
    let bytes = match fault {
        Fault::None => return pass(client, engine, &request).await,
        Fault::Slow(delay) => {
            tokio::time::sleep(delay).await;
            return pass(client, engine, &request).await;
        }
        Fault::Hang => String::new(),
        Fault::Reset => {
            client.set_zero_linger()?;
            return Ok(());
        }
        Fault::Stall | Fault::Truncated => answer("200 OK", 1000, r#"{"Items": [{"sk": "#),
        Fault::Nonsense => whole("200 OK", "<html>It works!</html>"),
        Fault::OtherJson => whole("200 OK", r#"{"hello": "world"}"#),
        Fault::InternalError => whole("500 Internal Server Error", r#"{"__type": "InternalServerError"}"#),
        Fault::Throttle => whole("400 Bad Request", r#"{"__type": "ThrottlingException"}"#),
    };
    client.write_all(bytes.as_bytes()).await?;
    if matches!(fault, Fault::Hang | Fault::Stall) {
        std::future::pending::<()>().await;
    }
    client.shutdown().await
}

/// Has the engine answer, on a connection that ends with the answer.
async fn pass(mut client: TcpStream, engine: &str, request: &[u8]) -> std::io::Result<()> {
    let mut engine = TcpStream::connect(engine).await?;
    let end_of_first_line = request.windows(2).position(|bytes| bytes == b"\r\n").unwrap() + 2;
    engine.write_all(&request[..end_of_first_line]).await?;
    engine.write_all(b"connection: close\r\n").await?;
    engine.write_all(&request[end_of_first_line..]).await?;
    tokio::io::copy(&mut engine, &mut client).await?;
    client.shutdown().await
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut wanted = usize::MAX;
    while request.len() < wanted {
        if client.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if wanted == usize::MAX
            && let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let header =
                |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if header("expect").is_some() {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            wanted = end + 4 + header("content-length").map_or(0, |length| length.parse().unwrap());
        }
    }
    Ok(request)
}
