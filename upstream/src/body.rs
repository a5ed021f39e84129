//! Reading what an upstream sends, in bounded time and memory.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::error::Error;

/// The slowest rate at which it may come: so many bytes in so long a time. Only time counts in
/// which somebody waits for it.
const SLOWEST: (u64, Duration) = (30 * 64 * 1024, Duration::from_secs(30));

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    inner: Incoming,
    /// How long nothing may come.
    idle: Duration,
    pace: Pace,
}

impl Body {
    pub fn new(inner: Incoming, idle: Duration) -> Self {
        Self { inner, idle, pace: Pace::default() }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let started = Instant::now();
            let frame = match tokio::time::timeout(self.idle, self.inner.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Error::of_transport(&error)),
                Ok(None) => return Ok(None),
                Err(_) => {
                    return Err(Error::Unavailable(format!("it sent nothing for {:?}", self.idle)));
                }
            };
            let bytes = frame.into_data().unwrap_or_default(); // trailers say nothing that is needed
            self.pace.add(bytes.len() as u64, started.elapsed())?;
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

/// How fast bytes come.
#[derive(Debug, Default)]
struct Pace {
    received: u64,
    waited: Duration,
}

impl Pace {
    /// So many bytes came after so long a time.
    fn add(&mut self, bytes: u64, waited: Duration) -> Result<(), Error> {
        self.received += bytes;
        self.waited += waited;
        let (least, time) = SLOWEST;
        if self.waited >= time {
            if self.received < least {
                return Err(Error::Unavailable("it sends too slowly".to_owned()));
            }
            *self = Self::default();
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_slowly_is_given_up() {
        let cases = [
            ("a byte a second", 1, 1, Some(30)),
            ("a byte just before nothing would have come for too long", 1, 19, Some(38)),
            ("not quite 64 KiB a second", 64 * 1024 - 1, 1, Some(30)),
            ("64 KiB a second", 64 * 1024, 1, None),
            ("the same in few large pieces", 19 * 64 * 1024, 19, None),
        ];
        for (description, bytes, seconds, given_up_after) in cases {
            let mut pace = Pace::default();
            let times = (1..=1000).map(|n| n * seconds);
            let given_up =
                times.into_iter().find(|_| pace.add(bytes, Duration::from_secs(seconds)).is_err());
            assert_eq!(given_up, given_up_after, "{description}");
        }
        let mut pace = Pace::default();
        pace.add(1 << 30, Duration::from_secs(30)).unwrap();
        let slow = (0..30).try_for_each(|_| pace.add(1, Duration::from_secs(1)));
        assert!(slow.is_err(), "what came before counts no more");
    }
}
