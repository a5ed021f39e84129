//! `layergate publish`: bytes into the store, verified, and only then records into the index.

mod upload;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use layergate::index::publish::{LayerRecord, NewImage, Step};
use layergate::types::{Digest, ImageTag, Repository};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::output::Format;
use crate::reference::TagReference;
use crate::session::{Session, no_such_repository};
use crate::source::{Source, SourceImage};
use upload::UploadedBlob;

/// The most bytes of digests that an image may name: its record holds them, and an item of DynamoDB 400 KB.
const MOST_DIGEST_BYTES: usize = 350 * 1000;

/// Publish an image, or a multi-platform index of images
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// An OCI image layout (a directory), an OCI archive, or the output of docker save
    source: PathBuf,
    /// Where to publish it
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: TagReference,
    /// Which image of the source, by its name there or its digest, where the source holds more than one
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Create the repository if it does not exist
    #[arg(long)]
    create_repository: bool,
}

/// What was published.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    registry_id: String,
    repository_name: String,
    image_digest: String,
    image_tag: Option<String>,
    /// The images of the index, if it is one.
    images: Vec<String>,
    layers: Vec<UploadedBlob>,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.image_tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        writeln!(f, "published {}{tag} as {}", self.repository_name, self.image_digest)
    }
}

/// Runs the command. When `interruption` is cancelled it cleans up and ends.
pub async fn run(arguments: Arguments, format: Format, interruption: CancellationToken) -> Result<(), Error> {
    let session = Session::open().await?;
    let repository = session.repository(arguments.reference.repository);

    let source = open_source(arguments.source, arguments.image, &interruption).await?;
    let record = session.index.repository(&repository).await?;
    let is_missing = record.is_none();
    if record.is_some_and(|record| record.deleting.is_some()) {
        return Err(being_deleted(&repository, None));
    }
    if is_missing && !arguments.create_repository {
        return Err(no_such_repository(&repository));
    }
    let layers = upload::blobs(&session, &source, &interruption).await?;
    upload::manifests(&session, &source, &interruption).await?;
    if interruption.is_cancelled() {
        return Err(Error::Interrupted);
    }
    if is_missing {
        session.index.create_repository(&repository).await?;
    }
    // From here on nothing is slow, and stopping halfway would leave more to do than going on.
    index_images(&session, &repository, &source.images, arguments.reference.tag.as_ref()).await?;

    let mut digests: Vec<_> = source.images.iter().map(|image| image.digest.to_string()).collect();
    format.print(&Published {
        registry_id: repository.registry.to_string(),
        repository_name: repository.name.to_string(),
        image_digest: digests.pop().unwrap_or_default(),
        image_tag: arguments.reference.tag.map(|tag| tag.to_string()),
        images: digests,
        layers,
    })
}

async fn open_source(
    path: PathBuf,
    choice: Option<String>,
    interruption: &CancellationToken,
) -> Result<Arc<Source>, Error> {
    let opened = tokio::task::spawn_blocking(move || Source::open(&path, choice.as_deref()));
    let source = match interruption.run_until_cancelled(opened).await {
        None => return Err(Error::Interrupted),
        Some(opened) => opened.map_err(|error| Error::Local(error.to_string()))??,
    };
    for image in &source.images {
        let layers = image.blobs.iter().map(|blob| &blob.digest).chain(&image.absent_layers);
        let named: Vec<_> = layers.chain(&image.images).collect();
        if named.iter().map(|digest| digest.canonical().len()).sum::<usize>() > MOST_DIGEST_BYTES {
            return Err(Error::Source(format!(
                "{} names {} layers or images, more than an image's record can hold (about 4,900)",
                image.digest,
                named.len()
            )));
        }
    }
    Ok(Arc::new(source))
}

fn being_deleted(repository: &Repository, image: Option<&Digest>) -> Error {
    let what = match image {
        Some(image) => format!("the image {image} in '{}', or one of its images,", repository.name),
        None => format!("the repository '{}'", repository.name),
    };
    Error::Conflict(format!(
        "{what} is being deleted; when that has ended, publish again (a 'layergate image delete' or 'layergate \
         repository delete' that was stopped ends when it is run again)"
    ))
}

/// Makes the images visible. All their bytes are in the store.
async fn index_images(
    session: &Session,
    repository: &Repository,
    images: &[SourceImage],
    tag: Option<&ImageTag>,
) -> Result<(), Error> {
    let index = &session.index;
    for image in images {
        let gone = || being_deleted(repository, Some(&image.digest));
        let done = |step| if step == Step::Done { Ok(()) } else { Err(gone()) };
        let image = new_image(image);
        let begun = index.begin_image(repository, &image).await?.ok_or_else(gone)?;
        done(index.add_layers(&begun).await?)?;
        done(index.finish_image(&begun).await?)?;
    }
    if let (Some(image), Some(tag)) = (images.last(), tag)
        && index.tag_image(repository, &image.digest, tag).await? == Step::Gone
    {
        return Err(being_deleted(repository, Some(&image.digest)));
    }
    Ok(())
}

fn new_image(image: &SourceImage) -> NewImage {
    let layers = image.blobs.iter().map(|blob| LayerRecord {
        digest: blob.digest.clone(),
        size: blob.size,
        media_type: blob.media_type.clone(),
    });
    NewImage {
        digest: image.digest.clone(),
        media_type: image.media_type.clone(),
        size: image.manifest.len() as u64,
        layers: layers.collect(),
        absent_layers: image.absent_layers.clone(),
        images: image.images.clone(),
    }
}
