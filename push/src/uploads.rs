//! Blobs on their way: what has arrived of each, in a temporary file without a name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use http_body_util::BodyExt;
use layergate_core::publish::Verifier;
use layergate_core::types::{Digest, Repository, hex};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::Error;

/// How many uploads may be under way. Each holds a file open.
const MOST_UPLOADS: usize = 500;

/// How long an upload is kept of which nothing more arrives.
const LONGEST_SILENCE: Duration = Duration::from_secs(60 * 60);

/// How many bytes are written at once. One such buffer is in memory for each request that sends.
const WRITE_SIZE: usize = 1024 * 1024;

/// The uploads of this process. They end with it, because their files have no names.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<Uuid, Entry>>);

#[derive(Debug)]
struct Entry {
    repository: Repository,
    last_used: Instant,
    /// Empty while a request is sending to it.
    upload: Option<Upload>,
}

/// What has arrived of a blob.
#[derive(Debug)]
pub(crate) struct Upload {
    file: File,
    size: u64,
    hasher: Sha256,
}

impl Uploads {
    /// Starts an upload into a repository.
    pub(crate) fn start(&self, repository: &Repository) -> Result<Uuid, Error> {
        let upload = Upload::new()?;
        let mut entries = self.entries();
        entries.retain(|_, entry| {
            entry.upload.is_none() || entry.last_used.elapsed() < LONGEST_SILENCE
        });
        if entries.len() >= MOST_UPLOADS {
            return Err(Error::TooManyUploads);
        }
        let id = Uuid::new_v4();
        let (repository, upload) = (repository.clone(), Some(upload));
        entries.insert(id, Entry { repository, last_used: Instant::now(), upload });
        Ok(id)
    }

    /// Takes an upload, to be given back: only one request may send to it at a time.
    pub(crate) fn take(&self, repository: &Repository, id: &str) -> Result<Taken<'_>, Error> {
        let id = Uuid::parse_str(id).map_err(|_| Error::UploadUnknown)?;
        let mut entries = self.entries();
        let entry = entries.get_mut(&id).filter(|entry| entry.repository == *repository);
        let upload = entry.ok_or(Error::UploadUnknown)?.upload.take();
        let upload = upload.ok_or(Error::UploadBusy)?;
        Ok(Taken { uploads: self, id, upload: Some(upload) })
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that one request has. It goes back when the request ends, also if its client goes
/// away, so that the client can go on later.
pub(crate) struct Taken<'a> {
    uploads: &'a Uploads,
    pub(crate) id: Uuid,
    upload: Option<Upload>,
}

impl Taken<'_> {
    /// How many bytes have arrived.
    pub(crate) fn size(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.size)
    }

    /// Adds the bytes of a request's body. What has arrived of a body that breaks off stays.
    pub(crate) async fn receive(&mut self, mut body: Body) -> Result<(), Error> {
        let mut buffer = Vec::new();
        loop {
            let frame = body.frame().await.transpose();
            let is_last = !matches!(frame, Ok(Some(_)));
            if let Ok(Some(frame)) = &frame
                && let Some(bytes) = frame.data_ref()
            {
                buffer.extend_from_slice(bytes);
            }
            if !buffer.is_empty() && (is_last || buffer.len() >= WRITE_SIZE) {
                self.append(mem::take(&mut buffer)).await?;
            }
            if is_last {
                return frame.map(|_| ()).map_err(|_| Error::BrokenOff);
            }
        }
    }

    async fn append(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        // If this request is given up here, the upload is gone: half of the bytes may be in it.
        let Some(mut upload) = self.upload.take() else { return Err(Error::UploadUnknown) };
        let appended = spawn_blocking(move || upload.append(&bytes).map(|()| upload)).await;
        self.upload = Some(appended.map_err(|error| Error::Spool(io::Error::other(error)))??);
        Ok(())
    }

    /// Ends the upload without success.
    pub(crate) fn cancel(mut self) {
        self.upload = None;
    }

    /// Ends the upload, and returns what has arrived, if that has the digest.
    pub(crate) async fn finish(mut self, digest: &Digest) -> Result<Spooled, Error> {
        let upload = self.upload.take().ok_or(Error::UploadUnknown)?;
        drop(self);
        let Upload { file, size, hasher } = upload;
        let spooled = Spooled { file: Arc::new(file), size };
        let is_right = match digest.algorithm() {
            "sha256" => hex(&hasher.finalize()) == digest.hex(),
            // Few clients use another algorithm, so only sha256 is computed as the bytes arrive.
            _ => spooled.has_digest(digest).await?,
        };
        is_right.then_some(spooled).ok_or(Error::WrongDigest)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut entries = self.uploads.entries();
        match self.upload.take() {
            Some(upload) => {
                if let Some(entry) = entries.get_mut(&self.id) {
                    entry.last_used = Instant::now();
                    entry.upload = Some(upload);
                }
            }
            None => _ = entries.remove(&self.id),
        }
    }
}

impl Upload {
    fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, size: 0, hasher: Sha256::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A write that failed before, on a full disk, may have left bytes behind the end.
        self.file.seek(SeekFrom::Start(self.size))?;
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// A blob that has arrived whole.
#[derive(Debug)]
pub(crate) struct Spooled {
    file: Arc<File>,
    pub(crate) size: u64,
}

impl Spooled {
    /// Its bytes from the first on. Readers do not disturb each other.
    pub(crate) fn open(&self) -> impl Read + Send + 'static {
        Reader { file: Arc::clone(&self.file), position: 0 }
    }
}

impl Spooled {
    async fn has_digest(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(mut verifier) = Verifier::of(digest) else { return Ok(false) };
        let mut reader = self.open();
        let verifying = spawn_blocking(move || {
            let mut buffer = vec![0; WRITE_SIZE];
            loop {
                match reader.read(&mut buffer)? {
                    0 => return Ok(verifier.matches()),
                    count => verifier.update(&buffer[..count]),
                }
            }
        });
        verifying
            .await
            .map_err(|error| Error::Spool(io::Error::other(error)))?
            .map_err(Error::Spool)
    }
}

struct Reader {
    file: Arc<File>,
    position: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
