//! Images and repositories as the catalog takes them.

use layergate_core::catalog::NewImage;
use layergate_core::types::{Descriptor, Digest, RegistryId, Repository, RepositoryName};
use layergate_local::ACCOUNT;
use serde_json::Value;

use super::Layout;

/// What the tool would write into the catalog for a layout, an index after its images.
pub fn images_of(layout: &Layout) -> Vec<NewImage> {
    fn collect(layout: &Layout, descriptor: &Value, images: &mut Vec<NewImage>) {
        let digest =
            |descriptor: &Value| Digest::parse(descriptor["digest"].as_str().unwrap()).unwrap();
        let bytes = std::fs::read(layout.blob(descriptor["digest"].as_str().unwrap())).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let below = manifest["manifests"].as_array().cloned().unwrap_or_default();
        below.iter().for_each(|image| collect(layout, image, images));
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let layers = manifest.get("config").into_iter().chain(&layers).map(|layer| Descriptor {
            digest: digest(layer),
            size: layer["size"].as_u64().unwrap(),
            media_type: layer["mediaType"].as_str().unwrap().to_owned(),
        });
        images.push(NewImage {
            digest: digest(descriptor),
            media_type: descriptor["mediaType"].as_str().unwrap().to_owned(),
            size: bytes.len() as u64,
            layers: layers.collect(),
            absent_layers: Vec::new(),
            images: below.iter().map(digest).collect(),
            upstream: None,
        });
    }
    let index = std::fs::read(format!("{}/index.json", layout.path())).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let mut images = Vec::new();
    collect(layout, &index["manifests"][0], &mut images);
    images
}

pub fn repository(name: &str) -> Repository {
    let name = RepositoryName::parse(name).unwrap();
    Repository { registry: RegistryId::parse(ACCOUNT).unwrap(), name }
}
