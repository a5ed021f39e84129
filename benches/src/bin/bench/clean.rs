//! `layergate clean` on a registry of 100,000 layers: its time, its memory, and its requests to
//! DynamoDB and S3.

use std::fs::{self, File};

use futures_util::{StreamExt, TryStreamExt, stream};
use layergate_bench::process::{Ended, Process};
use layergate_bench::stack::{Stack, address};
use layergate_bench::{Result, image, report};
use layergate_core::catalog::{Catalog, NewImage};
use layergate_core::publish::Publishing;
use layergate_core::role::Publisher;
use layergate_core::types::{
    Descriptor, Digest, ImageId, ObjectKey, RegistryId, Repository, RepositoryName,
};
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::growth::{DYNAMODB, catalog, layer};
use crate::meter::{Cost, Meter};

const S3: &str = "AWS_ENDPOINT_URL_S3";

/// 100,000 layers: ten repositories of 200 images with 50 layers each. No two images share a layer.
const REPOSITORIES: usize = 10;
const IMAGES: usize = 200;
const LAYERS: usize = 50;

/// Every tenth image is deleted before the clean.
const DELETED: usize = 10;

/// How many images are written at once.
const WRITERS: usize = 8;

/// What a clean printed, and what it used.
struct Cleaned {
    said: Value,
    seconds: f64,
    /// In MiB.
    peak_rss: f64,
    dynamodb: Cost,
    s3_requests: u64,
}

/// Measures. Prints a table and returns the figures.
pub fn run() -> Result<Value> {
    let mut stack = Stack::start(&[])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bucket = Bucket::start()?;
    runtime.block_on(fill(&stack, &bucket))?;
    let meter = Meter::start(address(&stack.environment, DYNAMODB)?)?;
    stack.environment.insert(DYNAMODB.to_owned(), format!("http://{}", meter.address));
    stack.environment.insert(S3.to_owned(), format!("http://{}", bucket.address));

    let mut rows = Vec::new();
    for (name, arguments) in
        [("dry run", &["--dry-run"][..]), ("clean", &[]), ("clean, with nothing to remove", &[])]
    {
        meter.take()?;
        bucket.take();
        let (said, Ended { seconds, peak_rss, .. }) = clean(&stack, arguments)?;
        let (dynamodb, s3_requests) = (meter.take()?, bucket.take());
        rows.push((name, Cleaned { said, seconds, peak_rss, dynamodb, s3_requests }));
    }
    stack.process.stop()?;
    let garbage = REPOSITORIES * IMAGES / DELETED;
    for ((name, cleaned), expected) in rows.iter().zip([1, 1, 0]) {
        let right = (garbage * LAYERS * expected, garbage * (LAYERS + 1) * expected);
        if (&cleaned.said["layers"], &cleaned.said["objects"]) != (&json!(right.0), &json!(right.1))
        {
            return Err(format!(
                "{name}: {} instead of {right:?} layers and objects",
                cleaned.said
            )
            .into());
        }
    }
    Ok(print(&rows))
}

/// Publishes all images with the library, and deletes some.
async fn fill(stack: &Stack, bucket: &Bucket) -> Result<()> {
    let catalog = &catalog(stack)?;
    let registry =
        RegistryId::parse(&stack.environment["DEFAULT_REGISTRY_ID"]).map_err(|_| "no registry")?;
    for n in 0..REPOSITORIES {
        let name = RepositoryName::parse(&format!("clean-{n}")).map_err(|_| "no repository")?;
        let repository = &Repository { registry: registry.clone(), name };
        catalog.create_repository(repository).await?;
        let writes = (0..IMAGES).map(async |image| write(catalog, bucket, repository, image).await);
        stream::iter(writes).buffer_unordered(WRITERS).try_collect::<()>().await?;
    }
    Ok(())
}

async fn write(
    catalog: &Catalog<Publisher>,
    bucket: &Bucket,
    repository: &Repository,
    n: usize,
) -> Result<()> {
    let layers =
        (0..LAYERS).map(|layer_n| layer(&format!("layer {layer_n} of image {n} of {repository}")));
    let layers: Vec<Descriptor> = layers.collect::<Result<_>>()?;
    let manifest = layer(&format!("manifest of image {n} of {repository}"))?.digest;
    let image = NewImage {
        digest: manifest.clone(),
        media_type: image::MANIFEST.to_owned(),
        size: 1000,
        layers,
        absent_layers: Vec::new(),
        images: Vec::new(),
        upstream: None,
    };
    let registry = &repository.registry;
    let digests: Vec<Digest> = image.layers.iter().map(|layer| layer.digest.clone()).collect();
    digests.iter().for_each(|digest| bucket.put(&ObjectKey::of_layer(registry, digest)));
    bucket.put(&ObjectKey::of_manifest(registry, &manifest));
    let publishing = Publishing::announce(catalog, repository, digests).await?;
    let published = publishing.image(&image).await;
    published.map_err(|error| format!("an image cannot be written: {error:?}"))?;
    publishing.end(false).await?;
    if n.is_multiple_of(DELETED) {
        catalog.delete_image(repository, &ImageId::Digest(manifest)).await?;
    }
    Ok(())
}

/// Runs the command. Returns what it printed, and what it used.
fn clean(stack: &Stack, arguments: &[&str]) -> Result<(Value, Ended)> {
    let arguments = [&["--output", "json", "clean", "--older-than", "0s"], arguments].concat();
    let [output, errors] = ["clean.json", "clean.log"].map(|name| stack.folder.path().join(name));
    let mut command = stack.command(&arguments);
    command.stdout(File::create(&output)?).stderr(File::create(&errors)?);
    let ended = Process::spawn(&mut command)?.finish()?;
    match ended.success {
        true => Ok((serde_json::from_str(&fs::read_to_string(output)?)?, ended)),
        false => Err(format!("layergate clean: {}", fs::read_to_string(errors)?).into()),
    }
}

fn print(rows: &[(&str, Cleaned)]) -> Value {
    println!("A registry of {} layers\n", REPOSITORIES * IMAGES * LAYERS);
    let headings = [
        "",
        "objects",
        "records of layers",
        "seconds",
        "peak RSS, MiB",
        "DynamoDB requests",
        "read units",
        "write units",
        "S3 requests",
    ];
    let cells = |(name, cleaned): &(&str, Cleaned)| {
        let Cleaned { said, seconds, peak_rss, dynamodb, s3_requests } = cleaned;
        vec![
            (*name).to_owned(),
            said["objects"].to_string(),
            said["layers"].to_string(),
            format!("{seconds:.1}"),
            format!("{peak_rss:.1}"),
            dynamodb.requests.to_string(),
            format!("{:.0}", dynamodb.read_units),
            format!("{:.0}", dynamodb.write_units),
            s3_requests.to_string(),
        ]
    };
    report::table(&headings, &rows.iter().map(cells).collect::<Vec<_>>());
    let figures = rows.iter().map(|(name, cleaned)| {
        json!({
            "name": name, "said": cleaned.said, "seconds": cleaned.seconds,
            "peak_rss_mib": cleaned.peak_rss, "dynamodb_requests": cleaned.dynamodb.requests,
            "read_units": cleaned.dynamodb.read_units, "write_units": cleaned.dynamodb.write_units,
            "s3_requests": cleaned.s3_requests,
        })
    });
    figures.collect()
}
