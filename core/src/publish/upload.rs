//! Uploads blobs. A blob becomes an object of the store only after all of it was verified: a small
//! blob is verified before it is sent, a large one before its multipart upload is completed.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{BlobReader, Verifier};
use crate::fault::Fault;
use crate::role::Publisher;
use crate::store::{MultipartUpload, Part, Store};
use crate::types::{Descriptor, Digest, ObjectKey, RegistryId};

/// A blob up to this size, in bytes, is sent in one request; a larger one in parts of this size.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// The most parts that S3 takes in one upload.
/// Source: [Multipart upload
/// limits](https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
const MOST_PARTS: u64 = 10_000;

/// How many parts are in memory at once, of all blobs together. This is what limits the memory.
const PARTS_AT_ONCE: usize = 4;

/// How long to wait for parts that are being sent when their upload is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Why a blob is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Its digest has an unknown algorithm or a wrong length, so it cannot be verified.
    #[error("its digest is not a sha256 or sha512 digest")]
    Unverifiable,
    /// It has more bytes than this.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// Its bytes cannot be read, or there are too few.
    #[error("it cannot be read")]
    Unreadable(#[from] io::Error),
    /// Its bytes do not have its digest.
    #[error("its bytes do not have its digest")]
    Corrupt,
    /// S3 failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It was given up because `stop` was cancelled.
    #[error("stopped")]
    Stopped,
}

impl From<JoinError> for UploadError {
    fn from(error: JoinError) -> Self {
        Self::Unreadable(io::Error::other(error))
    }
}

/// What happens to a blob.
#[derive(Debug)]
pub enum Event<'a> {
    /// This many more bytes are done.
    Advanced(u64),
    /// The blob is read again from its first byte.
    Restarted,
    /// Uploads of the blob could not be aborted, and may stay in the bucket.
    LeftUploads(&'a ObjectKey, &'a Fault),
}

/// What happens to the bytes of a blob that the store has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfStored {
    /// They are not read. The stored bytes were verified, and the digest says that they are the
    /// same.
    Skip,
    /// They are read and verified, but not sent. For a source that must prove that it has them.
    Verify,
}

/// Uploads into one registry. They share one limit of memory, and are stopped together.
#[derive(Debug)]
pub struct Uploads {
    store: Store<Publisher>,
    registry: RegistryId,
    memory: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Uploads {
    /// Uploads that are given up when `stop` is cancelled.
    pub fn new(store: Store<Publisher>, registry: RegistryId, stop: CancellationToken) -> Self {
        Self { store, registry, memory: Arc::new(Semaphore::new(PARTS_AT_ONCE)), stop }
    }

    /// Puts the manifest of an image, which was verified before. Who downloads it learns its media
    /// type from the download alone, so the object has it.
    pub async fn manifest(
        &self,
        digest: &Digest,
        media_type: &str,
        manifest: Vec<u8>,
    ) -> Result<(), UploadError> {
        let object_key = ObjectKey::of_manifest(&self.registry, digest);
        Ok(self.unless_stopped(self.store.put(&object_key, Some(media_type), manifest)).await??)
    }

    /// Whether a blob is in the store, with this size.
    pub async fn holds(&self, blob: &Descriptor) -> Result<bool, UploadError> {
        let object_key = ObjectKey::of_layer(&self.registry, &blob.digest);
        Ok(self.unless_stopped(self.store.holds(&object_key, blob.size)).await??)
    }

    /// Puts a blob. `open` opens its bytes from the first on, and may be called more than once.
    /// Returns whether the bytes had to be sent. When this returns, no upload is under way, and
    /// `tell` was told of uploads that could not be aborted.
    pub async fn blob(
        &self,
        blob: &Descriptor,
        if_stored: IfStored,
        open: impl Fn() -> io::Result<Box<dyn Read + Send>>,
        tell: impl Fn(Event),
    ) -> Result<bool, UploadError> {
        let most = PART_SIZE as u64 * MOST_PARTS;
        if blob.size > most {
            return Err(UploadError::TooLarge(most));
        }
        let verifier = Verifier::of(&blob.digest).ok_or(UploadError::Unverifiable)?;
        let open = || Ok::<_, UploadError>(BlobReader::new(open()?, verifier.clone(), blob.size));
        let object_key = ObjectKey::of_layer(&self.registry, &blob.digest);
        let is_stored = self.holds(blob).await?;
        if is_stored {
            if if_stored == IfStored::Skip {
                return Ok(false);
            }
            self.verify(open()?, &tell).await?;
        } else if blob.size <= PART_SIZE as u64 {
            self.send_whole(open()?, &object_key, &tell).await?;
        } else {
            self.send_in_parts(&open, &object_key, blob.size, &tell).await?;
        }
        if blob.size > PART_SIZE as u64 {
            self.unless_stopped(self.end_other_uploads(&object_key, &tell)).await?;
        }
        Ok(!is_stored)
    }

    async fn send_whole(
        &self,
        reader: BlobReader,
        object_key: &ObjectKey,
        tell: &impl Fn(Event),
    ) -> Result<(), UploadError> {
        let _memory = self.memory().await?;
        let (_, bytes) = self.next_chunk(reader).await?;
        let size = bytes.len() as u64;
        self.unless_stopped(self.store.put(object_key, None, bytes)).await??;
        tell(Event::Advanced(size));
        Ok(())
    }

    async fn send_in_parts(
        &self,
        open: &impl Fn() -> Result<BlobReader, UploadError>,
        object_key: &ObjectKey,
        size: u64,
        tell: &impl Fn(Event),
    ) -> Result<(), UploadError> {
        let reader = open()?;
        // Starting is not stopped halfway: an upload whose id is not known could not be aborted.
        let upload = self.store.start_upload(object_key.clone()).await?;
        let sent = async {
            let parts = self.parts(reader, &upload, tell).await?;
            Ok(self.unless_stopped(self.store.complete_upload(&upload, parts)).await??)
        };
        let mut result = sent.await;
        // If the object is there now, the answer was lost, or somebody else sent the same bytes and
        // ended this upload.
        if matches!(result, Err(UploadError::Fault(_)))
            && matches!(self.store.holds(object_key, size).await, Ok(true))
        {
            tell(Event::Restarted);
            result = async { self.verify(open()?, tell).await }.await;
        }
        if result.is_err() {
            self.abort(&upload, tell).await;
        }
        result
    }

    /// Aborts the other uploads of an object that is stored now: those that a killed publishing has
    /// left, and those of others who are still sending it.
    async fn end_other_uploads(&self, object_key: &ObjectKey, tell: &impl Fn(Event)) {
        match self.store.unfinished_uploads(object_key).await {
            Ok(uploads) => {
                for upload in &uploads {
                    self.abort(upload, tell).await;
                }
            }
            Err(fault) => tell(Event::LeftUploads(object_key, &fault)),
        }
    }

    async fn abort(&self, upload: &MultipartUpload, tell: &impl Fn(Event)) {
        if let Err(fault) = self.store.abort_upload(upload).await {
            tell(Event::LeftUploads(&upload.object_key, &fault));
        }
    }

    /// Reads a blob only to verify it.
    async fn verify(
        &self,
        mut reader: BlobReader,
        tell: &impl Fn(Event),
    ) -> Result<(), UploadError> {
        loop {
            let _memory = self.memory().await?;
            let (rest, bytes) = self.next_chunk(reader).await?;
            tell(Event::Advanced(bytes.len() as u64));
            if rest.left() == 0 {
                return Ok(());
            }
            reader = rest;
        }
    }

    /// Sends a blob in parts, a few at once. Returns the parts only if the blob is verified.
    async fn parts(
        &self,
        reader: BlobReader,
        upload: &MultipartUpload,
        tell: &impl Fn(Event),
    ) -> Result<Vec<Part>, UploadError> {
        let mut sending = JoinSet::new();
        let sent = self.send_parts(&mut sending, reader, upload, tell).await;
        // S3 may keep a part that arrives after its upload was aborted. So the publisher waits for
        // the parts that it is still sending. Each of them has a time limit; a user who interrupts
        // does not want to wait for that.
        let arrived = async { while sending.join_next().await.is_some() {} };
        let given_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = arrived => {}
            () = given_up => {}
        }
        sending.shutdown().await;
        sent
    }

    async fn send_parts(
        &self,
        sending: &mut JoinSet<Result<(Part, u64), Fault>>,
        mut reader: BlobReader,
        upload: &MultipartUpload,
        tell: &impl Fn(Event),
    ) -> Result<Vec<Part>, UploadError> {
        let mut parts = Vec::new();
        for number in 1.. {
            let memory = self.memory().await?;
            let (rest, bytes) = self.next_chunk(reader).await?;
            reader = rest;
            sending.spawn(send_part(self.store.clone(), upload.clone(), number, bytes, memory));
            let is_last = reader.left() == 0;
            while let Some(sent) = match is_last {
                true => self.unless_stopped(sending.join_next()).await?,
                false => sending.try_join_next(),
            } {
                let (part, size) = sent??;
                tell(Event::Advanced(size));
                parts.push(part);
            }
            if is_last {
                break;
            }
        }
        Ok(parts)
    }

    /// Waits until one more part may be in memory.
    async fn memory(&self) -> Result<OwnedSemaphorePermit, UploadError> {
        let permit = self.unless_stopped(self.memory.clone().acquire_owned()).await?;
        permit.map_err(|_| UploadError::Stopped)
    }

    async fn next_chunk(
        &self,
        mut reader: BlobReader,
    ) -> Result<(BlobReader, Vec<u8>), UploadError> {
        let read = spawn_blocking(move || {
            let bytes = reader.next_chunk(PART_SIZE)?;
            Ok((reader, bytes))
        });
        self.unless_stopped(read).await??
    }

    async fn unless_stopped<F: Future>(&self, future: F) -> Result<F::Output, UploadError> {
        self.stop.run_until_cancelled(future).await.ok_or(UploadError::Stopped)
    }
}

async fn send_part(
    store: Store<Publisher>,
    upload: MultipartUpload,
    number: i32,
    bytes: Vec<u8>,
    _memory: OwnedSemaphorePermit,
) -> Result<(Part, u64), Fault> {
    let size = bytes.len() as u64;
    Ok((store.upload_part(&upload, number, bytes).await?, size))
}
