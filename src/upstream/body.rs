//! Reading what an upstream sends, in bounded time and memory.

use std::error::Error as StdError;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Incoming};
use tokio::time::Instant;

use super::error::Error;

/// How long nothing may come.
const IDLE_TIME: Duration = Duration::from_secs(20);

/// The slowest rate at which it may come: so many bytes in so long a time. Only time counts in which somebody waits
/// for it.
const SLOWEST: (u64, Duration) = (30 * 64 * 1024, Duration::from_secs(30));

/// The body of an answer.
#[derive(Debug)]
pub struct Body<B = Incoming> {
    inner: B,
    received: u64,
    waited: Duration,
}

impl<B> Body<B>
where
    B: HttpBody<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    pub fn new(inner: B) -> Self {
        Self { inner, received: 0, waited: Duration::ZERO }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let started = Instant::now();
            let frame = tokio::time::timeout(IDLE_TIME, self.inner.frame()).await;
            let frame = match frame {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Error::of_transport(&error)),
                Ok(None) => return Ok(None),
                Err(_) => {
                    return Err(Error::Unavailable(format!("it sent nothing for {} s", IDLE_TIME.as_secs())));
                }
            };
            let bytes = frame.into_data().unwrap_or_default(); // trailers say nothing that is needed
            self.received += bytes.len() as u64;
            self.waited += started.elapsed();
            if self.waited >= SLOWEST.1 {
                if self.received < SLOWEST.0 {
                    return Err(Error::Unavailable("it sends too slowly".to_owned()));
                }
                (self.received, self.waited) = (0, Duration::ZERO);
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// All of it, if that is not more than `limit` bytes.
    pub async fn read(mut self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
            if all.len() as u64 > limit {
                return Err(Error::TooLarge(limit));
            }
        }
        Ok(all)
    }
}
