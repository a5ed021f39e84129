//! Pulls of an image that only an upstream registry has, and again when the cache has stored it:
//! through a rule of the local stack, and through CNCF Distribution's registry as a proxy.

use std::net::SocketAddr;

use layergate_bench::stack::{Stack, address};
use layergate_bench::statistics::{median, percentile};
use layergate_bench::{Result, image, report};
use layergate_core::catalog::{Consistency, LayerState};
use layergate_core::role::Puller;
use layergate_core::types::{Digest, RegistryId, Repository, RepositoryName};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::distribution::{self, Registry, Storage};
use crate::growth::catalog;
use crate::skopeo::Pull;

/// An image of 200 MiB.
const LAYERS: usize = 20;
const LAYER_BYTES: usize = 10 * image::MIB;

/// The image in the upstream.
pub const NAME: &str = "image";
pub const TAG: &str = "1.0";
/// The prefix of the rule that it is pulled through.
pub const PREFIX: &str = "cache";

/// The contestants take turns, this many times.
const ROUNDS: usize = 5;

const S3: &str = "AWS_ENDPOINT_URL_S3";

/// How the upstream answers requests for layers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Upstream {
    SendsBytes,
    Redirects,
}

/// The cache that the image is pulled through.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Through {
    Nothing,
    /// A rule with this value for `--before-stored`.
    Rule(&'static str),
    ProxyOnS3,
    ProxyInFolder,
}

use Through::{Nothing, ProxyInFolder, ProxyOnS3, Rule};
use Upstream::{Redirects, SendsBytes};

const CONTESTANTS: [(Upstream, Through); 9] = [
    (SendsBytes, Nothing),
    (SendsBytes, Rule("wait")),
    (SendsBytes, ProxyOnS3),
    (SendsBytes, ProxyInFolder),
    (Redirects, Nothing),
    (Redirects, Rule("redirect")),
    (Redirects, Rule("wait")),
    (Redirects, ProxyOnS3),
    (Redirects, ProxyInFolder),
];

/// The seconds of the first pulls, and of the second pulls.
type Pulls = [Vec<f64>; 2];

/// Measures. Prints tables and returns the figures.
pub fn run() -> Result<Value> {
    let mut rows: Vec<Pulls> = vec![Pulls::default(); CONTESTANTS.len()];
    for _ in 0..ROUNDS {
        for kind in [SendsBytes, Redirects] {
            let source = Source::new(kind)?;
            for ((upstream, through), row) in CONTESTANTS.into_iter().zip(&mut rows) {
                if upstream == kind {
                    let pulls = source
                        .pulls(through)
                        .map_err(|error| format!("{}, {}: {error}", kind.name(), through.name()))?;
                    row.iter_mut().zip(pulls).for_each(|(row, seconds)| row.push(seconds));
                }
            }
        }
    }
    print(&rows)
}

/// A new image in a new storage for upstreams.
struct Source {
    /// Its folder has everything. An upstream on S3 has its bucket there.
    stack: Stack,
    storage: Storage,
    layers: Vec<String>,
}

impl Source {
    fn new(kind: Upstream) -> Result<Self> {
        let stack = Stack::start(&[])?;
        let folder = stack.folder.path();
        let storage = match kind {
            SendsBytes => Storage::in_folder(folder.join("upstream")),
            Redirects => Storage::in_s3(&stack, address(&stack.environment, S3)?)?,
        };
        let layers = image::write_random(&folder.join("layout"), LAYERS, LAYER_BYTES)?;
        storage.add(&folder.join("layout"), NAME, TAG)?;
        Ok(Self { stack, storage, layers })
    }

    /// Pulls the image twice, with a new upstream and a new, empty cache.
    fn pulls(&self, through: Through) -> Result<[f64; 2]> {
        let (layout, folder) = (self.stack.folder.path().join("layout"), self.stack.folder.path());
        let root = image::root(&layout)?;
        let pull = |blobs: Vec<String>| Pull { root, blobs, folder: folder.join("pulled") };
        let image = format!("{NAME}:{TAG}");
        let upstream = Registry::start(&self.storage)?;
        let stack = Stack::start(&[])?;
        match through {
            Nothing => pull(Vec::new()).twice(upstream.address, &image, |_| Ok(true)),
            Rule(before_stored) => {
                create_rule(&stack, upstream.address, before_stored)?;
                let image = format!("{PREFIX}/{image}");
                pull(self.layers.clone()).twice(stack.address, &image, is_stored(&stack)?)
            }
            ProxyOnS3 | ProxyInFolder => {
                let storage = match through {
                    ProxyOnS3 => Storage::in_s3(&stack, address(&stack.environment, S3)?)?,
                    _ => Storage::in_folder(stack.folder.path().join("proxy")),
                };
                let proxy = Registry::proxy(&storage, upstream.address)?;
                let is_stored = |blob: &str| Ok(storage.has(NAME, blob));
                pull(self.layers.clone()).twice(proxy.address, &image, is_stored)
            }
        }
    }
}

/// Creates the rule that the image is pulled through.
pub fn create_rule(stack: &Stack, upstream: SocketAddr, before_stored: &str) -> Result<()> {
    let upstream = format!("http://{upstream}");
    let options = ["--upstream", &upstream, "--before-stored", before_stored];
    stack.run(&[&["pull-through", "create", PREFIX], &options[..]].concat())
}

/// The repository of the image in the cache.
pub fn repository(stack: &Stack) -> Result<Repository> {
    let registry =
        RegistryId::parse(&stack.environment["DEFAULT_REGISTRY_ID"]).map_err(|_| "no registry")?;
    let name = RepositoryName::parse(&format!("{PREFIX}/{NAME}")).map_err(|_| "no repository")?;
    Ok(Repository { registry, name })
}

/// Whether the stack has stored a layer of the image.
pub fn is_stored(stack: &Stack) -> Result<impl Fn(&str) -> Result<bool>> {
    let (catalog, repository) = (catalog::<Puller>(stack)?, repository(stack)?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(move |layer: &str| {
        let layer = Digest::parse(layer).map_err(|_| "a digest is wrong")?;
        let state = runtime.block_on(catalog.layer(&repository, &layer, Consistency::Strong))?;
        Ok(matches!(state, LayerState::Referenced(_)))
    })
}

impl Upstream {
    fn name(self) -> &'static str {
        match self {
            SendsBytes => "the upstream sends bytes",
            Redirects => "the upstream redirects",
        }
    }
}

impl Through {
    fn name(self) -> String {
        match self {
            Nothing => "from the upstream itself".to_owned(),
            Rule(before_stored) => format!("layergate local, {before_stored}"),
            ProxyOnS3 => format!("{} on S3", distribution::NAME),
            ProxyInFolder => format!("{} on files", distribution::NAME),
        }
    }
}

fn print(rows: &[Pulls]) -> Result<Value> {
    println!(
        "An image of {LAYERS} layers of {} MiB, pulled by skopeo through a cache: {ROUNDS} pulls \
         of each kind\n",
        LAYER_BYTES / image::MIB
    );
    println!("{}\n", distribution::describe()?);
    let headings = ["", "first pull, s: median", "best", "second pull, s: median", "best"];
    let best = |seconds: &Vec<f64>| percentile(seconds, 0.0);
    let named = || CONTESTANTS.into_iter().zip(rows);
    let cells = named().map(|((upstream, through), [first, second])| {
        let figures = [median(first), best(first), median(second), best(second)];
        let name = format!("{}: {}", upstream.name(), through.name());
        std::iter::once(name).chain(figures.map(|seconds| format!("{seconds:.2}"))).collect()
    });
    report::table(&headings, &cells.collect::<Vec<Vec<_>>>());

    let medians = |contestant| {
        let row = named().find(|(named, _)| *named == contestant).map(|(_, row)| row);
        row.map_or([f64::NAN; 2], |row| row.each_ref().map(|seconds| median(seconds)))
    };
    let rules = CONTESTANTS.into_iter().filter(|(_, through)| matches!(through, Rule(_)));
    let ratios = rules.map(|(upstream, through)| {
        let ours = medians((upstream, through));
        let ratios = [0, 1].map(|pull| {
            [ProxyOnS3, ProxyInFolder].map(|proxy| ours[pull] / medians((upstream, proxy))[pull])
        });
        (format!("{}: {}", upstream.name(), through.name()), ratios)
    });
    let ratios: Vec<(String, [[f64; 2]; 2])> = ratios.collect();
    println!("The rules' medians, divided by those of {}\n", distribution::NAME);
    let headings = ["", "first pull / on S3", "/ on files", "second pull / on S3", "/ on files"];
    let cells = ratios.iter().map(|(name, ratios)| {
        let ratios = ratios.iter().flatten().map(|ratio| format!("{ratio:.2}"));
        std::iter::once(name.clone()).chain(ratios).collect()
    });
    report::table(&headings, &cells.collect::<Vec<Vec<_>>>());
    let figures = named().map(|((upstream, through), [first, second])| {
        json!({
            "upstream": upstream.name(), "through": through.name(),
            "first_seconds": first, "second_seconds": second,
        })
    });
    Ok(json!({"rows": figures.collect::<Vec<_>>(), "ratios": ratios}))
}
