//! `make demo`: publishes and pulls an image with a local stack in a temporary folder.
//!
//! It starts the stack and publishes the sample image beside this file. For every layer, it gets
//! the URL with the AWS SDK's ECR client, downloads the layer with only that URL, and verifies its
//! digest. Then it asks for a layer that does not exist.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_smithy_http_client::Builder;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello-image");

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut stack = start_stack(data.path()).await?;
    let environment = read_environment(&data.path().join("local.env"))?;
    pull_everything(&environment).await?;

    if let Some(pid) = stack.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        kill_process(pid, Signal::TERM)?;
    }
    let status = stack.wait().await?;
    if !status.success() {
        return Err(format!("the stack stopped with {status}").into());
    }
    println!("\nThe stack stopped cleanly.");
    Ok(())
}

/// Starts `layergate local`, which is built beside this example, and waits until it is ready.
async fn start_stack(data: &Path) -> Result<Child> {
    println!("$ layergate local --port 0");
    let mut stack = Command::new(layergate()?)
        .args(["local", "--port", "0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = stack.stdout.take().ok_or("the stack has no output")?;
    let first_line = BufReader::new(output).lines().next_line().await?;
    println!("{}\n", first_line.ok_or("the stack did not start")?);
    Ok(stack)
}

/// The variables that the file `local.env` exports.
fn read_environment(file: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(file)?;
    let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    Ok(exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

async fn pull_everything(environment: &HashMap<String, String>) -> Result<()> {
    println!("$ layergate publish --create-repository examples/hello-image hello:1.0");
    let published = Command::new(layergate()?)
        .args(["--output", "json", "publish", "--create-repository", IMAGE, "hello:1.0"])
        .envs(environment)
        .stderr(Stdio::inherit())
        .output()
        .await?;
    let published: serde_json::Value = serde_json::from_slice(&published.stdout)?;
    println!("{published}\n");

    let setting = |name: &str| environment.get(name).cloned().ok_or(format!("{name} is not set"));
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(Builder::new().build_http())
        .region(Region::new(setting("AWS_REGION")?))
        .endpoint_url(setting("AWS_ENDPOINT_URL_ECR")?)
        .credentials_provider(Credentials::new(
            setting("AWS_ACCESS_KEY_ID")?,
            setting("AWS_SECRET_ACCESS_KEY")?,
            None,
            None,
            "local.env",
        ));
    let ecr = aws_sdk_ecr::Client::from_conf(config.build());

    let layers = published["layers"].as_array().ok_or("nothing was published")?;
    for layer in layers {
        let digest = layer["layerDigest"].as_str().ok_or("a layer has no digest")?;
        let answer = ecr.get_download_url_for_layer().repository_name("hello").layer_digest(digest);
        let url = answer.send().await?.download_url.ok_or("the answer has no URL")?;
        let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?;
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != format!("sha256:{hex}") {
            return Err(format!("{digest} was downloaded as sha256:{hex}").into());
        }
        println!("{digest}: {} bytes from its URL, digest verified", bytes.len());
    }

    let unknown = format!("sha256:{}", "0".repeat(64));
    let answer = ecr.get_download_url_for_layer().repository_name("hello").layer_digest(&unknown);
    match answer.send().await {
        Err(error) if error.code() == Some("LayersNotFoundException") => {
            println!(
                "{unknown}: {}: {}",
                error.code().unwrap_or_default(),
                error.message().unwrap_or_default()
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err("a layer that nobody published got a URL".into()),
    }
}

fn layergate() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let target =
        examples.parent().and_then(Path::parent).ok_or("this example is not in a target folder")?;
    Ok(target.join("layergate"))
}
