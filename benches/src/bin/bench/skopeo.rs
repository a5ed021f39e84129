//! skopeo, as a client that pulls.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use layergate_bench::{Result, image};

/// Pulls an image, such as `NAME:TAG`, into an OCI layout, which goes again. Returns the seconds
/// from the start of skopeo's process to its end. skopeo checks the digest of each blob itself;
/// here it is checked that it is the right image.
///
/// Into a layout, skopeo pulls six layers at a time; into what it calls a directory, one after the
/// other, as no runtime does.
pub fn pull(registry: SocketAddr, image: &str, manifest: &str, folder: &Path) -> Result<f64> {
    let mut command = Command::new("skopeo");
    command
        .args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--preserve-digests",
            "--src-tls-verify=false",
        ])
        .arg(format!("docker://{registry}/{image}"))
        .arg(format!("oci:{}", folder.display()))
        .stdout(Stdio::null());
    let started = Instant::now();
    let output = command.output().map_err(|error| format!("skopeo: {error}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("skopeo: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    if image::root(folder)? != manifest {
        return Err("skopeo pulled another image".into());
    }
    fs::remove_dir_all(folder)?;
    Ok(seconds)
}
