//! The table's keys: how they are written, and how the sort keys of listings are read.
//! [`catalog`](super) describes them.

use super::id::UniqueId;
use super::item::{Item, string};
use crate::fault::Fault;
use crate::types::{
    Digest, ImageId, ImageTag, RegistryId, Repository, RepositoryName, RulePrefix, Wanted,
};

/// A partition key and a sort key.
pub(super) type Key = (String, String);

/// The sort key of a layer's record.
pub(super) const LAYER: &str = "layer";

/// The sort keys of an image's and of a repository's record.
const IMAGE: &str = "image";
const REPOSITORY: &str = "repository";

const CLAIM_SUFFIX: &str = "#claim";
const CLEANING_POSITION: &str = "position";
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
    (image_partition(repository, image), IMAGE.to_owned())
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
    (repository_partition(repository), REPOSITORY.to_owned())
}

pub(super) fn image_listing(repository: &Repository, image: &Digest) -> Key {
    (repository_partition(repository), format!("{IMAGE_PREFIX}{}", image.canonical()))
}

pub(super) fn tag_listing(repository: &Repository, image: &Digest, tag: &ImageTag) -> Key {
    (
        repository_partition(repository),
        format!("{IMAGE_PREFIX}{}#{TAG_PREFIX}{tag}", image.canonical()),
    )
}

/// An exclusive start key. It sorts after this image's rows and before the next image's; no row has
/// it.
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
    (registry_partition(registry), format!("{CLEANER_PREFIX}{id}{CLAIM_SUFFIX}"))
}

pub(super) fn cleaning_position(registry: &RegistryId) -> Key {
    (registry_partition(registry), CLEANING_POSITION.to_owned())
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

/// What a row of a repository's partition is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RepositoryRow {
    /// The repository itself.
    Repository,
    /// An image of the repository.
    Image(Digest),
    /// A tag of an image.
    TagOfImage(Digest, ImageTag),
    /// A layer that has a record.
    Layer(Digest),
    /// A tag of the repository.
    Tag(ImageTag),
}

impl RepositoryRow {
    /// Reads the sort key of a row.
    pub(super) fn of(row: &Item) -> Result<Self, Fault> {
        let sk = string(row, "sk")?;
        let read = || {
            if let Some(image) = sk.strip_prefix(IMAGE_PREFIX) {
                return Some(match image.split_once('#') {
                    None => Self::Image(Digest::parse(image).ok()?),
                    Some((image, tag)) => Self::TagOfImage(
                        Digest::parse(image).ok()?,
                        ImageTag::parse(tag.strip_prefix(TAG_PREFIX)?).ok()?,
                    ),
                });
            }
            if let Some(layer) = sk.strip_prefix(LAYER_PREFIX) {
                return Some(Self::Layer(Digest::parse(layer).ok()?));
            }
            if let Some(tag) = sk.strip_prefix(TAG_PREFIX) {
                return Some(Self::Tag(ImageTag::parse(tag).ok()?));
            }
            (sk == REPOSITORY).then_some(Self::Repository)
        };
        read().ok_or(Fault::BrokenRecord("sk"))
    }
}

/// The digits of the digest in a listing's sort key that begins with `prefix`; `None` if it is the
/// row of an image's tag. Cheaper than [`RepositoryRow::of`], for a cleaner that reads all listings
/// of a registry side by side.
pub(super) fn digits_in_listing<'a>(row: &'a Item, prefix: &str) -> Result<Option<&'a str>, Fault> {
    let digits = string(row, "sk")?.strip_prefix(prefix).ok_or(Fault::BrokenRecord("sk"))?;
    Ok(Some(digits).filter(|digits| !digits.contains('#')))
}

/// What a row of an image's partition is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ImageRow {
    /// The image itself.
    Image,
    /// An index that names the image.
    Index(Digest),
    /// A tag that names the image.
    Tag(ImageTag),
}

impl ImageRow {
    /// Reads the sort key of a row.
    pub(super) fn of(row: &Item) -> Result<Self, Fault> {
        let sk = string(row, "sk")?;
        let read = || {
            if let Some(index) = sk.strip_prefix(INDEX_PREFIX) {
                return Some(Self::Index(Digest::parse(index).ok()?));
            }
            if let Some(tag) = sk.strip_prefix(TAG_PREFIX) {
                return Some(Self::Tag(ImageTag::parse(tag).ok()?));
            }
            (sk == IMAGE).then_some(Self::Image)
        };
        read().ok_or(Fault::BrokenRecord("sk"))
    }
}

/// What a row of a registry's partition is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RegistryRow {
    /// A repository of the registry.
    Repository(RepositoryName),
    /// A pull through cache rule.
    Rule(RulePrefix),
    /// A row of an intent.
    Intent(UniqueId),
    /// A cleaner.
    Cleaner(UniqueId),
    /// What that cleaner has claimed.
    Claim(UniqueId),
    /// Where the scheduled cleaning goes on.
    CleaningPosition,
}

impl RegistryRow {
    /// Reads the sort key of a row.
    pub(super) fn of(row: &Item) -> Result<Self, Fault> {
        let sk = string(row, "sk")?;
        let read = || {
            if let Some(name) = sk.strip_prefix(REPOSITORY_PREFIX) {
                return Some(Self::Repository(RepositoryName::parse(name).ok()?));
            }
            if let Some(prefix) = sk.strip_prefix(RULE_PREFIX) {
                return Some(Self::Rule(RulePrefix::parse(prefix).ok()?));
            }
            if let Some(intent) = sk.strip_prefix(INTENT_PREFIX) {
                let id = intent.split_once('#').map_or(intent, |(id, _)| id);
                return Some(Self::Intent(id.parse().ok()?));
            }
            if let Some(cleaner) = sk.strip_prefix(CLEANER_PREFIX) {
                return Some(match cleaner.strip_suffix(CLAIM_SUFFIX) {
                    Some(id) => Self::Claim(id.parse().ok()?),
                    None => Self::Cleaner(cleaner.parse().ok()?),
                });
            }
            (sk == CLEANING_POSITION).then_some(Self::CleaningPosition)
        };
        read().ok_or(Fault::BrokenRecord("sk"))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    fn row((_, sk): Key) -> Item {
        Item::from([("sk".to_owned(), AttributeValue::S(sk))])
    }

    #[test]
    fn what_is_written_is_read() {
        let registry = RegistryId::parse("123456789012").expect("an account");
        let name = RepositoryName::parse("team/app").expect("a name");
        let at = &Repository { registry: registry.clone(), name: name.clone() };
        let (one, other) =
            (Digest::parse("sha256:00").expect("one"), Digest::parse("sha512:11").expect("one"));
        let tag = &ImageTag::parse("v1.0_a-b").expect("a tag");
        let prefix = RulePrefix::parse("docker-hub/library").expect("a prefix");
        let id = UniqueId::draw();

        let of_repository = [
            (repository(at), RepositoryRow::Repository),
            (image_listing(at, &one), RepositoryRow::Image(one.clone())),
            (tag_listing(at, &one, tag), RepositoryRow::TagOfImage(one.clone(), tag.clone())),
            (layer_listing(at, &other), RepositoryRow::Layer(other.clone())),
            (tag_name_listing(at, tag), RepositoryRow::Tag(tag.clone())),
        ];
        for (key, expected) in of_repository {
            assert_eq!(RepositoryRow::of(&row(key)).expect("a row"), expected);
        }
        let of_image = [
            (image(at, &one), ImageRow::Image),
            (index_of_image(at, &one, &other), ImageRow::Index(other.clone())),
            (tag_of_image(at, &one, tag), ImageRow::Tag(tag.clone())),
        ];
        for (key, expected) in of_image {
            assert_eq!(ImageRow::of(&row(key)).expect("a row"), expected);
        }
        let of_registry = [
            (repository_listing(at), RegistryRow::Repository(name)),
            (rule(&registry, &prefix), RegistryRow::Rule(prefix)),
            (intent(&registry, id, 0), RegistryRow::Intent(id)),
            (intent(&registry, id, 12), RegistryRow::Intent(id)),
            (cleaner(&registry, id), RegistryRow::Cleaner(id)),
            (claim(&registry, id), RegistryRow::Claim(id)),
            (cleaning_position(&registry), RegistryRow::CleaningPosition),
        ];
        for (key, expected) in of_registry {
            assert_eq!(RegistryRow::of(&row(key)).expect("a row"), expected);
        }
        let broken = [
            "",
            "image#",
            "image#sha256:00#v1",
            "tag#a b",
            "layer#7",
            "cleaning#x",
            "publishing#",
            "other",
        ];
        for sk in broken {
            let row = row((String::new(), sk.to_owned()));
            assert!(RepositoryRow::of(&row).is_err() && ImageRow::of(&row).is_err(), "{sk}");
            assert!(RegistryRow::of(&row).is_err(), "{sk}");
        }
    }
}
