//! Parses manifests: the blobs of an image, or the images of an index.
//!
//! Source: [OCI image
//! specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md).

use oci_spec::image::{ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use layergate_core::types::{Descriptor, Digest};

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

/// A manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// What it names.
    pub content: Content,
}

/// The content of a manifest.
#[derive(Debug, Clone)]
pub enum Content {
    /// The config blob and the layers of an image, each once.
    Image(Vec<Blob>),
    /// The images of an index, each once. They may be indexes themselves.
    Index(Vec<IndexEntry>),
}

/// A blob of an image.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What names it.
    pub descriptor: Descriptor,
    /// Whether the layer must not be redistributed. Then it may be missing where the image is, and
    /// clients download it from somewhere else.
    pub is_foreign: bool,
}

/// An image of an index. Its digest is one that can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// What names its manifest.
    pub descriptor: Descriptor,
    /// What the image runs on, such as `linux/arm64`, for error sentences.
    pub platform: Option<String>,
}

/// Why a manifest cannot be used. `Display` follows the manifest's name. It may quote the manifest,
/// up to 200 characters of each value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON, or not of the form that its media type means.
    #[error("cannot be used: {:.200}", .0.to_string())]
    NotJson(#[from] serde_json::Error),
    /// Its own media type is not the one by which it is referenced. Clients would read it
    /// differently.
    #[error("says that it is '{own:.200}', and what names it says '{given:.200}'")]
    OtherMediaType {
        /// What it says itself.
        own: String,
        /// What was said about it.
        given: String,
    },
    /// It is neither an image nor an index.
    #[error("has the media type '{0:.200}', which is neither an image's nor an index's")]
    UnknownMediaType(String),
    /// It contains a digest with an unknown algorithm or a wrong length.
    #[error(
        "has the digest '{0:.200}', which cannot be verified; it must be a sha256 or sha512 digest"
    )]
    UnverifiableDigest(String),
    /// It has the same blob with two sizes.
    #[error("gives the blob {0} two sizes")]
    TwoSizes(Digest),
}

impl Manifest {
    /// Parses a manifest. `media_type` is that of an index's descriptor or of a registry's answer. If
    /// the manifest contains a media type, it must be the same. The caller verifies the digest.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, Error> {
        let content = if IMAGES.contains(&media_type) {
            let manifest: ImageManifest = parse(bytes)?;
            check_media_type(manifest.media_type().as_ref(), media_type)?;
            let mut blobs = Vec::new();
            for descriptor in std::iter::once(manifest.config()).chain(manifest.layers()) {
                add_blob(&mut blobs, descriptor)?;
            }
            Content::Image(blobs)
        } else if is_index(media_type) {
            let index: ImageIndex = parse(bytes)?;
            check_media_type(index.media_type().as_ref(), media_type)?;
            let mut images: Vec<IndexEntry> = Vec::new();
            for descriptor in index.manifests() {
                let image = IndexEntry::try_from(descriptor)?;
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

impl TryFrom<&oci_spec::image::Descriptor> for IndexEntry {
    type Error = Error;

    /// Takes a descriptor whose digest can be verified.
    fn try_from(descriptor: &oci_spec::image::Descriptor) -> Result<Self, Error> {
        let platform = descriptor.platform().as_ref();
        Ok(Self {
            descriptor: Descriptor {
                digest: verifiable(descriptor)?,
                size: descriptor.size(),
                media_type: descriptor.media_type().to_string(),
            },
            platform: platform
                .map(|platform| format!("{}/{}", platform.os(), platform.architecture())),
        })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Ok(serde_json::from_slice(bytes)?)
}

fn check_media_type(own: Option<&oci_spec::image::MediaType>, given: &str) -> Result<(), Error> {
    match own {
        Some(own) if own.as_ref() != given => {
            Err(Error::OtherMediaType { own: own.to_string(), given: given.to_owned() })
        }
        _ => Ok(()),
    }
}

fn add_blob(blobs: &mut Vec<Blob>, descriptor: &oci_spec::image::Descriptor) -> Result<(), Error> {
    let (digest, size) = (verifiable(descriptor)?, descriptor.size());
    let media_type = descriptor.media_type().to_string();
    let is_foreign = media_type.contains(".nondistributable.") || media_type.contains(".foreign.");
    match blobs.iter_mut().find(|known| known.descriptor.digest == digest) {
        Some(known) if known.descriptor.size != size => return Err(Error::TwoSizes(digest)),
        Some(known) => known.is_foreign &= is_foreign, // foreign only if all its descriptors say so
        None => {
            blobs.push(Blob { descriptor: Descriptor { digest, size, media_type }, is_foreign })
        }
    }
    Ok(())
}

fn verifiable(descriptor: &oci_spec::image::Descriptor) -> Result<Digest, Error> {
    let value = descriptor.digest().as_ref();
    let digest = Digest::parse(value).ok().filter(Digest::is_verifiable);
    digest.ok_or_else(|| Error::UnverifiableDigest(value.to_owned()))
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
                (images[0].descriptor.size, images[0].platform.as_deref()),
                (10, Some("linux/arm64"))
            );
            assert_eq!(
                (images[1].descriptor.media_type.as_str(), images[1].platform.as_deref()),
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
                "missing field",
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
                "cannot be used",
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
