//! The worker's memory while it fetches an image's layers from an upstream registry.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use layergate_bench::process::Process;
use layergate_bench::stack::Stack;
use layergate_bench::{Result, image, paths, report};
use layergate_core::catalog::Catalog;
use layergate_core::role::Puller;
use layergate_core::types::{Digest, ImageId, ImageTag, Repository, Wanted};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::distribution::{Registry, Storage};
use crate::growth::catalog;
use crate::pull_through::{NAME, TAG, create_rule, is_stored, repository};
use crate::runtime_api::RuntimeApi;

/// For each image: how many layers it has, and how many MiB each layer has.
const IMAGES: [(usize, usize); 3] = [(20, 10), (1, 200), (1, 1024)];

/// The largest allowed peak RSS, in MiB. At most four parts of 8 MiB are in its memory, with the
/// buffers that send them.
const MOST_MEMORY: f64 = 64.0;

/// What fetching an image used.
struct Fetched {
    seconds: f64,
    /// Peak RSS before the first event, in MiB.
    idle_rss: f64,
    /// Peak RSS at the end, in MiB.
    peak_rss: f64,
}

/// Measures. Prints tables and returns the figures.
pub fn run() -> Result<Value> {
    let fetched = IMAGES.map(|(layers, mebibytes)| fetch(layers, mebibytes));
    let fetched = fetched.into_iter().collect::<Result<Vec<_>>>()?;
    let name = |(layers, mebibytes): (usize, usize)| match layers {
        1 => format!("a layer of {mebibytes} MiB"),
        _ => format!("{layers} layers of {mebibytes} MiB, one after the other"),
    };
    println!("The worker, as Lambda starts it, fetches an image\n");
    let cells = |(image, fetched): ((usize, usize), &Fetched)| {
        let figures = [fetched.seconds, fetched.idle_rss, fetched.peak_rss];
        std::iter::once(name(image)).chain(figures.map(|figure| format!("{figure:.1}"))).collect()
    };
    let rows: Vec<Vec<_>> = IMAGES.into_iter().zip(&fetched).map(cells).collect();
    report::table(&["", "seconds", "RSS before, MiB", "peak RSS, MiB"], &rows);
    let most = fetched.iter().map(|fetched| fetched.peak_rss).fold(0.0, f64::max);
    let targets = report::targets(&[("peak RSS, MiB".to_owned(), most, MOST_MEMORY)]);
    let figures = IMAGES.into_iter().zip(&fetched).map(|((layers, mebibytes), fetched)| {
        json!({
            "layers": layers, "layer_mib": mebibytes, "seconds": fetched.seconds,
            "idle_rss_mib": fetched.idle_rss, "peak_rss_mib": fetched.peak_rss,
        })
    });
    Ok(json!({"rows": figures.collect::<Vec<_>>(), "targets": targets}))
}

/// Starts a new worker, which fetches an image: the manifest, and then each layer.
fn fetch(layers: usize, mebibytes: usize) -> Result<Fetched> {
    let stack = Stack::start(&[])?;
    let folder = stack.folder.path();
    let storage = Storage::in_folder(folder.join("upstream"));
    let layers = image::write_random(&folder.join("layout"), layers, mebibytes * image::MIB)?;
    storage.add(&folder.join("layout"), NAME, TAG)?;
    let upstream = Registry::start(&storage)?;
    create_rule(&stack, upstream.address, "wait")?;

    let api = RuntimeApi::serve(String::new(), Value::is_null)?;
    api.expect_process(0);
    let worker = spawn(&stack, &api)?;
    api.idle()?;
    let idle_rss = worker.memory("VmHWM")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let leases = Leases { catalog: catalog(&stack)?, runtime, repository: repository(&stack)? };
    let tag = ImageTag::parse(TAG).map_err(|_| "a tag is wrong")?;
    let mut time = api.call(leases.take(&Wanted::Image(ImageId::Tag(tag)), ("imageTag", TAG))?)?;
    for layer in &layers {
        let digest = Digest::parse(layer).map_err(|_| "a digest is wrong")?;
        time += api.call(leases.take(&Wanted::Layer(digest), ("layerDigest", layer))?)?;
    }
    let is_stored = is_stored(&stack)?;
    for layer in &layers {
        if !is_stored(layer)? {
            return Err(format!("the worker: {}", fs::read_to_string(log(&stack))?).into());
        }
    }
    Ok(Fetched { seconds: time.as_secs_f64(), idle_rss, peak_rss: worker.memory("VmHWM")? })
}

/// Starts the worker as Lambda does.
fn spawn(stack: &Stack, api: &RuntimeApi) -> Result<Process> {
    let mut command = Command::new(paths::program("worker")?);
    command
        .env_clear()
        .envs(&stack.environment)
        .envs([
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
            ("AWS_LAMBDA_FUNCTION_NAME", "worker"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_RUNTIME_API", &api.address.to_string()),
        ])
        .stdin(Stdio::null())
        .stdout(File::create(log(stack))?);
    Process::spawn(&mut command)
}

fn log(stack: &Stack) -> PathBuf {
    stack.folder.path().join("worker.log")
}

/// Takes leases, as the API's function does before it invokes the worker.
struct Leases {
    catalog: Catalog<Puller>,
    runtime: Runtime,
    repository: Repository,
}

impl Leases {
    /// Takes a lease. Returns the event for the worker. `name` is the event's member that names the
    /// image or layer, and its value.
    fn take(&self, wanted: &Wanted, name: (&str, &str)) -> Result<String> {
        let lease_id = self.runtime.block_on(self.catalog.lease(&self.repository, wanted))?;
        let lease_id = lease_id.ok_or("another process has the lease")?;
        let Repository { registry, name: repository } = &self.repository;
        let mut fill = json!({
            "registryId": registry.to_string(), "repositoryName": repository.to_string(),
            "leaseId": lease_id.to_string(),
        });
        fill[name.0] = name.1.into();
        Ok(json!({"fill": fill}).to_string())
    }
}
