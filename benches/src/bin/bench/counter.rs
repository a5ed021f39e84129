//! Counts the requests to S3 of CNCF Distribution's registry, and how many of them are listings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layergate_bench::http::{self, Connection, connect};
use layergate_bench::stack::Stack;
use layergate_bench::{Result, image};

use crate::distribution::{Registry, Storage};

const ANSWERS: u64 = 100;

/// How many requests to S3 one answer of the registry costs.
#[derive(Debug, Clone, Copy)]
pub struct S3Requests {
    pub all: f64,
    /// How many of these are listings.
    pub listings: f64,
}

/// Counts the requests to S3 for GET requests of `path`: for the first answer of a new registry,
/// and for one of the later answers, when the registry's cache is filled.
pub fn s3_requests(stack: &Stack, s3: SocketAddr, path: &str) -> Result<[S3Requests; 2]> {
    let counter = Counter::start(s3)?;
    let registry = Registry::start(&Storage::in_s3(stack, counter.address)?)?;
    let mut connection = connect(registry.address)?;
    let mut count = |answers: u64| -> Result<S3Requests> {
        counter.take();
        for _ in 0..answers {
            connection.send(&head(registry.address, path), b"")?;
            let answer = connection.receive()?.ok_or("the registry closed a connection")?;
            if !["200", "307"].contains(&answer.word(1)) {
                return Err(format!("{path}: {}", answer.head).into());
            }
        }
        let [all, listings] = counter.take().map(|count| count as f64 / answers as f64);
        Ok(S3Requests { all, listings })
    };
    Ok([count(1)?, count(ANSWERS)?])
}

/// The head of a GET request. A presigned URL is valid only for the host that it names.
pub fn head(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {}", image::MANIFEST)
}

/// A proxy in front of S3.
struct Counter {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    listings: AtomicU64,
}

impl Counter {
    /// Starts one in front of the S3 at `s3`.
    fn start(s3: SocketAddr) -> Result<Self> {
        let counts: Arc<Counts> = Arc::default();
        let counted = counts.clone();
        let address = http::listen(move |client| {
            let (mut client, mut s3) = (Connection::new(client), connect(s3)?);
            while let Some(request) = client.receive()? {
                counted.requests.fetch_add(1, Ordering::Relaxed);
                if request.word(0) == "GET" && request.word(1).contains("prefix=") {
                    counted.listings.fetch_add(1, Ordering::Relaxed);
                }
                s3.pass(&request)?;
                client.pass(&s3.receive()?.ok_or("S3 closed a connection")?)?;
            }
            Ok(())
        })?;
        Ok(Self { address, counts })
    }

    /// How many requests there were since the last call of this, and how many of them were
    /// listings.
    fn take(&self) -> [u64; 2] {
        [&self.counts.requests, &self.counts.listings].map(|count| count.swap(0, Ordering::Relaxed))
    }
}
