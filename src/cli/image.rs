//! `layergate image`.

use std::fmt;

use layergate::index::contents::{Contents, ImageRecord};
use layergate::index::delete::{ImageDeletion, ImageId};
use layergate::types::{Digest, Repository, RepositoryName};
use serde::Serialize;

use crate::error::Error;
use crate::output::Format;
use crate::reference::{ImageReference, repository_name};
use crate::session::{Session, no_such_repository};

/// What to do with images.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the images of a repository
    List {
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
    },
    /// Delete an image, or one of its tags if it has more: as in ECR, an image goes with its last tag.
    /// The images of an index go with it
    Delete {
        #[arg(value_name = "REPOSITORY[@DIGEST|:TAG]")]
        reference: ImageReference,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    registry_id: String,
    repository_name: String,
    images: Vec<Image>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    image_digest: String,
    image_tags: Vec<String>,
    image_manifest_media_type: String,
    /// In seconds since 1970; null if publishing or deleting it did not end.
    image_pushed_at: Option<u64>,
    layer_digests: Vec<String>,
    /// The images of an index.
    image_digests: Vec<String>,
}

impl Image {
    fn new(record: &ImageRecord, contents: &Contents) -> Self {
        Self {
            image_digest: record.digest.to_string(),
            image_tags: contents.tags_of(&record.digest).map(str::to_owned).collect(),
            image_manifest_media_type: record.media_type.clone(),
            image_pushed_at: record.pushed_at,
            layer_digests: record.layers.iter().map(Digest::to_string).collect(),
            image_digests: record.images.iter().map(Digest::to_string).collect(),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in &self.images {
            let kind = match image.image_digests.len() {
                0 => format!("{} layers", image.layer_digests.len()),
                n => format!("index of {n} images"),
            };
            let unfinished = if image.image_pushed_at.is_none() { " unfinished" } else { "" };
            let tags = image.image_tags.join(",");
            writeln!(f, "{} {kind}{unfinished} {tags}", image.image_digest)?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    registry_id: String,
    repository_name: String,
    /// The tag, if only that was taken off.
    image_tag: Option<String>,
    image_digests: Vec<String>,
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image_tag {
            Some(tag) => writeln!(f, "deleted the tag {}:{tag}; its image has others", self.repository_name),
            None => self
                .image_digests
                .iter()
                .try_for_each(|digest| writeln!(f, "deleted {}@{digest}", self.repository_name)),
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, format: Format) -> Result<(), Error> {
    let session = Session::open().await?;
    match command {
        Command::List { name } => {
            let repository = session.repository(name);
            let contents = session.index.contents(&repository).await?;
            if contents.record.is_none() {
                return Err(no_such_repository(&repository));
            }
            format.print(&Listing {
                registry_id: repository.registry.to_string(),
                repository_name: repository.name.to_string(),
                images: contents.images.iter().map(|image| Image::new(image, &contents)).collect(),
            })
        }
        Command::Delete { reference } => {
            let repository = session.repository(reference.repository);
            format.print(&delete(&session, repository, &reference.image).await?)
        }
    }
}

async fn delete(session: &Session, repository: Repository, image: &ImageId) -> Result<Deleted, Error> {
    let (image_tag, images) = match (session.index.delete_image(&repository, image).await?, image) {
        (ImageDeletion::Done(images), _) => (None, images),
        (ImageDeletion::Untagged(tag), _) => (Some(tag.to_string()), Vec::new()),
        (ImageDeletion::Missing, image) => {
            let what = match image {
                ImageId::Digest(digest) => digest.to_string(),
                ImageId::Tag(tag) => format!("with the tag '{tag}'"),
            };
            return Err(Error::NotFound(format!(
                "there is no image {what} in '{}'; see 'layergate image list {}'",
                repository.name, repository.name
            )));
        }
        (ImageDeletion::NoRepository, _) => return Err(no_such_repository(&repository)),
        (ImageDeletion::PartOf { image, index }, _) => {
            return Err(Error::Conflict(format!(
                "the image {image} belongs to the index {index}; delete that, and this goes with it"
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
