//! The table's keys. [`catalog`](super) describes them.

use super::ImageId;
use super::fill::Wanted;
use super::id::UniqueId;
use crate::types::{Digest, ImageTag, RegistryId, Repository, RulePrefix};

/// A partition key and a sort key.
pub(super) type Key = (String, String);

/// The sort key of a layer's record.
pub(super) const LAYER: &str = "layer";

pub(super) const CLEANER_PREFIX: &str = "cleaning#";
pub(super) const IMAGE_PREFIX: &str = "image#";
pub(super) const INDEX_PREFIX: &str = "index#";
pub(super) const INTENT_PREFIX: &str = "publishing#";
pub(super) const LAYER_PREFIX: &str = "layer#";
pub(super) const REPOSITORY_PREFIX: &str = "repository#";
pub(super) const RULE_PREFIX: &str = "pull-through#";
pub(super) const TAG_PREFIX: &str = "tag#";

pub(super) fn layer_partition(repository: &Repository, layer: &Digest) -> String {
    format!("layer#{repository}@{}", layer.canonical())
}

pub(super) fn layer(repository: &Repository, layer: &Digest) -> Key {
    (layer_partition(repository, layer), LAYER.to_owned())
}

pub(super) fn reference(repository: &Repository, layer: &Digest, image: &Digest) -> Key {
    (layer_partition(repository, layer), format!("reference#{}", image.canonical()))
}

pub(super) fn image_partition(repository: &Repository, image: &Digest) -> String {
    format!("image#{repository}@{}", image.canonical())
}

pub(super) fn image(repository: &Repository, image: &Digest) -> Key {
    (image_partition(repository, image), "image".to_owned())
}

pub(super) fn index_of_image(repository: &Repository, image: &Digest, index: &Digest) -> Key {
    (image_partition(repository, image), format!("{INDEX_PREFIX}{}", index.canonical()))
}

pub(super) fn tag_of_image(repository: &Repository, image: &Digest, tag: &ImageTag) -> Key {
    (image_partition(repository, image), format!("{TAG_PREFIX}{tag}"))
}

pub(super) fn tag(repository: &Repository, tag: &ImageTag) -> Key {
    (format!("tag#{repository}:{tag}"), "tag".to_owned())
}

pub(super) fn repository_partition(repository: &Repository) -> String {
    format!("repository#{repository}")
}

pub(super) fn repository(repository: &Repository) -> Key {
    (repository_partition(repository), "repository".to_owned())
}

pub(super) fn image_listing(repository: &Repository, image: &Digest) -> Key {
    (repository_partition(repository), format!("{IMAGE_PREFIX}{}", image.canonical()))
}

pub(super) fn tag_listing(repository: &Repository, image: &Digest, tag: &ImageTag) -> Key {
    (repository_partition(repository), format!("{IMAGE_PREFIX}{}#{TAG_PREFIX}{tag}", image.canonical()))
}

/// A key, of no row, after those of the image's and its tags in the listing, and before those of any other image.
pub(super) fn end_of_image_listing(repository: &Repository, image: &Digest) -> Key {
    (repository_partition(repository), format!("{IMAGE_PREFIX}{}$", image.canonical()))
}

/// The rows of a repository's listing that are its tags, in the order of their names.
pub(super) fn tag_name_listing(repository: &Repository, tag: &ImageTag) -> Key {
    (repository_partition(repository), format!("{TAG_PREFIX}{tag}"))
}

pub(super) fn layer_listing(repository: &Repository, layer: &Digest) -> Key {
    (repository_partition(repository), format!("{LAYER_PREFIX}{}", layer.canonical()))
}

pub(super) fn registry_partition(registry: &RegistryId) -> String {
    format!("registry#{registry}")
}

pub(super) fn repository_listing(repository: &Repository) -> Key {
    (registry_partition(&repository.registry), format!("{REPOSITORY_PREFIX}{}", repository.name))
}

/// A row of an intent, counted from 0.
pub(super) fn intent(registry: &RegistryId, id: UniqueId, row: usize) -> Key {
    let first = format!("{INTENT_PREFIX}{id}");
    (registry_partition(registry), if row == 0 { first } else { format!("{first}#{row}") })
}

pub(super) fn cleaner(registry: &RegistryId, id: UniqueId) -> Key {
    (registry_partition(registry), format!("{CLEANER_PREFIX}{id}"))
}

pub(super) fn claim(registry: &RegistryId, id: UniqueId) -> Key {
    (registry_partition(registry), format!("{CLEANER_PREFIX}{id}#claim"))
}

pub(super) fn cleaning_position(registry: &RegistryId) -> Key {
    (registry_partition(registry), "position".to_owned())
}

pub(super) fn rule(registry: &RegistryId, prefix: &RulePrefix) -> Key {
    (registry_partition(registry), format!("{RULE_PREFIX}{prefix}"))
}

/// A digest may be asked for as a layer and as an image, which are two fills.
pub(super) fn fill(repository: &Repository, wanted: &Wanted) -> Key {
    let (name, kind) = match wanted {
        Wanted::Layer(digest) => (format!("@{}", digest.canonical()), "layer"),
        Wanted::Image(ImageId::Digest(digest)) => (format!("@{}", digest.canonical()), "image"),
        Wanted::Image(ImageId::Tag(tag)) => (format!(":{tag}"), "image"),
    };
    (format!("fill#{repository}{name}"), kind.to_owned())
}

pub(super) fn layout() -> Key {
    ("table".to_owned(), "layout".to_owned())
}
