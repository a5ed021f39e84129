//! What an image or an index consists of, by its manifest. Nothing is fetched.
//!
//! Source: [OCI image
//! specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md).

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use layergate_core::types::{self, Digest};

/// The media types of images, as OCI and docker call them.
const IMAGES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The media types of indexes.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// What an image's manifest must not have: members of an index, and of docker's first form.
const NOT_OF_IMAGES: [&str; 2] = ["manifests", "fsLayers"];

/// What an index must not have: members of an image's manifest, and of docker's first form.
const NOT_OF_INDEXES: [&str; 3] = ["config", "layers", "fsLayers"];

/// A manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// What it names.
    pub content: Content,
}

/// What a manifest names.
#[derive(Debug, Clone)]
pub enum Content {
    /// An image: the config blob and the layers, each once.
    Image(Vec<Blob>),
    /// An index: the images, each once. They may be indexes themselves.
    Index(Vec<IndexEntry>),
}

/// A blob of an image.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What names it.
    pub descriptor: types::Descriptor,
    /// Whether it may not be redistributed: it need not be where the image is, and pullers download
    /// it elsewhere.
    pub is_foreign: bool,
}

/// An image of an index. Its digest is one that can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// What names its manifest.
    pub descriptor: types::Descriptor,
    /// What the image runs on, if the index says so.
    pub platform: Option<Platform>,
}

/// What an image runs on, such as `linux/arm/v7`: the names are those of Go's `GOOS` and `GOARCH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The CPU.
    pub architecture: String,
    /// The CPU's variant, if the image needs one.
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A descriptor, as a document has it. What is optional may also be null.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawDescriptor {
    /// The media type of what it names.
    pub media_type: String,
    /// The digest, which need not be one.
    pub digest: String,
    /// How many bytes what it names has.
    pub size: u64,
    platform: Option<RawPlatform>,
    annotations: Option<HashMap<String, Option<String>>>,
}

/// A platform, as an index has it: in practice each of its members may be missing.
#[derive(Debug, Clone, Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

/// An index, as it is written: a manifest, or the `index.json` of a layout. It may say `null` for
/// no images, or nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawIndex {
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
}

/// An image's manifest, as it is written. It may say `null` for no layers, or nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage {
    media_type: Option<String>,
    config: RawDescriptor,
    layers: Option<Vec<RawDescriptor>>,
}

/// Why a manifest cannot be used. `Display` follows the manifest's name. It repeats words of the
/// manifest, no more than 200 characters of each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON, or not in the form that its media type promises.
    #[error("cannot be used: {:.200}", .0.to_string())]
    NotJson(#[from] serde_json::Error),
    /// It has another media type than what names it says. Readers would not agree on what it is.
    #[error("says that it is '{own:.200}', and what names it says '{given:.200}'")]
    OtherMediaType {
        /// What it says itself.
        own: String,
        /// What was said about it.
        given: String,
    },
    /// It has a member that readers do not agree about: one of an index in an image's manifest, or
    /// the other way round (CVE-2021-41190); or a name in other letters, which some readers take
    /// for the right one.
    #[error("has the member '{0:.200}', by which it could be read as something else")]
    Ambiguous(String),
    /// It is neither an image nor an index.
    #[error("has the media type '{0:.200}', which is neither an image's nor an index's")]
    UnknownMediaType(String),
    /// It names a digest that no bytes can have, or that nobody can compute.
    #[error(
        "has the digest '{0:.200}', which cannot be verified; it must be a sha256 or sha512 digest"
    )]
    UnverifiableDigest(String),
    /// It names a blob more than once, and with different sizes.
    #[error("gives the blob {0} two sizes")]
    TwoSizes(Digest),
}

impl Manifest {
    /// Parses the bytes of a manifest of this media type: of an index's descriptor, or by a
    /// registry's word. A manifest need not say its media type itself; if it does, it has to be the
    /// same. The bytes' digest is not verified here.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, Error> {
        let content = if IMAGES.contains(&media_type) {
            check_members(bytes, &NOT_OF_IMAGES, &["mediaType", "config", "layers"])?;
            let manifest: RawImage = serde_json::from_slice(bytes)?;
            check_media_type(manifest.media_type, media_type)?;
            let mut blobs = Vec::new();
            for descriptor in
                std::iter::once(manifest.config).chain(manifest.layers.into_iter().flatten())
            {
                add_blob(&mut blobs, &descriptor)?;
            }
            Content::Image(blobs)
        } else if is_index(media_type) {
            check_members(bytes, &NOT_OF_INDEXES, &["mediaType", "manifests"])?;
            let mut index: RawIndex = serde_json::from_slice(bytes)?;
            check_media_type(index.media_type.take(), media_type)?;
            let mut images: Vec<IndexEntry> = Vec::new();
            for descriptor in index.into_manifests() {
                let image = IndexEntry::try_from(&descriptor)?;
                if !images.iter().any(|known| known.descriptor.digest == image.descriptor.digest) {
                    images.push(image);
                }
            }
            Content::Index(images)
        } else {
            return Err(Error::UnknownMediaType(media_type.to_owned()));
        };
        Ok(Self { media_type: media_type.to_owned(), content })
    }
}

/// Whether a manifest of this media type is an index.
pub fn is_index(media_type: &str) -> bool {
    INDEXES.contains(&media_type)
}

impl RawIndex {
    /// The images that it names, in its order.
    pub fn into_manifests(self) -> Vec<RawDescriptor> {
        self.manifests.unwrap_or_default()
    }
}

impl RawDescriptor {
    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name)?.as_deref()
    }

    fn to_descriptor(&self) -> Result<types::Descriptor, Error> {
        let digest = Digest::parse(&self.digest).ok().filter(Digest::is_verifiable);
        let digest = digest.ok_or_else(|| Error::UnverifiableDigest(self.digest.clone()))?;
        Ok(types::Descriptor { digest, size: self.size, media_type: self.media_type.clone() })
    }
}

impl TryFrom<&RawDescriptor> for IndexEntry {
    type Error = Error;

    /// Takes a descriptor whose digest can be verified.
    fn try_from(descriptor: &RawDescriptor) -> Result<Self, Error> {
        let platform =
            descriptor.platform.clone().and_then(|RawPlatform { os, architecture, variant }| {
                Platform::new(os?, architecture?, variant)
            });
        Ok(Self { descriptor: descriptor.to_descriptor()?, platform })
    }
}

impl Platform {
    /// A platform; `None` if the name of the system or of the CPU is empty.
    pub fn new(os: String, architecture: String, variant: Option<String>) -> Option<Self> {
        let variant = variant.filter(|variant| !variant.is_empty());
        let is_known = !os.is_empty() && !architecture.is_empty();
        is_known.then_some(Self { os, architecture, variant })
    }
}

/// Refuses a document with one of these members, even if it is null; and one with a `known` member
/// in other letters: Go's parser, which most clients use, does not look at the case.
fn check_members(bytes: &[u8], foreign: &[&str], known: &[&str]) -> Result<(), Error> {
    let members: HashMap<String, IgnoredAny> = serde_json::from_slice(bytes)?;
    let is_same = |name: &&str, member: &str| name.to_uppercase() == member.to_uppercase();
    for member in members.into_keys() {
        let is_foreign = foreign.iter().any(|name| is_same(name, &member));
        let is_known = known.iter().any(|name| is_same(name, &member) && *name != member);
        if is_foreign || is_known {
            return Err(Error::Ambiguous(member));
        }
    }
    Ok(())
}

fn check_media_type(own: Option<String>, given: &str) -> Result<(), Error> {
    match own.filter(|own| !own.is_empty() && own != given) {
        Some(own) => Err(Error::OtherMediaType { own, given: given.to_owned() }),
        None => Ok(()),
    }
}

fn add_blob(blobs: &mut Vec<Blob>, descriptor: &RawDescriptor) -> Result<(), Error> {
    let descriptor = descriptor.to_descriptor()?;
    let types::Descriptor { digest, size, media_type } = &descriptor;
    let is_foreign = media_type.contains(".nondistributable.") || media_type.contains(".foreign.");
    match blobs.iter_mut().find(|known| known.descriptor.digest == *digest) {
        Some(known) if known.descriptor.size != *size => {
            return Err(Error::TwoSizes(digest.clone()));
        }
        Some(known) => known.is_foreign &= is_foreign, // if only one of them says so, it has to be there
        None => blobs.push(Blob { descriptor, is_foreign }),
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    fn image(layers: &[Value]) -> Value {
        let config = descriptor("application/vnd.oci.image.config.v1+json", &digest('c'), 2);
        json!({"schemaVersion": 2, "config": config, "layers": layers})
    }

    fn parsed(manifest: &Value, media_type: &str) -> Result<Manifest, Error> {
        Manifest::parse(manifest.to_string().as_bytes(), media_type)
    }

    #[test]
    fn an_image_consists_of_its_config_and_its_layers_each_once() {
        let layers = [
            descriptor(OCI_LAYER, &digest('1'), 10),
            descriptor(FOREIGN_LAYER, &digest('2'), 20),
            descriptor(OCI_LAYER, &digest('1'), 10),
            descriptor(FOREIGN_LAYER, &digest('1'), 10),
            descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", &digest('3'), 30),
        ];
        for media_type in IMAGES {
            let mut manifest = image(&layers);
            for own in [Value::Null, media_type.into()] {
                manifest["mediaType"] = own;
                let Manifest { media_type: known, content } =
                    parsed(&manifest, media_type).unwrap();
                assert_eq!(known, media_type);
                let Content::Image(blobs) = content else { panic!("{content:?}") };
                let found: Vec<_> = blobs
                    .iter()
                    .map(|blob| {
                        (blob.descriptor.digest.canonical(), blob.descriptor.size, blob.is_foreign)
                    })
                    .collect();
                let expected = [
                    (digest('c'), 2, false),
                    (digest('1'), 10, false),
                    (digest('2'), 20, true),
                    (digest('3'), 30, true),
                ];
                assert_eq!(found, expected);
                assert_eq!(blobs[1].descriptor.media_type, OCI_LAYER);
            }
        }
    }

    fn platform(image: &IndexEntry) -> Option<String> {
        image.platform.as_ref().map(ToString::to_string)
    }

    #[test]
    fn what_may_be_left_out_may_be_null() {
        for layers in [json!({}), json!({"layers": null}), json!({"layers": []})] {
            let mut manifest = image(&[]);
            manifest.as_object_mut().unwrap().remove("layers");
            manifest.as_object_mut().unwrap().extend(layers.as_object().unwrap().clone());
            manifest["annotations"] = Value::Null;
            manifest["mediaType"] = Value::Null;
            let Content::Image(blobs) = parsed(&manifest, IMAGES[0]).unwrap().content else {
                panic!()
            };
            assert_eq!(blobs.len(), 1, "the config: {manifest}");
        }
        let members = [
            json!({}),
            json!({"platform": null, "annotations": null, "urls": null}),
            json!({"platform": {}}),
            json!({"platform": {"os": "", "architecture": ""}}),
            json!({"platform": {"os": null, "architecture": "amd64"}}),
            json!({"annotations": {"a": null}}),
        ];
        for members in members {
            let mut entry = descriptor(IMAGES[0], &digest('1'), 10);
            entry.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let index = json!({"schemaVersion": 2, "manifests": [entry]});
            let Content::Index(images) = parsed(&index, INDEXES[0]).unwrap().content else {
                panic!()
            };
            assert_eq!((images.len(), &images[0].platform), (1, &None), "{members}");
        }
        for index in [json!({"schemaVersion": 2}), json!({"schemaVersion": 2, "manifests": null})] {
            let Content::Index(images) = parsed(&index, INDEXES[0]).unwrap().content else {
                panic!()
            };
            assert_eq!(images, [], "{index}");
        }
    }

    /// CVE-2021-41190, and what else one reader takes for one thing and another for another.
    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let index = || json!({"schemaVersion": 2, "manifests": []});
        let with = |mut document: Value, member: &str, value: Value| {
            document[member] = value;
            document
        };
        let cases = [
            (with(image(&[]), "manifests", json!([])), IMAGES[0], "manifests"),
            (with(image(&[]), "manifests", Value::Null), IMAGES[0], "manifests"),
            (with(image(&[]), "Manifests", json!([])), IMAGES[1], "Manifests"),
            (with(image(&[]), "fsLayers", json!([])), IMAGES[1], "fsLayers"),
            (with(image(&[]), "Layers", json!([])), IMAGES[0], "Layers"),
            (with(image(&[]), "layer\u{17f}", json!([])), IMAGES[0], "layer\u{17f}"),
            (with(image(&[]), "mediatype", json!(INDEXES[0])), IMAGES[0], "mediatype"),
            (with(index(), "layers", json!([])), INDEXES[0], "layers"),
            (with(index(), "config", json!({})), INDEXES[1], "config"),
            (with(index(), "fslayers", json!([])), INDEXES[0], "fslayers"),
            (with(index(), "MANIFESTS", json!([])), INDEXES[0], "MANIFESTS"),
        ];
        for (document, media_type, member) in cases {
            let error = parsed(&document, media_type).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("has the member '{member}'")),
                "{document}: {error}"
            );
        }
        let twice = br#"{"schemaVersion": 2, "manifests": [], "manifests": null}"#;
        let error = Manifest::parse(twice, INDEXES[0]).unwrap_err();
        assert!(error.to_string().contains("duplicate"), "{error}");
    }

    #[test]
    fn an_index_consists_of_its_images() {
        let mut arm = descriptor(IMAGES[0], &digest('1'), 10);
        arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
        let nested = descriptor(INDEXES[0], &digest('2'), 20);
        for media_type in INDEXES {
            let index = json!({"schemaVersion": 2, "manifests": [arm.clone(), nested.clone(), arm.clone()]});
            let Content::Index(images) = parsed(&index, media_type).unwrap().content else {
                panic!()
            };
            assert_eq!(images.len(), 2, "each once");
            assert_eq!(images[0].descriptor.digest.to_string(), digest('1'));
            assert_eq!(
                (images[0].descriptor.size, platform(&images[0]).as_deref()),
                (10, Some("linux/arm64/v8"))
            );
            assert_eq!(
                (images[1].descriptor.media_type.as_str(), platform(&images[1]).as_deref()),
                (INDEXES[0], None)
            );
            assert!(
                is_index(&images[1].descriptor.media_type)
                    && !is_index(&images[0].descriptor.media_type)
            );
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_a_sentence() {
        let with = |layer: Value| image(&[layer]);
        let media_type = |own: &str| {
            let mut manifest = image(&[]);
            manifest["mediaType"] = own.into();
            manifest
        };
        let md5 = "md5:d41d8cd98f00b204e9800998ecf8427e";
        let same = |size| descriptor(OCI_LAYER, &digest('1'), size);
        let cases = [
            ("no manifest", json!({}), IMAGES[0], "cannot be used: missing field"),
            (
                "an index, said to be an image",
                json!({"schemaVersion": 2, "manifests": []}),
                IMAGES[0],
                "has the member 'manifests'",
            ),
            (
                "of docker, said to be OCI's",
                media_type(IMAGES[1]),
                IMAGES[0],
                "says that it is 'application/vnd.docker",
            ),
            (
                "of the older form",
                json!({}),
                "application/vnd.docker.distribution.manifest.v1+json",
                "neither an image's",
            ),
            ("of no media type", image(&[]), "", "has the media type '', which"),
            (
                "a digest that is none",
                with(descriptor(OCI_LAYER, "sha256:../../etc/passwd", 1)),
                IMAGES[0],
                "which cannot be verified",
            ),
            (
                "a digest that nobody checks",
                with(descriptor(OCI_LAYER, md5, 1)),
                IMAGES[0],
                "must be a sha256 or sha512",
            ),
            (
                "a size below 0",
                with(json!({"mediaType": OCI_LAYER, "digest": digest('1'), "size": -1})),
                IMAGES[0],
                "cannot be used",
            ),
            ("two sizes", image(&[same(1), same(2)]), IMAGES[0], "two sizes"),
            (
                "an image of an index",
                json!({"schemaVersion": 2, "manifests": [descriptor(IMAGES[0], md5, 1)]}),
                INDEXES[1],
                "has the digest 'md5:",
            ),
        ];
        for (description, manifest, media_type, words) in cases {
            let error = parsed(&manifest, media_type).unwrap_err().to_string();
            assert!(error.contains(words), "{description}: {error}");
        }
        let not_json = Manifest::parse(b"<html>", IMAGES[0]).unwrap_err();
        assert!(matches!(not_json, Error::NotJson(_)), "{not_json}");
        let long = parsed(&media_type(&"x".repeat(1000)), IMAGES[0]).unwrap_err().to_string();
        assert!(long.len() < 400, "{long}");
    }
}
