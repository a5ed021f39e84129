//! The bytes of a publishing. A blob is an object of the store only once all of it was verified: a small one is
//! verified before it is sent, a large one before the multipart upload that sent it is completed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use layergate::store::LayerStore;
use layergate::store::upload::{MultipartUpload, Part};
use layergate::types::ObjectKey;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::progress::{BlobProgress, Progress};
use crate::session::Session;
use crate::source::{Blob, BlobReader, Source};

/// A blob up to this size, in bytes, is sent in one request; a larger one in parts of this size.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// S3's most parts of an upload.
/// Source: [Multipart upload limits](https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
const MOST_PARTS: u64 = 10_000;

/// How many blobs are worked on at once.
const BLOBS_AT_ONCE: usize = 4;

/// How many parts are in memory at once, of all blobs together: what bounds the memory.
const PARTS_AT_ONCE: usize = 4;

/// How long parts that are on their way get to arrive when their upload is given up.
const GRACE: Duration = Duration::from_secs(5);

/// How a blob got into the store.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadedBlob {
    layer_digest: String,
    layer_size: u64,
    media_type: String,
    /// Whether it had to be sent; a registry has each blob once.
    uploaded: bool,
}

/// What the uploads of one publishing share.
struct Uploads<'a> {
    session: &'a Session,
    source: Arc<Source>,
    progress: Progress,
    memory: Arc<Semaphore>,
    /// Cancelled when the user interrupts, or when one blob has failed and the others are in vain.
    stop: CancellationToken,
}

/// Uploads and verifies the blobs of all images, each once. When it returns, no upload goes on, and what could not
/// be aborted was told.
pub async fn blobs(
    session: &Session,
    source: &Arc<Source>,
    interruption: &CancellationToken,
) -> Result<Vec<UploadedBlob>, Error> {
    let uploads = &Uploads {
        session,
        source: source.clone(),
        progress: Progress::new(),
        memory: Arc::new(Semaphore::new(PARTS_AT_ONCE)),
        stop: interruption.child_token(),
    };
    let mut blobs: Vec<&Blob> = Vec::new();
    for blob in source.images.iter().flat_map(|image| &image.blobs) {
        if !blobs.iter().any(|known| known.digest == blob.digest) {
            blobs.push(blob);
        }
    }
    let uploaded: Vec<_> = stream::iter(blobs)
        .map(async |blob| {
            let result = uploads.blob(blob).await;
            if result.is_err() {
                uploads.stop.cancel();
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

/// Uploads the manifests of all images, which were verified when they were read.
pub async fn manifests(
    session: &Session,
    source: &Source,
    interruption: &CancellationToken,
) -> Result<(), Error> {
    for image in &source.images {
        let object_key = ObjectKey::of_manifest(&session.registry, &image.digest);
        let put = session.store.put(&object_key, image.manifest.clone());
        interruption.run_until_cancelled(put).await.ok_or(Error::Interrupted)??;
    }
    Ok(())
}

impl Uploads<'_> {
    async fn blob(&self, blob: &Blob) -> Result<UploadedBlob, Error> {
        if blob.size > PART_SIZE as u64 * MOST_PARTS {
            return Err(Error::Source(format!(
                "the layer {} has {} bytes; the most that can be published is {}",
                blob.digest,
                blob.size,
                PART_SIZE as u64 * MOST_PARTS
            )));
        }
        let store = &self.session.store;
        let object_key = ObjectKey::of_layer(&self.session.registry, &blob.digest);
        let progress = self.progress.blob(&blob.digest, blob.size);

        let is_stored = self.unless_stopped(store.holds(&object_key, blob.size)).await??;
        if is_stored {
            self.verify(self.source.open_blob(blob)?, &progress).await?;
        } else if blob.size <= PART_SIZE as u64 {
            self.send_whole(blob, &object_key, &progress).await?;
        } else {
            self.send_in_parts(blob, &object_key, &progress).await?;
        }
        if blob.size > PART_SIZE as u64 {
            self.unless_stopped(self.end_other_uploads(&object_key)).await?;
        }
        progress.finish(if is_stored { "already stored" } else { "uploaded" });
        Ok(UploadedBlob {
            layer_digest: blob.digest.to_string(),
            layer_size: blob.size,
            media_type: blob.media_type.clone(),
            uploaded: !is_stored,
        })
    }

    async fn send_whole(
        &self,
        blob: &Blob,
        object_key: &ObjectKey,
        progress: &BlobProgress,
    ) -> Result<(), Error> {
        let reader = self.source.open_blob(blob)?;
        let _memory = self.memory().await?;
        let (_, bytes) = self.next_chunk(reader).await?;
        self.unless_stopped(self.session.store.put(object_key, bytes)).await??;
        progress.advance(blob.size);
        Ok(())
    }

    async fn send_in_parts(
        &self,
        blob: &Blob,
        object_key: &ObjectKey,
        progress: &BlobProgress,
    ) -> Result<(), Error> {
        let store = &self.session.store;
        let reader = self.source.open_blob(blob)?;
        // Not stopped while it starts: an upload whose id is not known could not be aborted.
        let upload = store.start_upload(object_key.clone()).await?;
        let sent = async {
            let parts = self.parts(reader, &upload, progress).await?;
            Ok(self.unless_stopped(store.complete_upload(&upload, parts)).await??)
        };
        let mut result = sent.await;
        // The answer was lost, or somebody else sent the same meanwhile and ended this upload.
        if matches!(result, Err(Error::Service(_)))
            && matches!(store.holds(object_key, blob.size).await, Ok(true))
        {
            result = async { self.verify(self.source.open_blob(blob)?, progress).await }.await;
        }
        if result.is_err() {
            self.abort(&upload).await;
        }
        result
    }

    /// Ends what a publishing that was killed has left, or one that still sends what is stored now.
    async fn end_other_uploads(&self, object_key: &ObjectKey) {
        match self.session.store.unfinished_uploads(object_key).await {
            Ok(uploads) => {
                for upload in &uploads {
                    self.abort(upload).await;
                }
            }
            Err(fault) => self.warn_of_unfinished_uploads(object_key, &fault),
        }
    }

    async fn abort(&self, upload: &MultipartUpload) {
        if let Err(fault) = self.session.store.abort_upload(upload).await {
            self.warn_of_unfinished_uploads(&upload.object_key, &fault);
        }
    }

    fn warn_of_unfinished_uploads(&self, object_key: &ObjectKey, fault: &layergate::error::Error) {
        self.progress.warn(&format!(
            "unfinished uploads of {object_key} may be left in the bucket ({}); its lifecycle rule will end them",
            fault.cause()
        ));
    }

    /// Reads a blob for nothing but its digest.
    async fn verify(&self, mut reader: BlobReader, progress: &BlobProgress) -> Result<(), Error> {
        progress.restart();
        loop {
            let _memory = self.memory().await?;
            let (rest, bytes) = self.next_chunk(reader).await?;
            progress.advance(bytes.len() as u64);
            if rest.left() == 0 {
                return Ok(());
            }
            reader = rest;
        }
    }

    /// Sends a blob in parts, a few at once. The parts are those of a verified blob.
    async fn parts(
        &self,
        reader: BlobReader,
        upload: &MultipartUpload,
        progress: &BlobProgress,
    ) -> Result<Vec<Part>, Error> {
        let mut sending = JoinSet::new();
        let sent = self.send_parts(&mut sending, reader, upload, progress).await;
        // S3 may keep a part that arrives after the abort of its upload.
        let arrived = async { while sending.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, arrived).await; // whoever interrupts does not want to wait for ever
        sending.shutdown().await;
        sent
    }

    async fn send_parts(
        &self,
        sending: &mut JoinSet<Result<(Part, u64), layergate::error::Error>>,
        mut reader: BlobReader,
        upload: &MultipartUpload,
        progress: &BlobProgress,
    ) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for number in 1.. {
            let memory = self.memory().await?;
            let (rest, bytes) = self.next_chunk(reader).await?;
            reader = rest;
            sending.spawn(send_part(self.session.store.clone(), upload.clone(), number, bytes, memory));
            let is_last = reader.left() == 0;
            while let Some(sent) = match is_last {
                true => self.unless_stopped(sending.join_next()).await?,
                false => sending.try_join_next(),
            } {
                let (part, size) = sent.map_err(|error| Error::Local(error.to_string()))??;
                progress.advance(size);
                parts.push(part);
            }
            if is_last {
                break;
            }
        }
        Ok(parts)
    }

    /// Waits for room for one part.
    async fn memory(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = self.unless_stopped(self.memory.clone().acquire_owned()).await?;
        permit.map_err(|error| Error::Local(error.to_string()))
    }

    async fn next_chunk(&self, mut reader: BlobReader) -> Result<(BlobReader, Vec<u8>), Error> {
        let read = tokio::task::spawn_blocking(move || {
            let bytes = reader.next_chunk(PART_SIZE)?;
            Ok((reader, bytes))
        });
        self.unless_stopped(read).await?.map_err(|error| Error::Local(error.to_string()))?
    }

    async fn unless_stopped<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        self.stop.run_until_cancelled(future).await.ok_or(Error::Interrupted)
    }
}

async fn send_part(
    store: LayerStore,
    upload: MultipartUpload,
    number: i32,
    bytes: Vec<u8>,
    _memory: OwnedSemaphorePermit,
) -> Result<(Part, u64), layergate::error::Error> {
    let size = bytes.len() as u64;
    Ok((store.upload_part(&upload, number, bytes).await?, size))
}
