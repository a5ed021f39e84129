//! Images that the benchmark makes, as OCI layouts.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ring::digest::{Context, Digest, SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::Result;

/// A mebibyte.
pub const MIB: usize = 1024 * 1024;

/// The media type of an image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes a layout of one image with these layers. Returns the layers' digests.
pub fn write(folder: &Path, layers: &[&[u8]]) -> Result<Vec<String>> {
    let (manifest, digests) = image(folder, layers)?;
    layout(folder, &manifest)?;
    Ok(digests)
}

/// Writes a layout of one index of images with these layers.
pub fn write_index(folder: &Path, images: &[Vec<&[u8]>]) -> Result<()> {
    let images =
        images.iter().map(|layers| Ok(image(folder, layers)?.0)).collect::<Result<Vec<_>>>()?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    layout(folder, &json_blob(folder, INDEX, &index)?)
}

/// Writes a layout of one image with `layers` layers of `bytes` random bytes. Returns the layers'
/// digests.
pub fn write_random(folder: &Path, layers: usize, bytes: usize) -> Result<Vec<String>> {
    let random = SystemRandom::new();
    let mut block = vec![0; MIB];
    let mut layer = || {
        blob(folder, LAYER, |file| {
            for start in (0..bytes).step_by(MIB) {
                let block = &mut block[..MIB.min(bytes - start)];
                random.fill(block).map_err(|_| "no random bytes")?;
                file.write_all(block)?;
            }
            Ok(())
        })
    };
    let (manifest, digests) =
        image_of(folder, &(0..layers).map(|_| layer()).collect::<Result<Vec<_>>>()?)?;
    layout(folder, &manifest)?;
    Ok(digests)
}

/// The digest of a layout's image or index.
pub fn root(folder: &Path) -> Result<String> {
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str();
    digest.map(str::to_owned).ok_or_else(|| "an empty layout".into())
}

/// The digests of a layout's blobs: layers, configurations, manifests and indexes.
pub fn blobs(folder: &Path) -> Result<Vec<String>> {
    let files = fs::read_dir(folder.join("blobs/sha256"))?;
    files.map(|file| Ok(format!("sha256:{}", file?.file_name().to_string_lossy()))).collect()
}

/// Writes an image with these layers. Returns the manifest's descriptor and the layers' digests.
fn image(folder: &Path, layers: &[&[u8]]) -> Result<(Value, Vec<String>)> {
    let layers = layers.iter().map(|layer| blob(folder, LAYER, |file| Ok(file.write_all(layer)?)));
    image_of(folder, &layers.collect::<Result<Vec<_>>>()?)
}

/// The same for layers that are already written, by their descriptors.
fn image_of(folder: &Path, layers: &[Value]) -> Result<(Value, Vec<String>)> {
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned())
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let config = json_blob(folder, CONFIG, &config)?;
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    Ok((json_blob(folder, MANIFEST, &manifest)?, digests))
}

/// Completes a layout whose blobs are written. `root` is the descriptor of its image or index.
fn layout(folder: &Path, root: &Value) -> Result<()> {
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    Ok(fs::write(folder.join("index.json"), index.to_string())?)
}

fn json_blob(folder: &Path, media_type: &str, value: &Value) -> Result<Value> {
    blob(folder, media_type, |file| Ok(file.write_all(value.to_string().as_bytes())?))
}

/// Writes a blob. Returns its descriptor.
fn blob(
    folder: &Path,
    media_type: &str,
    fill: impl FnOnce(&mut Hashing) -> Result<()>,
) -> Result<Value> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let unnamed = folder.join("blobs/unnamed");
    let mut file = Hashing {
        file: BufWriter::new(File::create(&unnamed)?),
        digest: Context::new(&SHA256),
        size: 0,
    };
    fill(&mut file)?;
    file.flush()?;
    let digest = text(&file.digest.finish());
    fs::rename(unnamed, folder.join("blobs").join(digest.replace(':', "/")))?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": file.size}))
}

/// The digest of `content`.
pub fn digest_of(content: &[u8]) -> String {
    text(&digest(&SHA256, content))
}

fn text(digest: &Digest) -> String {
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A file that hashes the bytes written to it.
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
