//! A stand-in for S3 that lists and deletes objects without content, from memory, and counts
//! requests. The embedded S3 reads its whole folder for each page of a list, which would take most
//! of the measured time.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use layergate_bench::Result;
use layergate_bench::http::{self, Connection};
use layergate_core::types::ObjectKey;

/// The most keys in a page, as in S3.
const PAGE: usize = 1000;

/// The size of each object, in bytes.
const SIZE: usize = 1000;

/// The bucket.
pub struct Bucket {
    pub address: SocketAddr,
    keys: Arc<Mutex<BTreeSet<String>>>,
    requests: Arc<AtomicU64>,
}

impl Bucket {
    /// Starts with an empty bucket.
    pub fn start() -> Result<Self> {
        let keys: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let requests: Arc<AtomicU64> = Arc::default();
        let (served, counted) = (keys.clone(), requests.clone());
        let address = http::listen(move |client| serve(client, &served, &counted))?;
        Ok(Self { address, keys, requests })
    }

    /// Adds an object.
    pub fn put(&self, key: &ObjectKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_string());
    }

    /// How many requests there were since the last call of this.
    pub fn take(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

fn serve(client: TcpStream, keys: &Mutex<BTreeSet<String>>, requests: &AtomicU64) -> Result<()> {
    let mut client = Connection::new(client);
    while let Some(request) = client.receive()? {
        requests.fetch_add(1, Ordering::Relaxed);
        let path = request.word(1).replace("%2F", "/");
        let parameter = |name: &str| {
            let parameters = path.split_once('?').map_or("", |(_, query)| query).split('&');
            parameters
                .filter_map(|one| one.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match (request.word(0), parameter("list-type")) {
            ("GET", Some("2")) => list(
                &keys,
                parameter("prefix").unwrap_or_default(),
                parameter("start-after").unwrap_or_default(),
            ),
            ("GET", None) if path.contains("uploads") => {
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
                 </ListMultipartUploadsResult>"
                    .to_owned()
            }
            ("POST", None) if path.contains("delete") => {
                let body = std::str::from_utf8(request.body)?;
                for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next()) {
                    keys.remove(key);
                }
                "<DeleteResult/>".to_owned()
            }
            (method, _) => return Err(format!("{method}: not known to this stand-in").into()),
        };
        client.send("HTTP/1.1 200 OK\r\nContent-Type: application/xml", answer.as_bytes())?;
    }
    Ok(())
}

fn list(keys: &BTreeSet<String>, prefix: &str, after: &str) -> String {
    let from = if after.is_empty() { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let mut found =
        keys.range::<str, _>((from, Bound::Unbounded)).take_while(|key| key.starts_with(prefix));
    let mut contents = String::new();
    for key in found.by_ref().take(PAGE) {
        let _ = write!(
            contents,
            "<Contents><Key>{key}</Key><Size>{SIZE}</Size>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        ); // writing into a string does not fail
    }
    let is_truncated = found.next().is_some();
    format!(
        "<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{contents}</ListBucketResult>"
    )
}
