//! HTTP/1.1 between the programs of this benchmark and clients that keep their connections open and
//! send a `Content-Length`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Result;

const CHUNK: usize = 16 * 1024;

/// A connection, with the bytes that were read after the current message.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
    taken: usize,
}

/// A request or an answer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The first line and the headers.
    pub head: &'a str,
    /// The bytes after them.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// A word of the first line. The first one has the number 0.
    pub fn word(&self, n: usize) -> &'a str {
        self.head.split_ascii_whitespace().nth(n).unwrap_or_default()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }

    /// The head as [`Connection::send`] takes it, to send this message to somebody else.
    pub fn head_to_send(&self) -> String {
        let is_length = |line: &str| line.to_ascii_lowercase().starts_with("content-length:");
        let lines = self.head.lines().filter(|line| !line.is_empty() && !is_length(line));
        lines.collect::<Vec<_>>().join("\r\n")
    }
}

/// An answer that takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects without Nagle's delay.
pub fn connect(address: SocketAddr) -> io::Result<Connection<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Connection::new(stream))
}

/// Listens on a port that the system picks, and serves each connection on a thread of its own,
/// without Nagle's delay. If `serve` fails, the connection ends: usually the client's process has
/// ended.
pub fn listen(
    serve: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || client.set_nodelay(true).is_ok().then(|| serve(client)));
        }
    });
    Ok(address)
}

impl<S: Read + Write> Connection<S> {
    /// A connection from which nothing was read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0 }
    }

    /// Waits for the next message. `None` if the other side has closed the connection.
    pub fn receive(&mut self) -> io::Result<Option<Message<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let (head, end) = loop {
            if let Some(bounds) = bounds(&self.buffer)? {
                break bounds;
            }
            let read = self.buffer.len();
            self.buffer.resize(read + CHUNK, 0);
            let more = self.stream.read(&mut self.buffer[read..]);
            self.buffer.truncate(read + more.as_ref().map_or(0, |more| *more));
            match more {
                Ok(0) if read == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.taken = end;
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(io::Error::other)?;
        Ok(Some(Message { head: text, body: &self.buffer[head..end] }))
    }

    /// Sends a message in one write. `head` has no `Content-Length` and no empty line.
    pub fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.send_bytes(&message(head, body))
    }

    /// Sends a message that came from somebody else.
    pub fn pass(&mut self, message: &Message) -> io::Result<()> {
        self.send(&message.head_to_send(), message.body)
    }

    /// Sends a message that [`message`] made.
    pub fn send_bytes(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message)?;
        self.stream.flush()
    }
}

/// The bytes of a message. `head` has no `Content-Length` and no empty line.
pub fn message(head: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

/// Where the head and where the message end, if both have arrived.
fn bounds(buffer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(blank) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = blank + 4;
    let text = std::str::from_utf8(&buffer[..head]).map_err(io::Error::other)?;
    let message = Message { head: text, body: &[] };
    let length =
        message.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
    Ok((buffer.len() >= head + length).then_some((head, head + length)))
}
