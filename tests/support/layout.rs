//! OCI image layouts made on the spot, good ones and bad ones.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An OCI image layout in a folder of its own.
pub struct Layout {
    folder: TempDir,
}

impl Layout {
    /// One without any image.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Self { folder };
        layout.set_index(&[]);
        layout
    }

    /// One with a single image of these layers.
    pub fn of_layers(layers: &[&[u8]]) -> Self {
        let layout = Self::empty();
        let image = layout.add_image(layers);
        layout.set_index(&[image]);
        layout
    }

    /// Adds a blob; gives its descriptor.
    pub fn add_blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image, its config made of the layers' digests; gives the manifest's descriptor.
    pub fn add_image(&self, layers: &[&[u8]]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self
            .add_blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| self.add_blob("application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        self.add_manifest(&config, &layers)
    }

    pub fn add_manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.add_blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an index of images; gives its descriptor.
    pub fn add_index(&self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.add_blob(INDEX, index.to_string().as_bytes())
    }

    /// Says which images the layout holds.
    pub fn set_index(&self, images: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
    }

    /// Where a blob is.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.folder.path().join("blobs").join(digest.replace(':', "/"))
    }

    /// All blobs, by digest.
    pub fn contents(&self) -> HashMap<String, Vec<u8>> {
        let files = fs::read_dir(self.folder.path().join("blobs/sha256")).unwrap();
        let files = files.map(|file| file.unwrap());
        files
            .map(|file| {
                (
                    format!("sha256:{}", file.file_name().to_str().unwrap()),
                    fs::read(file.path()).unwrap(),
                )
            })
            .collect()
    }

    /// The descriptor of the first image that the index names.
    pub fn root(&self) -> Value {
        let index = fs::read(self.folder.path().join("index.json")).unwrap();
        serde_json::from_slice::<Value>(&index).unwrap()["manifests"][0].clone()
    }

    pub fn path(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    /// Writes the layout into a tar archive at `path`.
    pub fn archive(&self, path: &Path) {
        let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
        archive.append_dir_all(".", self.folder.path()).unwrap();
        archive.finish().unwrap();
    }
}
