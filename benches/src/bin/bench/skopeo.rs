//! skopeo, as a client that pushes and pulls.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use layergate_bench::{Result, image};

/// How long after a pull a cache may still store blobs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pushes the image or index of an OCI layout, as an image such as `NAME:TAG`.
pub fn push(layout: &Path, registry: SocketAddr, image: &str) -> Result<()> {
    copy("--dest-tls-verify=false", &oci(layout), &docker(registry, image))
}

/// Pulls an image, such as `NAME:TAG`, into an OCI layout, and removes the layout. Returns the
/// seconds from the start of skopeo's process to its end. skopeo verifies the digest of each blob.
/// This function checks that it pulled the image or index with the digest `root`.
///
/// Into a layout, skopeo pulls six layers at a time. Into what it calls a directory, it pulls them
/// one after the other, as no runtime does.
pub fn pull(registry: SocketAddr, image: &str, root: &str, folder: &Path) -> Result<f64> {
    let started = Instant::now();
    copy("--src-tls-verify=false", &docker(registry, image), &oci(folder))?;
    let seconds = started.elapsed().as_secs_f64();
    if image::root(folder)? != root {
        return Err("skopeo pulled another image".into());
    }
    fs::remove_dir_all(folder)?;
    Ok(seconds)
}

/// A pull through a cache: what must be stored after it, and the folder for the pulled layout.
pub struct Pull {
    /// The digest of the image's manifest, or of the index.
    pub root: String,
    /// The digests of all blobs that the cache must store.
    pub blobs: Vec<String>,
    pub folder: PathBuf,
}

impl Pull {
    /// Pulls, waits until the cache has stored all blobs, and pulls again. Returns the seconds of
    /// both pulls.
    pub fn twice(
        &self,
        registry: SocketAddr,
        image: &str,
        is_stored: impl Fn(&str) -> Result<bool>,
    ) -> Result<[f64; 2]> {
        let first = pull(registry, image, &self.root, &self.folder)?;
        let pulled = Instant::now();
        for blob in &self.blobs {
            while !is_stored(blob)? {
                if pulled.elapsed() > PATIENCE {
                    return Err(format!("the cache has not stored {blob} after the pull").into());
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok([first, pull(registry, image, &self.root, &self.folder)?])
    }
}

fn copy(plain_http: &str, source: &str, destination: &str) -> Result<()> {
    let mut command = Command::new("skopeo");
    command
        .args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"])
        .args([plain_http, source, destination])
        .stdout(Stdio::null());
    let output = command.output().map_err(|error| format!("skopeo: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("skopeo: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn oci(layout: &Path) -> String {
    format!("oci:{}", layout.display())
}

fn docker(registry: SocketAddr, image: &str) -> String {
    format!("docker://{registry}/{image}")
}
