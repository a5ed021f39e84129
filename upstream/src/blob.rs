//! A blob of an upstream, from its first byte to its last, however often the connection breaks.

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

/// A connection that brought so many bytes counts as a success, even if it broke afterwards.
const ENOUGH_FOR_A_TRY: u64 = 8 * 1024 * 1024;

/// A blob that is read. Its size is checked, its digest is not: whoever takes the bytes has to.
#[derive(Debug)]
pub struct Blob {
    upstream: Upstream,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<Body>,
    /// How many bytes of the body come before those that are wanted.
    skip: u64,
    redirect: Option<DownloadUrl>,
    /// How often the connection broke in a row, and where it did last.
    breaks: usize,
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
            redirect: None,
            breaks: 0,
            broke_at: 0,
        }
    }

    /// Asks the upstream for the blob, if that was not done yet, and reads nothing of it. When this
    /// succeeds, the upstream has the blob with the right size, by its own account, and gives it.
    pub async fn open(&mut self) -> Result<(), Error> {
        if self.body.is_some() {
            return Ok(());
        }
        let path = format!("blobs/{}", self.digest);
        let from = Some(self.at).filter(|at| *at > 0);
        let answer = self.upstream.get(&Wanted { method: Method::GET, path, from }).await?;
        let headers = answer.response.headers();
        self.skip = match answer.response.status() {
            StatusCode::PARTIAL_CONTENT if is_rest(headers, self.at, self.size) => 0,
            StatusCode::OK if is_whole(headers, self.size) => self.at,
            _ => return Err(Error::WrongContent("it has another size")),
        };
        // Who is sent there finds the size by itself, so it has to be said.
        self.redirect = answer.redirect.filter(|_| headers.contains_key(CONTENT_LENGTH));
        self.body = Some(answer.response.into_body());
        Ok(())
    }

    /// Where the upstream redirected to, if it did, and the blob comes from there without
    /// credentials.
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

    /// Reads the blob where blocking is allowed. To be called within a runtime that has its I/O
    /// driver running.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        let bytes = stream::try_unfold(self, async |mut blob| {
            let next = blob.next().await?;
            Ok::<_, Error>(next.map(|bytes| (bytes, blob)))
        });
        Box::new(SyncIoBridge::new(StreamReader::new(Box::pin(bytes))))
    }

    /// Drops the connection, so that the next one goes on where it broke; or gives up.
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

fn is_whole(headers: &HeaderMap, size: u64) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    length.is_none_or(|length| length.to_str().is_ok_and(|length| length.parse() == Ok(size)))
}

/// Source: [RFC 9110, 14.4](https://www.rfc-editor.org/rfc/rfc9110#section-14.4).
fn is_rest(headers: &HeaderMap, at: u64, size: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let expected = format!("bytes {at}-{}/", size - 1);
    range
        .and_then(|range| range.strip_prefix(&expected))
        .is_some_and(|total| total == "*" || total == size.to_string())
}
