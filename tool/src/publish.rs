//! `layergate publish`: an image from files of this machine, or from another registry, into the
//! registry.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use clap::builder::{OsStringValueParser, TypedValueParser};
use futures_util::{StreamExt, stream};
use layergate_core::catalog::{Claimed, NewImage, PublishError};
use layergate_core::publish::{Event, IfStored, Publishing, UploadError, Uploads};
use layergate_core::role::Publisher;
use layergate_core::types::{Descriptor, Digest, Repository, seconds_since_1970};
use layergate_upstream as upstream;
use layergate_upstream::manifest::Platform;
use layergate_upstream::{Host, Trust};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::output::Format;
use crate::progress::Progress;
use crate::reference::{SourceReference, TagReference, host, platform};
use crate::session::{Session, no_repository_to_publish_to};
use crate::source::{self, Blob, Choice, Source, SourceImage};

/// How many blobs are worked on at once.
const BLOBS_AT_ONCE: usize = 4;

/// Publish an image or a multi-platform index
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image to publish: an OCI image layout (a directory), an OCI archive, or the output of
    /// docker save; - reads an archive from standard input; docker://HOST/NAME:TAG or
    /// docker://HOST/NAME@DIGEST copies from another registry; docker-daemon:NAME:TAG reads from
    /// the docker engine on this machine. oci:DIR[:IMAGE], oci-archive:FILE[:IMAGE] and
    /// docker-archive:FILE[:IMAGE] are also accepted, as skopeo writes them
    #[arg(value_parser = OsStringValueParser::new().try_map(SourceReference::parse))]
    source: SourceReference,
    /// The repository to publish into, and the tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: TagReference,
    /// Choose one image if SOURCE has several (name or digest)
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Publish only the image for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/CPU[/VARIANT]", value_parser = platform)]
    platform: Option<Platform>,
    /// Create the repository if it does not exist
    #[arg(long)]
    create_repository: bool,
    /// Allow this host although its address is private (the other registry's storage or its token
    /// server)
    #[arg(long, value_name = "HOST", value_parser = host)]
    allow_host: Vec<Host>,
    /// Connect to the other registry, and to the hosts of --allow-host, without TLS. The default is
    /// true for a registry at localhost or a loopback address
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    plain_http: Option<bool>,
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
    layers: Vec<PublishedLayer>,
}

/// A layer that was published.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublishedLayer {
    layer_digest: String,
    layer_size: u64,
    media_type: String,
    /// Whether it had to be sent; a registry has each blob once.
    uploaded: bool,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.image_tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        writeln!(f, "published {}{tag} as {}", self.repository_name, self.image_digest)
    }
}

/// Runs the command. When `interruption` is cancelled it cleans up and ends.
pub async fn run(
    arguments: Arguments,
    format: Format,
    interruption: CancellationToken,
) -> Result<(), Error> {
    let session = Session::<Publisher>::open().await?;
    let repository = session.repository(arguments.reference.repository);
    let record = session.catalog.repository(&repository).await?;
    let is_missing = record.is_none();
    if record.is_some_and(|record| record.deleting.is_some()) {
        return Err(repository_being_deleted(&repository));
    }
    if is_missing && !arguments.create_repository {
        return Err(no_repository_to_publish_to(&repository));
    }

    let trusted = (arguments.allow_host, arguments.plain_http);
    let choice = Choice { image: arguments.image, platform: arguments.platform };
    let source = open_source(arguments.source, choice, trusted, &interruption).await?;
    let images: Vec<_> = source.images.iter().map(new_image).collect();
    let digests = images.iter().flat_map(NewImage::digests);
    let publishing = Publishing::announce(&session.catalog, &repository, digests).await?;
    let published = async {
        let waiting = publishing.wait_for_cleaners();
        let waited = interruption.run_until_cancelled(waiting).await.ok_or(Error::Interrupted)?;
        waited.map_err(|error| refusal(&repository, error))?;
        let layers = upload_blobs(&session, &source, &interruption).await?;
        upload_manifests(&session, &source, &interruption).await?;
        if interruption.is_cancelled() {
            return Err(Error::Interrupted);
        }
        if is_missing {
            session.catalog.create_repository(&repository).await?;
        }
        // From here on nothing is slow, and stopping halfway would leave more to do than going on.
        for image in &images {
            let published = publishing.image(image).await;
            published.map_err(|error| refusal(&repository, error))?;
        }
        if let (Some(image), Some(tag)) = (images.last(), &arguments.reference.tag) {
            let tagged = publishing.tag(&image.digest, tag).await;
            tagged.map_err(|error| refusal(&repository, error))?;
        }
        Ok(layers)
    };
    let published = published.await;
    if let Err(fault) = publishing.end(matches!(published, Err(Error::Service(_)))).await {
        Progress::new().warn(&format!(
            "'layergate clean' will leave alone for a day what was published here, because it could not be told that \
             this has ended: {}",
            fault.with_causes()
        ));
    }
    let layers = published?;

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
    source: SourceReference,
    mut choice: Choice,
    (mut hosts, plain_http): (Vec<Host>, Option<bool>),
    interruption: &CancellationToken,
) -> Result<Arc<Source>, Error> {
    let opened = tokio::task::spawn_blocking(move || {
        match source {
        SourceReference::Files(_, Some(_)) if choice.image.is_some() => {
            Err(Error::Usage("SOURCE names an image already; leave out --image".to_owned()))
        }
        SourceReference::Files(path, image) => {
            choice.image = choice.image.or(image);
            Source::open(&path, &choice)
        }
        _ if choice.image.is_some() => Err(Error::Source(
            "--image chooses from files; of a registry, name the image itself, as docker://HOST/NAME@DIGEST"
                .to_owned(),
        )),
        SourceReference::Engine(image) => Source::save(&image, choice.platform),
        SourceReference::Upstream(image) => {
            let host = image.repository.host().clone(); // the user has named it
            let plain_http = plain_http.unwrap_or_else(|| is_loopback(&host));
            hosts.push(host);
            Source::fetch(image, choice.platform.as_ref(), Trust { hosts, plain_http })
        }
    }
    });
    let source = match interruption.run_until_cancelled(opened).await {
        None => return Err(Error::Interrupted),
        Some(opened) => opened.map_err(|error| Error::Local(error.to_string()))??,
    };
    if let Some(image) = source.images.iter().find(|image| new_image(image).is_too_large()) {
        return Err(Error::Source(format!(
            "{} names more layers or images than an image's record can hold (about 4,900)",
            image.digest
        )));
    }
    Ok(Arc::new(source))
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Uploads and verifies the blobs of all images, each once.
async fn upload_blobs(
    session: &Session<Publisher>,
    source: &Arc<Source>,
    interruption: &CancellationToken,
) -> Result<Vec<PublishedLayer>, Error> {
    // Cancelled when the user interrupts, or when one blob has failed and the others are in vain.
    let stop = interruption.child_token();
    let uploads = Uploads::new(session.store.clone(), session.registry.clone(), stop.clone());
    let progress = Progress::new();
    let mut blobs: Vec<&Blob> = Vec::new();
    for blob in source.images.iter().flat_map(|image| &image.blobs) {
        if !blobs.iter().any(|known| known.descriptor.digest == blob.descriptor.digest) {
            blobs.push(blob);
        }
    }
    let uploaded: Vec<_> = stream::iter(blobs)
        .map(async |blob| {
            let result = upload_blob(&uploads, source, blob, &progress).await;
            if result.is_err() {
                stop.cancel();
            }
            result
        })
        .buffered(BLOBS_AT_ONCE)
        .collect()
        .await;
    // What one failure stopped counts as interrupted; the failure itself is what to tell.
    let (failures, uploaded): (Vec<_>, Vec<_>) = uploaded.into_iter().partition(Result::is_err);
    let failures = failures.into_iter().filter_map(Result::err);
    match failures.min_by_key(|error| matches!(error, Error::Interrupted)) {
        Some(error) => Err(error),
        None => Ok(uploaded.into_iter().flatten().collect()),
    }
}

async fn upload_blob(
    uploads: &Uploads,
    source: &Arc<Source>,
    blob: &Blob,
    progress: &Progress,
) -> Result<PublishedLayer, Error> {
    let Descriptor { digest, size, media_type } = &blob.descriptor;
    let bar = progress.blob(digest, *size);
    let tell = |event: Event| {
        match event {
        Event::Advanced(bytes) => bar.advance(bytes),
        Event::Restarted => bar.restart(),
        Event::LeftUploads(object_key, fault) => progress.warn(&format!(
            "unfinished uploads of {object_key} may be left in the bucket ({}); its lifecycle rule will end them",
            fault.with_causes()
        )),
    }
    };
    let failed = |error| blob_error(source, digest, error);
    let uploaded = match source.registry() {
        // What is stored was verified. To read it once more would be to download it for nothing.
        Some(registry) if uploads.holds(&blob.descriptor).await.map_err(failed)? => {
            registry.check(blob).await?;
            false
        }
        _ => uploads
            .blob(&blob.descriptor, IfStored::Skip, || source.open_blob(blob), tell)
            .await
            .map_err(failed)?,
    };
    bar.finish(if uploaded { "uploaded" } else { "already stored" });
    Ok(PublishedLayer {
        layer_digest: digest.to_string(),
        layer_size: *size,
        media_type: media_type.clone(),
        uploaded,
    })
}

fn blob_error(source: &Source, digest: &Digest, error: UploadError) -> Error {
    let what = format!("the blob {digest} in {}", source.name());
    match error {
        UploadError::Stopped => Error::Interrupted,
        UploadError::Fault(fault) => fault.into(),
        UploadError::Corrupt => Error::Source(format!(
            "{what} is corrupt: its bytes do not have that digest; get the image again"
        )),
        UploadError::Unreadable(error) => match error.downcast::<upstream::Error>() {
            Ok(error) => source::blob_error(source.name(), digest, &error),
            Err(error) => Error::Source(format!("{what} cannot be read: {error}")),
        },
        UploadError::TooLarge(_) | UploadError::Unverifiable => {
            Error::Source(format!("{what} cannot be published: {error}"))
        }
    }
}

/// Uploads the manifests of all images, which were verified when they were read.
async fn upload_manifests(
    session: &Session<Publisher>,
    source: &Source,
    interruption: &CancellationToken,
) -> Result<(), Error> {
    let uploads =
        Uploads::new(session.store.clone(), session.registry.clone(), interruption.clone());
    for image in &source.images {
        let put = uploads.manifest(&image.digest, &image.media_type, image.manifest.clone()).await;
        put.map_err(|error| blob_error(source, &image.digest, error))?;
    }
    Ok(())
}

fn refusal(repository: &Repository, error: PublishError) -> Error {
    match error {
        PublishError::NoRepository => no_repository_to_publish_to(repository),
        PublishError::RepositoryDeleted => repository_being_deleted(repository),
        PublishError::ImageDeleted(image) => Error::Conflict(format!(
            "the image {} in '{}', or one of its images, is being deleted; when that has ended, publish again (a \
             'layergate image delete' that was stopped ends when it is run again)",
            image, repository.name
        )),
        PublishError::GivenUp => Error::Conflict(
            "publishing took longer than a day, so that 'layergate clean' no longer counted on it; publish again, \
             which does not send again what is stored"
                .to_owned(),
        ),
        PublishError::BeingCleaned(claimed) => being_cleaned(&claimed),
        PublishError::Fault(fault) => fault.into(),
    }
}

fn repository_being_deleted(repository: &Repository) -> Error {
    Error::Conflict(format!(
        "the repository '{}' is being deleted; when that has ended, publish again (a 'layergate repository delete' \
         that was stopped ends when it is run again)",
        repository.name
    ))
}

fn being_cleaned(claimed: &Claimed) -> Error {
    let now = seconds_since_1970(SystemTime::now());
    Error::Conflict(format!(
        "a 'layergate clean' is removing {}, which this image needs, and has not ended; publish again when it has, or \
         in {} minutes if it was killed",
        claimed.digest,
        claimed.until.saturating_sub(now).div_ceil(60)
    ))
}

fn new_image(image: &SourceImage) -> NewImage {
    NewImage {
        digest: image.digest.clone(),
        media_type: image.media_type.clone(),
        size: image.manifest.len() as u64,
        layers: image.blobs.iter().map(|blob| blob.descriptor.clone()).collect(),
        absent_layers: image.absent_layers.clone(),
        images: image.images.clone(),
        upstream: None,
    }
}
