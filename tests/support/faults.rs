//! A proxy on TCP between the code and an engine, which breaks what an engine can break.

use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// This whole answer: a status with its reason, and a body.
    Answer(&'static str, &'static str),
    /// The engine's own fault.
    InternalError,
    /// The engine has too much to do.
    Throttle,
    /// The engine does what it was asked, and its answer is lost.
    Lost,
    /// The engine's answer, late.
    Slow(Duration),
}

/// What any engine may do at any request.
pub const FAULTS: [Fault; 8] = [
    Fault::Hang,
    Fault::Stall,
    Fault::Reset,
    Fault::Truncated,
    Fault::Nonsense,
    Fault::OtherJson,
    Fault::InternalError,
    Fault::Throttle,
];

/// DynamoDB to a client whose clock is wrong. As to any signature that it does not take, it repeats
/// the request.
pub const SIGNED_TOO_EARLY: Fault = Fault::Answer(
    "400 Bad Request",
    r#"{"__type": "com.amazon.coral.service#InvalidSignatureException",
        "message": "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z\n\nThe Canonical String for this request should have been\n'POST\n/\n\nhost:dynamodb\nx-amz-security-token:the-session-token"}"#,
);

/// Which requests to break, and how.
struct Plan {
    fault: Fault,
    /// What the request's head has in it.
    words: &'static [&'static str],
    /// How many of those to let pass first.
    passing: usize,
    /// How many more to break.
    left: usize,
}

/// The proxy. It serves until the test ends.
pub struct FaultProxy {
    pub url: String,
    plan: Arc<Mutex<Plan>>,
    connections: Arc<AtomicUsize>,
}

impl FaultProxy {
    /// A proxy to the engine at this URL that breaks nothing yet.
    pub async fn to(engine: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let engine: Arc<str> = engine.strip_prefix("http://").unwrap().into();
        let plan =
            Arc::new(Mutex::new(Plan { fault: Fault::None, words: &[], passing: 0, left: 0 }));
        let connections = Arc::new(AtomicUsize::new(0));
        let (current, count) = (plan.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (engine, current) = (engine.clone(), current.clone());
                // A client that goes away in the middle is part of the game.
                tokio::spawn(async move { serve(client, &engine, &current).await });
            }
        });
        Self { url, plan, connections }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Breaks the requests from now on.
    pub fn set(&self, fault: Fault) {
        self.set_on(&[], 0, fault, usize::MAX);
    }

    /// Breaks so many of the requests whose head has all of `words` in it, after letting `passing`
    /// of them pass.
    pub fn set_on(
        &self,
        words: &'static [&'static str],
        passing: usize,
        fault: Fault,
        requests: usize,
    ) {
        *self.plan.lock().unwrap() = Plan { fault, words, passing, left: requests };
    }
}

fn fault_for(request: &[u8], plan: &Mutex<Plan>) -> Fault {
    let head = String::from_utf8_lossy(&request[..end_of_head(request).unwrap()]);
    let plan = &mut *plan.lock().unwrap();
    if !plan.words.iter().all(|word| head.contains(word)) {
        return Fault::None;
    }
    if plan.passing > 0 {
        plan.passing -= 1;
        return Fault::None;
    }
    if plan.left == 0 {
        return Fault::None;
    }
    plan.left -= 1;
    plan.fault
}

fn end_of_head(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|bytes| bytes == b"\r\n\r\n")
}

async fn serve(mut client: TcpStream, engine: &str, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let (request, fault) = loop {
        let request = read_request(&mut client).await?;
        match fault_for(&request, plan) {
            Fault::None => {}
            Fault::Slow(delay) => tokio::time::sleep(delay).await,
            fault => break (request, fault),
        }
        client.write_all(&ask(engine, &request).await?).await?;
    };
    let answer = |status: &str, length: usize, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    };
    let whole = |status: &str, body: &str| answer(status, body.len(), body);
    let is_of_s3 = !request.starts_with(b"POST / "); // all that DynamoDB is asked
    let bytes = match fault {
        Fault::None | Fault::Slow(_) | Fault::Hang => String::new(),
        Fault::Reset => return client.set_zero_linger(),
        Fault::Lost => {
            ask(engine, &request).await?;
            return client.set_zero_linger();
        }
        Fault::Stall | Fault::Truncated => answer("200 OK", 1000, r#"{"Items": [{"sk": "#),
        Fault::Nonsense => whole("200 OK", "<html>It works!</html>"),
        Fault::OtherJson => whole("200 OK", r#"{"hello": "world"}"#),
        Fault::InternalError => {
            whole("500 Internal Server Error", r#"{"__type": "InternalServerError"}"#)
        }
        Fault::Throttle if is_of_s3 => whole(
            "503 Slow Down",
            "<Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>",
        ),
        Fault::Throttle => whole("400 Bad Request", r#"{"__type": "ThrottlingException"}"#),
        Fault::Answer(status, body) => whole(status, body),
    };
    client.write_all(bytes.as_bytes()).await?;
    if matches!(fault, Fault::Hang | Fault::Stall) {
        std::future::pending::<()>().await;
    }
    client.shutdown().await
}

/// The engine's answer, without the word that its connection ends: the client's goes on.
async fn ask(engine: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    const END: &[u8] = b"connection: close\r\n";
    let mut engine = TcpStream::connect(engine).await?;
    let end_of_first_line = request.windows(2).position(|bytes| bytes == b"\r\n").unwrap() + 2;
    engine.write_all(&request[..end_of_first_line]).await?;
    engine.write_all(END).await?;
    engine.write_all(&request[end_of_first_line..]).await?;
    let mut answer = Vec::new();
    engine.read_to_end(&mut answer).await?;
    let end = answer.windows(END.len()).position(|bytes| bytes.eq_ignore_ascii_case(END)).unwrap();
    answer.drain(end..end + END.len());
    Ok(answer)
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut wanted = usize::MAX;
    while request.len() < wanted {
        if client.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if wanted == usize::MAX
            && let Some(end) = end_of_head(&request)
        {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let header = |name: &str| {
                head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if header("expect").is_some() {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            wanted = end + 4 + header("content-length").map_or(0, |length| length.parse().unwrap());
        }
    }
    Ok(request)
}
