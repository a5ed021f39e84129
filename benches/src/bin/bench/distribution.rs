//! CNCF distribution's registry, with the stack's S3 as its storage, redirecting to it and caching nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use layergate_bench::process::Process;
use layergate_bench::stack::Stack;
use layergate_bench::{Result, image};
use serde_json::{Value, json};

/// The root directory that it is given in the bucket.
const ROOT: &str = "distribution";

/// A running registry.
pub struct Registry {
    _process: Process,
    pub address: SocketAddr,
}

impl Registry {
    /// Starts it with S3 at `s3`.
    pub fn start(stack: &Stack, s3: SocketAddr) -> Result<Self> {
        let configuration = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {
                "s3": {
                    "accesskey": stack.environment["AWS_ACCESS_KEY_ID"],
                    "secretkey": stack.environment["AWS_SECRET_ACCESS_KEY"],
                    "region": stack.environment["AWS_REGION"],
                    "regionendpoint": format!("http://{s3}"),
                    "bucket": stack.environment["BUCKET_NAME"],
                    "rootdirectory": format!("/{ROOT}"),
                    "secure": false,
                },
                "maintenance": {"uploadpurging": {"enabled": false}},
            },
            "http": {"addr": "127.0.0.1:0"},
        });
        let file = stack.folder.path().join("registry.yml"); // JSON is YAML
        fs::write(&file, configuration.to_string())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).env_clear().stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let log = process.child.stderr.take().ok_or("the registry has no log")?;
        let mut lines = BufReader::new(log).lines();
        let address = loop {
            let line = lines.next().ok_or("the registry did not start")??;
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap_or_default().parse()?;
            }
        };
        thread::spawn(move || lines.for_each(drop)); // or it would block on a full pipe
        Ok(Self { _process: process, address })
    }
}

/// Lays what an OCI layout has, an image or an index, into the bucket in the form that the registry stores it in, so that
/// nothing has to push it.
pub fn give(stack: &Stack, layout: &Path, repository: &str, tag: &str) -> Result<()> {
    let bucket = stack.folder.path().join("data/s3").join(&stack.environment["BUCKET_NAME"]);
    let root = bucket.join(ROOT).join("docker/registry/v2");
    let storage =
        Storage { layout, blobs: root.join("blobs"), repository: root.join("repositories").join(repository) };
    let root = image::root(layout)?;
    storage.add_manifest(&root)?;
    storage.link(&format!("_manifests/tags/{tag}/current"), &root)?;
    storage.link(&format!("_manifests/tags/{tag}/index/{}", as_path(&root)), &root)
}

/// What the registry stores: blobs, and links to them in a repository.
struct Storage<'a> {
    layout: &'a Path,
    blobs: PathBuf,
    repository: PathBuf,
}

impl Storage<'_> {
    /// Adds a manifest and what it names.
    fn add_manifest(&self, manifest_digest: &str) -> Result<()> {
        let manifest: Value = serde_json::from_slice(&self.add_blob(manifest_digest)?)?;
        self.link(&format!("_manifests/revisions/{}", as_path(manifest_digest)), manifest_digest)?;
        let elements = |member: &str| manifest[member].as_array().map(Vec::as_slice).unwrap_or_default();
        for image in elements("manifests") {
            self.add_manifest(digest(image)?)?;
        }
        for layer in elements("layers").iter().chain(manifest.get("config")) {
            let digest = digest(layer)?;
            self.add_blob(digest)?;
            self.link(&format!("_layers/{}", as_path(digest)), digest)?;
        }
        Ok(())
    }

    /// Adds a blob; gives its bytes.
    fn add_blob(&self, digest: &str) -> Result<Vec<u8>> {
        let bytes = fs::read(self.layout.join("blobs").join(as_path(digest)))?;
        let (algorithm, hex) = digest.split_once(':').ok_or("a digest without its algorithm")?;
        let folder = self.blobs.join(algorithm).join(&hex[..2]).join(hex);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("data"), &bytes)?;
        Ok(bytes)
    }

    fn link(&self, path: &str, digest: &str) -> Result<()> {
        let folder = self.repository.join(path);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("link"), digest)?)
    }
}

fn digest(descriptor: &Value) -> Result<&str> {
    descriptor["digest"].as_str().ok_or_else(|| "a descriptor without a digest".into())
}

fn as_path(digest: &str) -> String {
    digest.replace(':', "/")
}
