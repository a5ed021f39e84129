//! HTTP/1.1 between programs of this benchmark and clients that keep their connections and send
//! lengths.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CHUNK: usize = 16 * 1024;

/// A connection, with what was read of it beyond the message that is being looked at.
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
    /// What follows them.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// A word of the first line.
    pub fn word(&self, n: usize) -> &'a str {
        self.head.split_ascii_whitespace().nth(n).unwrap_or_default()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
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

impl<S: Read + Write> Connection<S> {
    /// A connection that nothing was read from yet.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0 }
    }

    /// Waits for the next message; `None` when the other side is done.
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

    /// Sends a message in one write. `head` is without the length and the empty line.
    pub fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.send_bytes(&message(head, body))
    }

    /// Sends a message that [`message`] made.
    pub fn send_bytes(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message)?;
        self.stream.flush()
    }
}

/// A message as it is sent. `head` is without the length and the empty line.
pub fn message(head: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

/// Where the head and where the message end, if both are there.
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
