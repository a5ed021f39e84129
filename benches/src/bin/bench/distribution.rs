//! CNCF distribution's registry, caching nothing in memory.

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
use tempfile::NamedTempFile;

/// The root directory that it is given in the bucket.
const ROOT: &str = "distribution";

/// What a registry stores, and where.
pub struct Storage {
    /// The registry's own words for it.
    driver: Value,
    /// The folder that all of it is in. The embedded S3 keeps an object in a file of its key's
    /// name.
    folder: PathBuf,
}

/// A running registry.
pub struct Registry {
    _process: Process,
    pub address: SocketAddr,
}

impl Registry {
    /// Starts it.
    pub fn start(storage: &Storage) -> Result<Self> {
        Self::configured(storage, Value::Null)
    }

    /// Starts it as a pull through cache of the registry at `upstream`.
    pub fn proxy(storage: &Storage, upstream: SocketAddr) -> Result<Self> {
        Self::configured(storage, json!({"remoteurl": format!("http://{upstream}")}))
    }

    fn configured(storage: &Storage, proxy: Value) -> Result<Self> {
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": storage.driver,
            "http": {"addr": "127.0.0.1:0"},
        });
        if !proxy.is_null() {
            configuration["proxy"] = proxy;
        }
        let file = NamedTempFile::new()?; // JSON is YAML
        fs::write(&file, configuration.to_string())?;
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(file.path())
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
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

impl Storage {
    /// In the stack's bucket, with S3 at `s3`. The registry redirects to it.
    pub fn in_s3(stack: &Stack, s3: SocketAddr) -> Self {
        let environment = &stack.environment;
        let driver = json!({
            "s3": {
                "accesskey": environment["AWS_ACCESS_KEY_ID"],
                "secretkey": environment["AWS_SECRET_ACCESS_KEY"],
                "region": environment["AWS_REGION"],
                "regionendpoint": format!("http://{s3}"),
                "bucket": environment["BUCKET_NAME"],
                "rootdirectory": format!("/{ROOT}"),
                "secure": false,
            },
            "maintenance": {"uploadpurging": {"enabled": false}},
        });
        let bucket = stack.folder.path().join("data/s3").join(&environment["BUCKET_NAME"]);
        Self { driver, folder: bucket.join(ROOT) }
    }

    /// In a folder. The registry sends the bytes itself.
    pub fn in_folder(folder: PathBuf) -> Self {
        let driver = json!({
            "filesystem": {"rootdirectory": folder},
            "maintenance": {"uploadpurging": {"enabled": false}},
        });
        Self { driver, folder }
    }

    /// Lays what an OCI layout has, an image or an index, into it in the form that the registry
    /// stores it in, so that nothing has to push it.
    pub fn give(&self, layout: &Path, repository: &str, tag: &str) -> Result<()> {
        let gift = Gift {
            layout,
            blobs: self.root().join("blobs"),
            repository: self.repository(repository),
        };
        let root = image::root(layout)?;
        gift.add_manifest(&root)?;
        gift.link(&format!("_manifests/tags/{tag}/current"), &root)?;
        gift.link(&format!("_manifests/tags/{tag}/index/{}", as_path(&root)), &root)
    }

    /// Whether it has a layer of a repository.
    pub fn has(&self, repository: &str, layer: &str) -> bool {
        self.repository(repository).join("_layers").join(as_path(layer)).join("link").exists()
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.root().join("repositories").join(name)
    }

    fn root(&self) -> PathBuf {
        self.folder.join("docker/registry/v2")
    }
}

/// A layout, and where its blobs go and the links to them.
struct Gift<'a> {
    layout: &'a Path,
    blobs: PathBuf,
    repository: PathBuf,
}

impl Gift<'_> {
    /// Adds a manifest and what it names.
    fn add_manifest(&self, manifest_digest: &str) -> Result<()> {
        let manifest: Value = serde_json::from_slice(&self.add_blob(manifest_digest)?)?;
        self.link(&format!("_manifests/revisions/{}", as_path(manifest_digest)), manifest_digest)?;
        let elements =
            |member: &str| manifest[member].as_array().map(Vec::as_slice).unwrap_or_default();
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
