//! The registry protocol: the local stack beside CNCF distribution's registry on the same S3,
//! request by request and in whole pulls.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use layergate_bench::http::{Connection, connect};
use layergate_bench::stack::{Stack, address};
use layergate_bench::statistics::{median, milliseconds};
use layergate_bench::{Result, image, report};
use serde_json::{Value, json};

use crate::distribution::{Registry, Storage};
use crate::skopeo;

const IMAGE: &str = "registry";
const TAG: &str = "1.0";
const LAYERS: usize = 40;
const LAYER_BYTES: usize = 256 * 1024;

/// Contestants take turns, so many times.
const ROUNDS: usize = 10;
const REQUESTS_A_ROUND: usize = 100;
const PULLS: usize = 10;

const NAMES: [&str; 2] = ["layergate local", "distribution's registry"];

/// A registry, and the connections of a client that pulls from it.
struct Client {
    registry: SocketAddr,
    to_registry: Connection<TcpStream>,
    s3: SocketAddr,
    to_s3: Connection<TcpStream>,
}

/// From the sending of a request: until it was answered, and until the content was there.
type Times = (Duration, Duration);

/// Measures; prints tables and gives the figures.
pub fn run() -> Result<Value> {
    let stack = Stack::start(&[])?;
    let folder = stack.folder.path().join("image");
    let layers = image::write_random(&folder, LAYERS, LAYER_BYTES)?;
    let manifest = image::root(&folder)?;
    let path = folder.to_str().ok_or("the folder's name is not text")?;
    stack.run(&["publish", "--create-repository", path, &format!("{IMAGE}:{TAG}")])?;
    let s3 = address(&stack.environment, "AWS_ENDPOINT_URL_S3")?;
    let storage = Storage::in_s3(&stack, s3);
    storage.give(&folder, IMAGE, TAG)?;
    let registry = Registry::start(&storage)?;

    let addresses = [stack.address, registry.address];
    let requests = requests(addresses, s3, &manifest, &layers)?;
    let pulls = pulls(&stack, addresses, &manifest)?;
    stack.process.stop()?;
    Ok(json!({"requests": requests, "pulls": pulls}))
}

/// Single requests, one after the other.
fn requests(
    addresses: [SocketAddr; 2],
    s3: SocketAddr,
    manifest: &str,
    layers: &[String],
) -> Result<Value> {
    let mut clients = [Client::connect(addresses[0], s3)?, Client::connect(addresses[1], s3)?];
    let kinds = [("manifest by tag", TAG), ("manifest by digest", manifest), ("blob", "")];
    let (mut rows, mut figures, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, reference) in kinds {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (client, times) in clients.iter_mut().zip(&mut times) {
                for layer in layers.iter().cycle().take(REQUESTS_A_ROUND) {
                    times.push(match kind {
                        "blob" => client.get(&format!("/v2/{IMAGE}/blobs/{layer}"), layer)?,
                        _ => client.get(&format!("/v2/{IMAGE}/manifests/{reference}"), manifest)?,
                    });
                }
            }
        }
        let middle = |times: &[Times], which: fn(&Times) -> Duration| {
            median(&times.iter().map(|times| milliseconds(which(times))).collect::<Vec<_>>())
        };
        let [ours, theirs] = times
            .each_ref()
            .map(|times| [middle(times, |times| times.0), middle(times, |times| times.1)]);
        for (name, [answer, content]) in NAMES.iter().zip([ours, theirs]) {
            rows.push(vec![
                format!("{kind}, {name}"),
                format!("{answer:.2}"),
                format!("{content:.2}"),
            ]);
            figures.push(
                json!({"request": kind, "of": name, "answer_p50_ms": answer, "content_p50_ms": content}),
            );
        }
        targets.push((format!("{kind}: answer / the registry's"), ours[0] / theirs[0], 1.0));
        targets.push((
            format!("{kind}: until its content is there / the registry's"),
            ours[1] / theirs[1],
            1.0,
        ));
    }
    println!(
        "Requests to a registry, one after the other: medians of {} of each kind\n",
        ROUNDS * REQUESTS_A_ROUND
    );
    report::table(&["", "answer, ms", "until its content is there, ms"], &rows);
    Ok(json!({"rows": figures, "targets": report::targets(&targets)}))
}

impl Client {
    fn connect(registry: SocketAddr, s3: SocketAddr) -> Result<Self> {
        Ok(Self { registry, to_registry: connect(registry)?, s3, to_s3: connect(s3)? })
    }

    /// Gets what has this digest, from S3 if the registry redirects there.
    fn get(&mut self, path: &str, digest: &str) -> Result<Times> {
        let sent = Instant::now();
        self.to_registry.send(&head(self.registry, path), b"")?;
        let answer = self.to_registry.receive()?.ok_or("the registry closed")?;
        let answered = sent.elapsed();
        let content = match answer.word(1) {
            "200" => answer.body,
            "307" => {
                let start = format!("http://{}", self.s3);
                let location = answer.header("location").and_then(|url| url.strip_prefix(&start));
                let location = location.ok_or("a redirect leads elsewhere than to S3")?;
                self.to_s3.send(&head(self.s3, location), b"")?;
                let answer = self.to_s3.receive()?.ok_or("S3 closed")?;
                match answer.word(1) {
                    "200" => answer.body,
                    _ => return Err(format!("S3, for {path}: {}", answer.head).into()),
                }
            }
            _ => return Err(format!("{path}: {}", answer.head).into()),
        };
        let times = (answered, sent.elapsed());
        match image::digest_of(content) == digest {
            true => Ok(times),
            false => Err(format!("{path}: the content is another").into()),
        }
    }
}

/// The head of a GET request; a signed URL is good for this host alone.
fn head(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {}", image::MANIFEST)
}

/// Whole pulls by skopeo.
fn pulls(stack: &Stack, addresses: [SocketAddr; 2], manifest: &str) -> Result<Value> {
    let image = format!("{IMAGE}:{TAG}");
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..PULLS {
        for (address, seconds) in addresses.iter().zip(&mut seconds) {
            seconds.push(skopeo::pull(
                *address,
                &image,
                manifest,
                &stack.folder.path().join("pulled"),
            )?);
        }
    }
    let [ours, theirs] = seconds.each_ref().map(|seconds| median(seconds));
    let kibibytes = LAYER_BYTES / 1024;
    println!(
        "An image of {LAYERS} layers of {kibibytes} KiB, pulled by skopeo: medians of {PULLS}\n"
    );
    let row = |(name, seconds): (&&str, f64)| vec![(*name).to_owned(), format!("{seconds:.3}")];
    report::table(&["", "seconds"], &NAMES.iter().zip([ours, theirs]).map(row).collect::<Vec<_>>());
    let targets = report::targets(&[("pull / the registry's".to_owned(), ours / theirs, 1.0)]);
    Ok(json!({"seconds": ours, "registry_seconds": theirs, "targets": targets}))
}
