//! Reads an upstream's answer, with limits for time and memory.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::error::Error;

/// The slowest rate: so many bytes in so long a time. Only the time counts that a reader waits.
const SLOWEST: (u64, Duration) = (30 * 64 * 1024, Duration::from_secs(30));

/// How many encoded bytes are decoded at once. They become at most 1,032 times as many
/// ([zlib](https://zlib.net/zlib_tech.html)), so this limits the memory.
const DECODED_AT_ONCE: usize = 4096;

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    inner: Incoming,
    /// The longest time without any bytes.
    idle: Duration,
    pace: Pace,
    /// `None` if the bytes are passed on as they are.
    gzip: Option<Gzip>,
}

impl Body {
    /// The body of an answer with these headers. Decodes the content encoding `gzip`, which some
    /// servers use although the request forbids it. With any other encoding, the bytes are passed
    /// on as they are. Then they have the right digest, or the caller refuses them.
    ///
    /// Source: [RFC 9110, 8.4.1.3](https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3).
    pub fn new(inner: Incoming, headers: &HeaderMap, idle: Duration) -> Self {
        let encodings: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().collect();
        let is_gzip = |value: &[u8]| {
            let value = value.trim_ascii();
            value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip")
        };
        let gzip = matches!(encodings[..], [value] if is_gzip(value.as_bytes()));
        Self { inner, idle, pace: Pace::default(), gzip: gzip.then(Gzip::new) }
    }

    /// The same body, without decoding.
    pub fn undecoded(self) -> Self {
        Self { gzip: None, ..self }
    }

    /// Whether the bytes are decoded.
    pub fn is_decoded(&self) -> bool {
        self.gzip.is_some()
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(gzip) = &mut self.gzip
                && let Some(decoded) = gzip.decode()?
            {
                return Ok(Some(decoded));
            }
            let received = self.receive().await?;
            match (&mut self.gzip, received) {
                (None, received) => return Ok(received),
                (Some(gzip), Some(received)) => gzip.received = received,
                (Some(gzip), None) => {
                    let rest = gzip.finish()?;
                    self.gzip = None;
                    return Ok(Some(rest).filter(|rest| !rest.is_empty()));
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
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
            let bytes = frame.into_data().unwrap_or_default(); // trailers are ignored
            self.pace.add(bytes.len() as u64, started.elapsed())?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// The whole body. Fails if it has more than `limit` bytes.
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

/// Decodes gzip piece by piece.
#[derive(Debug)]
struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Received bytes that were not decoded yet.
    received: Bytes,
}

impl Gzip {
    fn new() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), received: Bytes::new() }
    }

    /// The next decoded bytes; `None` if more encoded ones are needed.
    fn decode(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.received.is_empty() {
            let piece = self.received.split_to(self.received.len().min(DECODED_AT_ONCE));
            self.decoder
                .write_all(&piece)
                .map_err(|_| Error::WrongContent("its gzip encoding is broken"))?;
            let decoded = std::mem::take(self.decoder.get_mut());
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
        Ok(None)
    }

    /// The last decoded bytes. Fails if the encoded ones are incomplete.
    fn finish(&mut self) -> Result<Bytes, Error> {
        let finished = self.decoder.try_finish();
        finished.map_err(|_| {
            Error::Unavailable("its gzip encoding is incomplete or has a wrong checksum".to_owned())
        })?;
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

/// Measures how fast bytes arrive.
#[derive(Debug, Default)]
struct Pace {
    received: u64,
    waited: Duration,
}

impl Pace {
    /// Notes that `bytes` bytes arrived after `waited`. Fails if they arrive too slowly.
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
    fn a_slow_answer_is_given_up() {
        let cases = [
            ("a byte a second", 1, 1, Some(30)),
            ("a byte just before the idle time is over", 1, 19, Some(38)),
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
        assert!(slow.is_err(), "earlier bytes do not count");
    }

    #[test]
    fn a_bomb_is_decoded_in_small_pieces() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1024 * 1024];
        (0..64).for_each(|_| encoder.write_all(&zeros).unwrap());
        let mut gzip = Gzip::new();
        gzip.received = encoder.finish().unwrap().into();
        let (mut largest, mut total) = (0, 0);
        while let Some(decoded) = gzip.decode().unwrap() {
            (largest, total) = (decoded.len().max(largest), total + decoded.len());
        }
        total += gzip.finish().unwrap().len();
        assert_eq!(total, 64 * 1024 * 1024);
        assert!(largest < 5 * 1024 * 1024, "{largest}");
    }
}
