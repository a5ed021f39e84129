//! `layergate image`.

use std::fmt;

use layergate_core::catalog::ImageDeletion;
use layergate_core::catalog::list::ListedImage;
use layergate_core::role::Publisher;
use layergate_core::types::{Digest, ImageId, Repository, RepositoryName};
use serde::Serialize;

use crate::error::Error;
use crate::output::Format;
use crate::reference::{ImageReference, repository_name};
use crate::session::{Session, no_such_repository};

/// The commands for images.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the images of a repository
    List {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
    },
    /// Delete an image, or only the given tag while the image has others
    ///
    /// As in ECR, an image is deleted with its last tag. When you delete an index, its images are
    /// deleted too, except those that a tag or another index names. 'layergate clean' deletes the
    /// layers from S3.
    Delete {
        /// The image to delete, by its tag or its digest
        #[arg(value_name = "REPOSITORY[@DIGEST|:TAG]")]
        reference: ImageReference,
    },
}

/// The head of a list of images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    registry_id: String,
    repository_name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    image_digest: String,
    image_tags: Vec<String>,
    image_manifest_media_type: String,
    /// In seconds since 1970; null if its publishing or its deletion is not complete.
    image_pushed_at: Option<u64>,
    layer_digests: Vec<String>,
    /// The images of an index.
    image_digests: Vec<String>,
}

impl From<ListedImage> for Image {
    fn from(image: ListedImage) -> Self {
        Self {
            image_digest: image.digest.to_string(),
            image_tags: image.tags.iter().map(ToString::to_string).collect(),
            image_manifest_media_type: image.media_type,
            image_pushed_at: image.pushed_at,
            layer_digests: image.layers.iter().map(Digest::to_string).collect(),
            image_digests: image.images.iter().map(Digest::to_string).collect(),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.image_digests.len() {
            0 => format!("{} layers", self.layer_digests.len()),
            n => format!("index of {n} images"),
        };
        let unfinished = if self.image_pushed_at.is_none() { " unfinished" } else { "" };
        writeln!(f, "{} {kind}{unfinished} {}", self.image_digest, self.image_tags.join(","))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    registry_id: String,
    repository_name: String,
    /// The tag, if only the tag was removed.
    image_tag: Option<String>,
    image_digests: Vec<String>,
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image_tag {
            Some(tag) => {
                writeln!(f, "deleted the tag {}:{tag}; its image has others", self.repository_name)
            }
            None => self
                .image_digests
                .iter()
                .try_for_each(|digest| writeln!(f, "deleted {}@{digest}", self.repository_name)),
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, format: Format) -> Result<(), Error> {
    let session = Session::<Publisher>::open().await?;
    match command {
        Command::List { name } => list(&session, session.repository(name), format).await,
        Command::Delete { reference } => {
            let repository = session.repository(reference.repository);
            format.print(&delete(&session, repository, &reference.image).await?)
        }
    }
}

async fn list(
    session: &Session<Publisher>,
    repository: Repository,
    format: Format,
) -> Result<(), Error> {
    if session.catalog.repository(&repository).await?.is_none() {
        return Err(no_such_repository(&repository));
    }
    let mut images = session.catalog.images(&repository);
    let head = Head {
        registry_id: repository.registry.to_string(),
        repository_name: repository.name.to_string(),
    };
    let mut list = format.begin_list(&head, "images")?;
    while let Some(image) = images.next().await?
        && list.print(&Image::from(image))?
    {}
    list.end(&format!(
        "there are no images in '{}', registry {}",
        repository.name, repository.registry
    ))
}

async fn delete(
    session: &Session<Publisher>,
    repository: Repository,
    image: &ImageId,
) -> Result<Deleted, Error> {
    let (image_tag, images) = match (session.catalog.delete_image(&repository, image).await?, image)
    {
        (ImageDeletion::Deleted(images), _) => (None, images),
        (ImageDeletion::Untagged(tag), _) => (Some(tag.to_string()), Vec::new()),
        (ImageDeletion::NoImage, image) => {
            let what = match image {
                ImageId::Digest(digest) => digest.to_string(),
                ImageId::Tag(tag) => format!("with the tag '{tag}'"),
            };
            return Err(Error::NotFound(format!(
                "there is no image {what} in '{}'; 'layergate image list {}' lists them",
                repository.name, repository.name
            )));
        }
        (ImageDeletion::NoRepository, _) => return Err(no_such_repository(&repository)),
        (ImageDeletion::PartOf { image, index }, _) => {
            return Err(Error::Conflict(format!(
                "the image {image} belongs to the index {index}; delete the index to delete both"
            )));
        }
    };
    Ok(Deleted {
        registry_id: repository.registry.to_string(),
        repository_name: repository.name.to_string(),
        image_tag,
        image_digests: images.iter().map(Digest::to_string).collect(),
    })
}
