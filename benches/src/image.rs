//! Images made on the spot.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::Result;

const MIB: usize = 1024 * 1024;

/// Writes a layout of one image whose layers are those bytes; gives their digests.
pub fn write(folder: &Path, layers: &[&[u8]]) -> Result<Vec<String>> {
    write_layers(folder, layers.len(), |n, file| Ok(file.write_all(layers[n])?))
}

/// Writes a layout of one image with one layer of so many random MiB; gives the layer's digest.
pub fn write_large(folder: &Path, mebibytes: usize) -> Result<String> {
    let random = SystemRandom::new();
    let mut block = vec![0; MIB];
    let layers = write_layers(folder, 1, |_, file| {
        for _ in 0..mebibytes {
            random.fill(&mut block).map_err(|_| "no random bytes")?;
            file.write_all(&block)?;
        }
        Ok(())
    })?;
    layers.into_iter().next().ok_or_else(|| "no layer was written".into())
}

fn write_layers(
    folder: &Path,
    count: usize,
    mut fill: impl FnMut(usize, &mut Hashing) -> Result<()>,
) -> Result<Vec<String>> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let mut layers = Vec::new();
    for n in 0..count {
        layers.push(blob(folder, "application/vnd.oci.image.layer.v1.tar", |file| fill(n, file))?);
    }
    let digests: Vec<String> =
        layers.iter().map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let config = json_blob(folder, "application/vnd.oci.image.config.v1+json", &config)?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let manifest = json_blob(folder, media_type, &manifest)?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string())?;
    Ok(digests)
}

fn json_blob(folder: &Path, media_type: &str, value: &Value) -> Result<Value> {
    blob(folder, media_type, |file| Ok(file.write_all(value.to_string().as_bytes())?))
}

/// Writes a blob; gives its descriptor.
fn blob(folder: &Path, media_type: &str, fill: impl FnOnce(&mut Hashing) -> Result<()>) -> Result<Value> {
    let unnamed = folder.join("blobs/unnamed");
    let mut file =
        Hashing { file: BufWriter::new(File::create(&unnamed)?), digest: Context::new(&SHA256), size: 0 };
    fill(&mut file)?;
    file.flush()?;
    let hex: String = file.digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::rename(unnamed, folder.join("blobs/sha256").join(&hex))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": file.size}))
}

/// A file, and the digest of what was written to it.
struct Hashing {
    file: BufWriter<File>,
    digest: Context,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
