//! Reads a blob of an upstream. If the connection breaks, a new one continues at the same byte.

use std::io::Read;

use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Bytes;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::body::Body;
use super::error::Error;
use super::{TRIES, Upstream, Wanted, pause};
use layergate_core::types::{Digest, DownloadUrl};

/// After so many bytes, a broken connection does not count as a failed try.
const ENOUGH_FOR_A_TRY: u64 = 8 * 1024 * 1024;

/// A blob to read. Its size is checked here. The caller must verify the digest.
#[derive(Debug)]
pub struct Blob {
    upstream: Upstream,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<Body>,
    /// How many bytes of the body to drop, because they were read before.
    skip: u64,
    /// Whether the upstream sends the blob with a content encoding. A range would be one of the
    /// encoded bytes then.
    is_encoded: bool,
    redirect: Option<DownloadUrl>,
    /// How many connections in a row broke early.
    breaks: usize,
    /// The position at which the last one broke.
    broke_at: u64,
}

impl Blob {
    pub(super) fn new(upstream: Upstream, digest: Digest, size: u64) -> Self {
        Self {
            upstream,
            digest,
            size,
            at: 0,
            body: None,
            skip: 0,
            is_encoded: false,
            redirect: None,
            breaks: 0,
            broke_at: 0,
        }
    }

    /// Requests the blob, if that was not done yet, and reads nothing. If this succeeds, the
    /// upstream sends the blob, and its size is right as far as the headers say it.
    pub async fn open(&mut self) -> Result<(), Error> {
        if self.body.is_some() {
            return Ok(());
        }
        let path = format!("blobs/{}", self.digest);
        let from = Some(self.at).filter(|at| *at > 0 && !self.is_encoded);
        let answer = self.upstream.get(&Wanted { method: Method::GET, path, from }).await?;
        let (head, body) = answer.response.into_parts();
        let length = content_length(&head.headers);
        // Some stores keep a content encoding that the blob itself has: the digest is that of the
        // encoded bytes. The size tells which bytes the digest is of.
        let is_as_sent = length == Some(self.size) || !body.is_decoded();
        (self.skip, self.body) = match head.status {
            StatusCode::PARTIAL_CONTENT if is_rest(&head.headers, self.at, self.size) => {
                (0, Some(body.undecoded()))
            }
            StatusCode::OK if !is_as_sent => (self.at, Some(body)),
            StatusCode::OK if length.is_none_or(|length| length == self.size) => {
                (self.at, Some(body.undecoded()))
            }
            _ => return Err(Error::WrongContent("it has another size")),
        };
        self.is_encoded = !is_as_sent;
        // Clients that are sent there need the right length, and may not decode.
        self.redirect = answer.redirect.filter(|_| is_as_sent && length.is_some());
        Ok(())
    }

    /// The URL that the upstream redirected to, if everybody can download the blob from there: it
    /// needs no token.
    pub fn redirect(&self) -> Option<&DownloadUrl> {
        self.redirect.as_ref()
    }

    /// The next bytes; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.at < self.size {
            self.open().await?;
            let Some(body) = &mut self.body else { continue };
            let mut bytes = match body.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    self.break_off(Error::Unavailable("it sent too few bytes".to_owned())).await?;
                    continue;
                }
                Err(error) => {
                    self.break_off(error).await?;
                    continue;
                }
            };
            let skipped =
                bytes.split_to(bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX)));
            self.skip -= skipped.len() as u64;
            if bytes.len() as u64 > self.size - self.at {
                return Err(Error::WrongContent("it has another size"));
            }
            self.at += bytes.len() as u64;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// A reader that blocks. Call this within a tokio runtime, and read on a thread that may block.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        let bytes = stream::try_unfold(self, async |mut blob| {
            let next = blob.next().await?;
            Ok::<_, Error>(next.map(|bytes| (bytes, blob)))
        });
        Box::new(SyncIoBridge::new(StreamReader::new(Box::pin(bytes))))
    }

    /// Drops the connection, so that [`open`](Self::open) makes a new one. Fails after too many
    /// tries.
    async fn break_off(&mut self, error: Error) -> Result<(), Error> {
        self.body = None;
        if self.at - self.broke_at >= ENOUGH_FOR_A_TRY {
            self.breaks = 0;
        }
        self.breaks += 1;
        self.broke_at = self.at;
        if self.breaks == TRIES || !error.is_worth_another_try() {
            return Err(error);
        }
        pause(self.breaks).await;
        Ok(())
    }
}

/// `None` if there is no length; a length that is not a number matches no size.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    Some(length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(u64::MAX))
}

/// Whether the answer has all bytes from `at` on.
///
/// Source: [RFC 9110, 14.4](https://www.rfc-editor.org/rfc/rfc9110#section-14.4).
fn is_rest(headers: &HeaderMap, at: u64, size: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let expected = format!("bytes {at}-{}/", size - 1);
    range
        .and_then(|range| range.strip_prefix(&expected))
        .is_some_and(|total| total == "*" || total == size.to_string())
}
