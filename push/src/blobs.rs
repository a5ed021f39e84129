//! Sections "Pushing blobs" and "Mounting a blob from another repository" of the specification.

use std::io::Read;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use layergate_core::publish::{self, Event, IfStored};
use layergate_core::store;
use layergate_core::types::{Descriptor, Digest, ObjectKey, Repository};
use tokio_util::sync::CancellationToken;

use crate::error::{digest_header, empty, header_value};
use crate::uploads::{Spooled, Taken};
use crate::{Error, Pusher};

impl Pusher {
    /// `POST /v2/<name>/blobs/uploads/`: mounts a blob, takes a whole one, or starts an upload.
    pub(crate) async fn start_upload(
        &self,
        name: &str,
        request: Request<Body>,
    ) -> Result<Response, Error> {
        let repository = self.writable(name).await?;
        // Repositories of a registry share their layers, so to mount a blob is to find it.
        if let Some(digest) = query(&request, "mount")
            && let Ok(digest) = Digest::parse(&digest)
            && self.size_of(&digest).await?.is_some()
        {
            return created(&repository, &digest);
        }
        let mut upload = {
            let id = self.uploads.start(&repository)?;
            self.uploads.take(&repository, &id.to_string())?
        };
        match query(&request, "digest") {
            Some(digest) => {
                let digest = verifiable(&digest)?;
                let received = upload.receive(request.into_body()).await;
                match received {
                    Ok(()) => self.store_blob(&repository, upload, &digest).await,
                    Err(error) => {
                        upload.cancel(); // its client does not know it
                        Err(error)
                    }
                }
            }
            None => accepted(&repository, &upload),
        }
    }

    /// `PATCH`, `PUT`, `GET` or `DELETE /v2/<name>/blobs/uploads/<id>`.
    pub(crate) async fn continue_upload(
        &self,
        name: &str,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response, Error> {
        let repository = self.repository(name)?;
        let mut upload = self.uploads.take(&repository, id)?;
        match *request.method() {
            Method::GET => {
                let mut response = accepted(&repository, &upload)?;
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            Method::DELETE => {
                upload.cancel();
                Ok(empty(StatusCode::NO_CONTENT))
            }
            Method::PATCH => {
                if !goes_on(request.headers(), upload.size())? {
                    return out_of_order(&repository, &upload);
                }
                upload.receive(request.into_body()).await?;
                accepted(&repository, &upload)
            }
            _ => {
                let digest = query(&request, "digest").ok_or(Error::NoDigest)?;
                let digest = verifiable(&digest)?;
                if !goes_on(request.headers(), upload.size())? {
                    return out_of_order(&repository, &upload);
                }
                upload.receive(request.into_body()).await?;
                self.store_blob(&repository, upload, &digest).await
            }
        }
    }

    /// `GET` or `HEAD /v2/<name>/blobs/<digest>`, for whoever may push: any layer of the bucket.
    /// `None` if the bucket does not have it: then the reading half says what is wrong.
    pub(crate) async fn find_blob(
        &self,
        name: &str,
        digest: &str,
        is_head: bool,
    ) -> Result<Option<Response>, Error> {
        let (Ok(repository), Ok(digest)) = (self.repository(name), Digest::parse(digest)) else {
            return Ok(None);
        };
        if self.catalog.repository(&repository).await?.is_none() {
            return Ok(None);
        }
        let Some(size) = self.size_of(&digest).await? else { return Ok(None) };
        let mut response = if is_head {
            let mut response = empty(StatusCode::OK);
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
            let bytes = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, bytes);
            response
        } else {
            let object_key = ObjectKey::of_layer(&self.registry, &digest);
            let url = self.store.download_url(&object_key, store::Method::Get).await?;
            let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
            response.headers_mut().insert(LOCATION, header_value(url.reveal())?);
            response
        };
        digest_header(&mut response, &digest)?;
        Ok(Some(response))
    }

    /// The size of a layer of the bucket; `None` if the bucket does not have it.
    pub(crate) async fn size_of(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        if !digest.is_verifiable() {
            return Ok(None);
        }
        Ok(self.store.size_of(&ObjectKey::of_layer(&self.registry, digest)).await?)
    }

    async fn store_blob(
        &self,
        repository: &Repository,
        upload: Taken<'_>,
        digest: &Digest,
    ) -> Result<Response, Error> {
        let started = Instant::now();
        let spooled = upload.finish(digest).await?;
        let is_sent = self.send(&spooled, digest).await?;
        tracing::info!(
            repository = repository.name.as_ref(),
            digest = digest.canonical(),
            bytes = spooled.size,
            seconds = started.elapsed().as_secs_f64(),
            is_sent,
            "stored a layer"
        );
        created(repository, digest)
    }

    /// Sends a blob to the store, unless the store has it. Returns whether it was sent.
    async fn send(&self, spooled: &Spooled, digest: &Digest) -> Result<bool, Error> {
        let blob = Descriptor {
            digest: digest.clone(),
            size: spooled.size,
            media_type: String::new(), // the manifest will say it
        };
        let uploads = publish::Uploads::new(
            self.store.clone(),
            self.registry.clone(),
            CancellationToken::new(),
        );
        let open = || Ok(Box::new(spooled.open()) as Box<dyn Read + Send>);
        let tell = |event: Event| {
            if let Event::LeftUploads(object_key, fault) = event {
                let cause = fault.with_causes();
                tracing::warn!(%object_key, cause, "unfinished uploads may be left in the bucket");
            }
        };
        Ok(uploads.blob(&blob, IfStored::Skip, open, tell).await?)
    }
}

/// Whether a chunk begins where the upload ends. A request without a range does.
fn goes_on(headers: &HeaderMap, size: u64) -> Result<bool, Error> {
    let Some(range) = headers.get(CONTENT_RANGE) else { return Ok(true) };
    let range = range.to_str().unwrap_or_default().trim_start_matches("bytes ");
    let (first, last) = range.split_once('-').ok_or(Error::RangeInvalid)?;
    let first: u64 = first.parse().map_err(|_| Error::RangeInvalid)?;
    let last: u64 =
        last.split('/').next().unwrap_or_default().parse().map_err(|_| Error::RangeInvalid)?;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) if last.checked_sub(first).map(|last| last + 1) != Some(length) => {
            Err(Error::RangeInvalid)
        }
        _ => Ok(first == size),
    }
}

fn verifiable(digest: &str) -> Result<Digest, Error> {
    let digest = Digest::parse(digest).map_err(Error::DigestInvalid)?;
    if digest.is_verifiable() { Ok(digest) } else { Err(Error::DigestUnsupported(digest)) }
}

fn query(request: &Request<Body>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut found = form_urlencoded::parse(query).filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value.into_owned())
}

/// 202: where the upload goes on, and what has arrived.
fn accepted(repository: &Repository, upload: &Taken<'_>) -> Result<Response, Error> {
    let mut response = empty(StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    let location = format!("/v2/{}/blobs/uploads/{}", repository.name, upload.id);
    headers.insert(LOCATION, header_value(&location)?);
    // Of an upload without bytes this says the same as of one with a single byte; all registries do.
    let range = format!("0-{}", upload.size().saturating_sub(1));
    headers.insert(RANGE, header_value(&range)?);
    headers.insert("docker-upload-uuid", header_value(&upload.id.to_string())?);
    Ok(response)
}

fn out_of_order(repository: &Repository, upload: &Taken<'_>) -> Result<Response, Error> {
    let headers = accepted(repository, upload)?.headers().clone();
    let mut response = Error::OutOfOrder.response(false);
    response.headers_mut().extend(headers);
    Ok(response)
}

/// 201: where the blob is.
fn created(repository: &Repository, digest: &Digest) -> Result<Response, Error> {
    let mut response = empty(StatusCode::CREATED);
    let location = format!("/v2/{}/blobs/{}", repository.name, digest.canonical());
    response.headers_mut().insert(LOCATION, header_value(&location)?);
    digest_header(&mut response, digest)?;
    Ok(response)
}
