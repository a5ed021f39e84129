//! The registry protocol: the local stack beside CNCF Distribution's registry on the same S3.
//! Measures single requests and whole pulls.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use layergate_bench::http::{Connection, connect};
use layergate_bench::stack::{Stack, address};
use layergate_bench::statistics::{median, milliseconds};
use layergate_bench::{Result, image, report};
use serde_json::{Value, json};

use crate::counter::{self, S3Requests, head};
use crate::distribution::{self, Registry, Storage};
use crate::skopeo;

const IMAGE: &str = "registry";
const TAG: &str = "1.0";
const LAYERS: usize = 40;
const LAYER_BYTES: usize = 256 * 1024;

/// The two registries take turns, this many times.
const ROUNDS: usize = 10;
const REQUESTS_A_ROUND: usize = 100;
const PULLS: usize = 10;

const NAMES: [&str; 2] = ["layergate local", distribution::NAME];

/// A kind of request: its name, the path of each request, and the digest of its content.
struct Kind {
    name: &'static str,
    requests: Vec<(String, String)>,
}

/// A registry, and the connections of a client that pulls from it.
struct Client {
    registry: SocketAddr,
    to_registry: Connection<TcpStream>,
    s3: SocketAddr,
    to_s3: Connection<TcpStream>,
}

/// From sending a request: until the registry's answer, and until the content has arrived.
type Times = (Duration, Duration);

/// Measures. Prints tables and returns the figures.
pub fn run() -> Result<Value> {
    let stack = Stack::start(&[])?;
    let folder = stack.folder.path().join("image");
    let layers = image::write_random(&folder, LAYERS, LAYER_BYTES)?;
    let manifest = image::root(&folder)?;
    let path = folder.to_str().ok_or("the folder's name is not text")?;
    stack.run(&["publish", "--create-repository", path, &format!("{IMAGE}:{TAG}")])?;
    let s3 = address(&stack.environment, "AWS_ENDPOINT_URL_S3")?;
    let storage = Storage::in_s3(&stack, s3)?;
    storage.add(&folder, IMAGE, TAG)?;
    let registry = Registry::start(&storage)?;

    let kinds = kinds(&manifest, &layers);
    let addresses = [stack.address, registry.address];
    let requests = requests(&kinds, addresses, s3)?;
    let s3_requests = s3_requests(&kinds, &stack, s3)?;
    let pulls = pulls(&stack, addresses, &manifest)?;
    stack.process.stop()?;
    Ok(json!({"requests": requests, "s3_requests": s3_requests, "pulls": pulls}))
}

fn kinds(manifest: &str, layers: &[String]) -> [Kind; 3] {
    let manifests = |name, reference: &str| Kind {
        name,
        requests: vec![(format!("/v2/{IMAGE}/manifests/{reference}"), manifest.to_owned())],
    };
    let blob = |layer: &String| (format!("/v2/{IMAGE}/blobs/{layer}"), layer.clone());
    [
        manifests("manifest by tag", TAG),
        manifests("manifest by digest", manifest),
        Kind { name: "blob", requests: layers.iter().map(blob).collect() },
    ]
}

/// Single requests, one after the other.
fn requests(kinds: &[Kind], addresses: [SocketAddr; 2], s3: SocketAddr) -> Result<Value> {
    let mut clients = [Client::connect(addresses[0], s3)?, Client::connect(addresses[1], s3)?];
    let (mut rows, mut figures, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for Kind { name: kind, requests } in kinds {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (client, times) in clients.iter_mut().zip(&mut times) {
                for (path, digest) in requests.iter().cycle().take(REQUESTS_A_ROUND) {
                    times.push(client.get(path, digest)?);
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
            figures.push(json!({
                "request": kind, "of": name, "answer_p50_ms": answer, "content_p50_ms": content,
            }));
        }
        for (n, until) in ["answer", "until its content is there"].iter().enumerate() {
            let name = format!("{kind}: {until} / {}", distribution::NAME);
            targets.push((name, ours[n] / theirs[n], 1.0));
        }
    }
    println!(
        "Requests to a registry, one after the other: medians of {} of each kind\n",
        ROUNDS * REQUESTS_A_ROUND
    );
    println!("{}\n", distribution::describe()?);
    report::table(&["", "answer, ms", "until its content is there, ms"], &rows);
    Ok(json!({"rows": figures, "targets": report::targets(&targets)}))
}

/// Counts the requests to S3 of Distribution's registry.
fn s3_requests(kinds: &[Kind], stack: &Stack, s3: SocketAddr) -> Result<Value> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for Kind { name, requests } in kinds {
        let answers = counter::s3_requests(stack, s3, &requests[0].0)?;
        let cells = answers.iter().flat_map(|answer| [answer.all, answer.listings]);
        let cells = cells.map(|count| format!("{count:.2}"));
        rows.push(std::iter::once((*name).to_owned()).chain(cells).collect());
        for (answer, S3Requests { all, listings }) in ["first", "later"].iter().zip(answers) {
            figures.push(json!({
                "request": name, "answer": answer, "s3_requests": all, "listings": listings,
            }));
        }
    }
    println!("Requests of {} to S3 for one answer\n", distribution::NAME);
    let headings =
        ["", "first answer", "of these, listings", "a later answer", "of these, listings"];
    report::table(&headings, &rows);
    Ok(figures.into())
}

impl Client {
    fn connect(registry: SocketAddr, s3: SocketAddr) -> Result<Self> {
        Ok(Self { registry, to_registry: connect(registry)?, s3, to_s3: connect(s3)? })
    }

    /// Gets the content with this digest, from S3 if the registry redirects there.
    fn get(&mut self, path: &str, digest: &str) -> Result<Times> {
        let sent = Instant::now();
        self.to_registry.send(&head(self.registry, path), b"")?;
        let answer = self.to_registry.receive()?.ok_or("the registry closed a connection")?;
        let answered = sent.elapsed();
        let content = match answer.word(1) {
            "200" => answer.body,
            "307" => {
                let start = format!("http://{}", self.s3);
                let location = answer.header("location").and_then(|url| url.strip_prefix(&start));
                let location = location.ok_or("a redirect leads elsewhere than to S3")?;
                self.to_s3.send(&head(self.s3, location), b"")?;
                let answer = self.to_s3.receive()?.ok_or("S3 closed a connection")?;
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
            false => Err(format!("{path}: the content has another digest").into()),
        }
    }
}

/// Whole pulls by skopeo.
fn pulls(stack: &Stack, addresses: [SocketAddr; 2], manifest: &str) -> Result<Value> {
    let image = format!("{IMAGE}:{TAG}");
    let folder = stack.folder.path().join("pulled");
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..PULLS {
        for (address, seconds) in addresses.iter().zip(&mut seconds) {
            seconds.push(skopeo::pull(*address, &image, manifest, &folder)?);
        }
    }
    let [ours, theirs] = seconds.each_ref().map(|seconds| median(seconds));
    let kibibytes = LAYER_BYTES / 1024;
    println!(
        "An image of {LAYERS} layers of {kibibytes} KiB, pulled by skopeo: medians of {PULLS}\n"
    );
    let row = |(name, seconds): (&&str, f64)| vec![(*name).to_owned(), format!("{seconds:.3}")];
    report::table(&["", "seconds"], &NAMES.iter().zip([ours, theirs]).map(row).collect::<Vec<_>>());
    let target = format!("pull / {}", distribution::NAME);
    let targets = report::targets(&[(target, ours / theirs, 1.0)]);
    Ok(json!({"seconds": ours, "distribution_seconds": theirs, "targets": targets}))
}
