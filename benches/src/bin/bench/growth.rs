//! What commands and calls cost in DynamoDB, by the number of images in the repository.

use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use futures_util::{StreamExt, TryStreamExt, stream};
use layergate_bench::stack::{Stack, address};
use layergate_bench::{Result, image, paths, report};
use layergate_core::aws::{self, Patience};
use layergate_core::catalog::{Catalog, Consistency, NewImage};
use layergate_core::config::Config;
use layergate_core::publish::Publishing;
use layergate_core::role::{Publisher, Role};
use layergate_core::types::{
    AccountId, Descriptor, Digest, ImageTag, RegistryId, Repository, RepositoryName,
};
use serde_json::{Value, json};

use crate::function::{self, Function};
use crate::meter::{Cost, Meter};

/// How many images the repository has, without those that the commands publish and delete.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// The variable with DynamoDB's endpoint for the tool and the catalog.
pub const DYNAMODB: &str = "AWS_ENDPOINT_URL_DYNAMODB";

const REPOSITORY: &str = "growth";
const LAYERS: usize = 5;
/// How many of the layers all images share.
const SHARED_LAYERS: usize = 3;

/// How many images are written at once to fill the repository.
const WRITERS: usize = 8;

/// How many more units one size may consume than another, as a share.
const MOST_MORE_UNITS: f64 = 0.1;

/// A command or a call, and its cost at each size.
type Row = (&'static str, Vec<Cost>);

/// Measures with the function on CPU `cpu`. Prints tables and returns the figures.
pub fn run(cpu: usize) -> Result<Value> {
    function::trust("")?;
    let mut stack = Stack::start(&[])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut filler = runtime.block_on(Filler::start(&stack))?;
    let meter = Meter::start(address(&stack.environment, DYNAMODB)?)?;
    stack.environment.insert(DYNAMODB.to_owned(), format!("http://{}", meter.address));
    runtime.block_on(check(&stack, &meter, &filler.repository))?;
    let growth = Growth { cpu, stack, meter };

    let mut rows: Vec<Row> = Vec::new();
    for size in SIZES {
        runtime.block_on(filler.fill(size))?;
        let costs = [growth.commands(size)?, growth.calls(&filler.shared[0].digest)?].concat();
        rows.resize_with(costs.len(), Row::default);
        for (row, (name, cost)) in rows.iter_mut().zip(costs) {
            row.0 = name;
            row.1.push(cost);
        }
    }
    growth.stack.process.stop()?;
    Ok(print(&rows))
}

/// Checks that the embedded DynamoDB counts units as DynamoDB documents, with three requests whose
/// units are easy to know.
async fn check(stack: &Stack, meter: &Meter, repository: &Repository) -> Result<()> {
    let catalog = catalog::<Publisher>(stack)?;
    let is = |operation: &str, read_units, write_units| -> Result<()> {
        let (cost, right) = (meter.take()?, Cost { requests: 1, read_units, write_units });
        match cost == right {
            true => Ok(()),
            false => {
                let count = format!("the embedded DynamoDB counts {cost:?}, not {right:?}");
                Err(format!("{operation}: {count}").into())
            }
        }
    };
    catalog.repository(repository).await?;
    is("a strongly consistent read of a small item", 1.0, 0.0)?;
    let absent = layer("nobody has this")?.digest;
    catalog.layer(repository, &absent, Consistency::Eventual).await?;
    is("an eventually consistent query that finds nothing", 0.5, 0.0)?;
    let account = AccountId::parse("111111111111").map_err(|_| "an account is wrong")?;
    catalog.grant(repository, &account).await?;
    is("a small item in a transaction", 0.0, 2.0)
}

struct Growth {
    cpu: usize,
    stack: Stack,
    meter: Meter,
}

impl Growth {
    /// Publishes and deletes images with the tool. Their digests are new at each size.
    fn commands(&self, size: usize) -> Result<Vec<(&'static str, Cost)>> {
        let folder = self.stack.folder.path().join(format!("image-{size}"));
        image::write(&folder, &slices(&layers(size)))?;
        let image = folder.to_str().ok_or("the folder's name is not text")?;

        let folder = self.stack.folder.path().join(format!("index-{size}"));
        let platforms = [layers(size + 1), layers(size + 2)];
        image::write_index(&folder, &platforms.each_ref().map(|layers| slices(layers)))?;
        let index = folder.to_str().ok_or("the folder's name is not text")?;

        let reference = |tag: &str| format!("{REPOSITORY}:{tag}");
        let (first, second, multi) = (reference("first"), reference("second"), reference("multi"));
        let commands: [(&'static str, &[&str]); 7] = [
            ("publish a new image", &["publish", image, &first]),
            ("publish it again", &["publish", image, &first]),
            ("publish it again with another tag", &["publish", image, &second]),
            ("image delete, of one of two tags", &["image", "delete", &second]),
            ("image delete, of the only tag", &["image", "delete", &first]),
            ("publish an index of two new images", &["publish", index, &multi]),
            ("image delete, of that index", &["image", "delete", &multi]),
        ];
        commands.into_iter().map(|(name, arguments)| Ok((name, self.command(arguments)?))).collect()
    }

    fn command(&self, arguments: &[&str]) -> Result<Cost> {
        self.meter.take()?;
        let ran = self.stack.run(arguments);
        let cost = self.meter.take()?; // first, because its error says better why a command failed
        ran.map(|()| cost)
    }

    /// Calls the function for a layer that all images reference, and for one that was never
    /// published.
    fn calls(&self, referenced: &Digest) -> Result<Vec<(&'static str, Cost)>> {
        let [url, _] = self.two_calls(&referenced.to_string(), function::is_url)?;
        let absent = format!("sha256:{:064x}", 0);
        let [first_refusal, refusal] = self.two_calls(&absent, is_layers_not_found)?;
        Ok(vec![
            ("call: a URL", url),
            ("call: LayersNotFound, first of a sandbox", first_refusal),
            ("call: LayersNotFound, later", refusal),
        ])
    }

    /// Makes two calls of one process.
    fn two_calls(&self, layer: &str, is_right: fn(&Value) -> bool) -> Result<[Cost; 2]> {
        let mut event = function::sample_event()?;
        event["body"] =
            json!({"repositoryName": REPOSITORY, "layerDigest": layer}).to_string().into();
        let mut function = Function::new(paths::program("bootstrap")?, &event, is_right)?;
        function.environment = &[("CACHE_SECONDS", "0")];
        self.meter.take()?;
        let endpoint = format!("http://{}", self.meter.address);
        let (_, _process) = function.first_answer(self.cpu, &endpoint)?;
        let first = self.meter.take()?;
        function.api.offer(1);
        function.api.finished()?;
        Ok([first, self.meter.take()?])
    }
}

fn is_layers_not_found(answer: &Value) -> bool {
    answer["statusCode"] == 400
        && answer["body"].as_str().unwrap_or_default().contains("LayersNotFoundException")
}

/// The content of the layers of image number `n`.
fn layers(n: usize) -> Vec<String> {
    let content = |layer| match layer < SHARED_LAYERS {
        true => format!("layer {layer} of all images\n"),
        false => format!("layer {layer} of image {n}\n"),
    };
    (0..LAYERS).map(content).collect()
}

fn slices(layers: &[String]) -> Vec<&[u8]> {
    layers.iter().map(String::as_bytes).collect()
}

/// Fills the repository with the library. With the tool, this would take hours.
struct Filler {
    catalog: Catalog<Publisher>,
    repository: Repository,
    shared: Vec<Descriptor>,
    /// How many images were written.
    images: usize,
}

impl Filler {
    async fn start(stack: &Stack) -> Result<Self> {
        let repository = Repository {
            registry: RegistryId::parse(&stack.environment["DEFAULT_REGISTRY_ID"])
                .map_err(|_| "the stack's registry has no id")?,
            name: RepositoryName::parse(REPOSITORY).map_err(|_| "the repository has no name")?,
        };
        let catalog = catalog(stack)?;
        catalog.create_repository(&repository).await?;
        let shared = layers(0)
            .iter()
            .take(SHARED_LAYERS)
            .map(|content| layer(content))
            .collect::<Result<_>>()?;
        Ok(Self { catalog, repository, shared, images: 0 })
    }

    /// Writes images until the repository has this many.
    async fn fill(&mut self, size: usize) -> Result<()> {
        let filler = &*self;
        let images = (filler.images..size).map(async |n| filler.write(n).await);
        stream::iter(images).buffer_unordered(WRITERS).try_collect::<()>().await?;
        self.images = size;
        Ok(())
    }

    /// Publishes an image, with a tag.
    async fn write(&self, n: usize) -> Result<()> {
        let own = (SHARED_LAYERS..=LAYERS)
            .map(|layer| format!("filled in: layer {layer} of image {n}\n"));
        let own = own.map(|content| layer(&content)).collect::<Result<Vec<_>>>()?;
        let image = NewImage {
            digest: layer(&format!("filled in: manifest of image {n}"))?.digest,
            media_type: image::MANIFEST.to_owned(),
            size: 1000,
            layers: [&self.shared[..], &own].concat(),
            absent_layers: Vec::new(),
            images: Vec::new(),
            upstream: None,
        };
        let failed = |error| format!("an image cannot be written: {error:?}");
        let digests = image.layers.iter().map(|layer| layer.digest.clone());
        let publishing = Publishing::announce(&self.catalog, &self.repository, digests).await?;
        publishing.image(&image).await.map_err(failed)?;
        let tag = ImageTag::parse(&format!("filled-in-{n}")).map_err(|_| "a tag is wrong")?;
        publishing.tag(&image.digest, &tag).await.map_err(failed)?;
        Ok(publishing.end(false).await?)
    }
}

/// The descriptor of a layer with this content.
pub fn layer(content: &str) -> Result<Descriptor> {
    let digest = image::digest_of(content.as_bytes());
    let digest = Digest::parse(&digest).map_err(|_| "a digest is wrong")?;
    Ok(Descriptor { digest, size: content.len() as u64, media_type: image::LAYER.to_owned() })
}

/// The stack's catalog.
pub fn catalog<R: Role>(stack: &Stack) -> Result<Catalog<R>> {
    let environment = &stack.environment;
    let config = Config::from_env(|name| environment.get(name).cloned())?;
    let [id, secret] =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| environment[name].as_str());
    let credentials =
        SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "the stack"));
    let sdk =
        aws::with_credentials(environment["AWS_REGION"].clone(), credentials, Patience::PERSON);
    Ok(Catalog::new(&sdk, &config))
}

fn print(rows: &[Row]) -> Value {
    let per_size = |size: &usize| {
        [format!("{size} images: requests"), "read units".to_owned(), "write units".to_owned()]
    };
    let headings: Vec<String> =
        [String::new()].into_iter().chain(SIZES.iter().flat_map(per_size)).collect();
    let cells = |(name, costs): &Row| {
        let figures = costs.iter().flat_map(|cost| {
            let Cost { requests, read_units, write_units } = cost;
            [requests.to_string(), format!("{read_units:.1}"), format!("{write_units:.1}")]
        });
        [(*name).to_owned()].into_iter().chain(figures).collect()
    };
    println!("Requests to DynamoDB of a command or a call, by the images in the repository\n");
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    report::table(&headings, &rows.iter().map(cells).collect::<Vec<_>>());

    let most = |figure: fn(&Cost) -> f64, difference: fn(f64, f64) -> f64| {
        let differences = rows.iter().map(|(_, costs)| {
            let figures = || costs.iter().map(figure);
            difference(figures().fold(f64::INFINITY, f64::min), figures().fold(0.0, f64::max))
        });
        differences.fold(0.0, f64::max)
    };
    let share = |least: f64, most: f64| if most > 0.0 { most / least - 1.0 } else { 0.0 };
    let targets = report::targets(&[
        (
            "requests: largest difference between sizes".to_owned(),
            most(|cost| cost.requests as f64, |a, b| b - a),
            0.0,
        ),
        (
            "read units: largest difference, as a share".to_owned(),
            most(|cost| cost.read_units, share),
            MOST_MORE_UNITS,
        ),
        (
            "write units: largest difference, as a share".to_owned(),
            most(|cost| cost.write_units, share),
            MOST_MORE_UNITS,
        ),
    ]);
    let figures = rows.iter().map(|(name, costs)| {
        let costs = SIZES.iter().zip(costs).map(|(size, cost)| {
            json!({
                "images": size, "requests": cost.requests,
                "read_units": cost.read_units, "write_units": cost.write_units,
            })
        });
        json!({"name": name, "costs": costs.collect::<Vec<_>>()})
    });
    json!({"rows": figures.collect::<Vec<_>>(), "targets": targets})
}
