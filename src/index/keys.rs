//! The table's keys that only the tool needs. The table itself is described in [`index`](super).

use super::{Key, LAYER, layer_partition, repository_partition};
use crate::types::{Digest, RegistryId, Repository};

pub(super) fn registry_partition(registry: &RegistryId) -> String {
    format!("registry#{registry}")
}

pub(super) fn repository_listing(repository: &Repository) -> Key {
    (registry_partition(&repository.registry), format!("repository#{}", repository.name))
}

pub(super) fn image(repository: &Repository, image: &Digest) -> Key {
    (repository_partition(repository), format!("image#{}", image.canonical()))
}

pub(super) fn tag(repository: &Repository, tag: &str) -> Key {
    (repository_partition(repository), format!("tag#{tag}"))
}

pub(super) fn layer_listing(repository: &Repository, layer: &Digest) -> Key {
    (repository_partition(repository), format!("layer#{}", layer.canonical()))
}

pub(super) fn layer(repository: &Repository, layer: &Digest) -> Key {
    (layer_partition(repository, layer), LAYER.to_owned())
}

pub(super) fn reference(repository: &Repository, layer: &Digest, image: &Digest) -> Key {
    (layer_partition(repository, layer), format!("reference#{}", image.canonical()))
}
