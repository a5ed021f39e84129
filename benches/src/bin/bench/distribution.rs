//! CNCF Distribution's registry, with the settings of Debian's package `docker-registry`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use layergate_bench::process::Process;
use layergate_bench::stack::Stack;
use layergate_bench::{Result, image, paths};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::skopeo::{self, Pull};

/// Its name in tables.
pub const NAME: &str = "CNCF Distribution";

/// Its bucket in the embedded S3. layergate has another one.
const BUCKET: &str = "distribution";

/// What a registry stores, and where.
pub struct Storage {
    driver: &'static str,
    settings: Value,
    /// The folder that all of it is in. The embedded S3 keeps an object in a file of its key's
    /// name.
    folder: PathBuf,
}

/// A running registry.
pub struct Registry {
    _process: Process,
    pub address: SocketAddr,
}

/// How both sides of a comparison on S3 are configured.
pub fn describe() -> Result<String> {
    let output = Command::new("docker-registry").arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.split_ascii_whitespace().last().unwrap_or_default();
    Ok(format!(
        "{NAME} {version} has the settings of Debian's package: it caches descriptors in memory.\n\
         layergate local caches nothing. Both store in the same embedded S3, each in a bucket of \
         its own."
    ))
}

impl Registry {
    /// Starts it.
    pub fn start(storage: &Storage) -> Result<Self> {
        Self::configured(storage, Value::Null)
    }

    /// Starts it as a pull-through cache of the registry at `upstream`.
    pub fn proxy(storage: &Storage, upstream: SocketAddr) -> Result<Self> {
        Self::configured(storage, json!({"remoteurl": format!("http://{upstream}")}))
    }

    /// Source of the settings: `/etc/docker/registry/config.yml` of Debian's package. Only the
    /// storage and the address are others, and the users' passwords are left out.
    fn configured(storage: &Storage, proxy: Value) -> Result<Self> {
        let mut configuration = json!({
            "version": "0.1",
            "log": {"fields": {"service": "registry"}},
            "storage": {
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": true},
            },
            "http": {"addr": "127.0.0.1:0", "headers": {"X-Content-Type-Options": ["nosniff"]}},
            "health": {"storagedriver": {"enabled": true, "interval": "10s", "threshold": 3}},
        });
        configuration["storage"][storage.driver] = storage.settings.clone();
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
    /// In a bucket of its own in the stack's S3, which the registry reaches at `s3`. The registry
    /// redirects there.
    pub fn in_s3(stack: &Stack, s3: SocketAddr) -> Result<Self> {
        let folder = stack.folder.path().join("data/s3").join(BUCKET);
        fs::create_dir_all(&folder)?;
        let environment = &stack.environment;
        let settings = json!({
            "accesskey": environment["AWS_ACCESS_KEY_ID"],
            "secretkey": environment["AWS_SECRET_ACCESS_KEY"],
            "region": environment["AWS_REGION"],
            "regionendpoint": format!("http://{s3}"),
            "bucket": BUCKET,
            "secure": false,
        });
        Ok(Self { driver: "s3", settings, folder })
    }

    /// In a folder. The registry sends the bytes itself.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { driver: "filesystem", settings: json!({"rootdirectory": folder}), folder }
    }

    /// Stores the image or index of an OCI layout: skopeo pushes it to a registry on this storage.
    ///
    /// On S3, skopeo pushes it to a registry on files, and a registry on S3 caches it from there.
    /// Pushing to S3 is not possible: the embedded S3 lists the parts of an upload without the
    /// member `IsTruncated`, and Distribution fails without it.
    pub fn add(&self, layout: &Path, repository: &str, tag: &str) -> Result<()> {
        if self.driver == "filesystem" {
            let registry = Registry::start(self)?;
            return skopeo::push(layout, registry.address, &format!("{repository}:{tag}"));
        }
        let folder = tempfile::tempdir_in(paths::folder()?)?;
        let files = Self::in_folder(folder.path().join("files"));
        files.add(layout, repository, tag)?;
        let source = Registry::start(&files)?;
        let proxy = Registry::proxy(self, source.address)?;
        let pull = Pull {
            root: image::root(layout)?,
            blobs: image::blobs(layout)?,
            folder: folder.path().join("pulled"),
        };
        let image = format!("{repository}:{tag}");
        pull.twice(proxy.address, &image, |blob| Ok(self.has(repository, blob)))?;
        Ok(())
    }

    /// Whether a repository has a layer, a configuration or a manifest.
    pub fn has(&self, repository: &str, digest: &str) -> bool {
        let repository = self.folder.join("docker/registry/v2/repositories").join(repository);
        ["_layers", "_manifests/revisions"].iter().any(|folder| {
            repository.join(folder).join(digest.replace(':', "/")).join("link").exists()
        })
    }
}
