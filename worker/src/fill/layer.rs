//! A layer: its bytes go from the upstream into the store, in a bounded amount of memory. Meanwhile
//! pullers may be given the URL that the upstream redirects to.

use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use layergate_core::catalog::{BeforeStored, Consistency, Fill, Intent, LayerState};
use layergate_core::publish::{IfStored, Uploads};
use layergate_core::types::{Descriptor, Digest, DownloadUrl, Repository};
use layergate_upstream::{Blob, Upstream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::Worker;
use crate::source::Source;

/// After what time the upstream is asked for a new URL.
const URL_LIFE: Duration = Duration::from_secs(40);

/// How long it may take to answer that: the lease has to be renewed meanwhile.
const TIME_TO_ASK: Duration = Duration::from_secs(5);

/// Where the upstream redirects to, as long as pullers may be told.
#[derive(Debug, Default)]
pub(super) struct Redirect(Mutex<Option<Vetted>>);

/// A URL that gave the layer's bytes without credentials, and that led to no private place.
#[derive(Debug)]
struct Vetted {
    url: DownloadUrl,
    since: Instant,
    upstream: Upstream,
    layer: Descriptor,
}

impl Redirect {
    /// The URL. Asks the upstream for a new one if it is old; there is none if that does not answer
    /// at once, or redirects no more.
    pub(super) async fn url(&self) -> Option<DownloadUrl> {
        let mut vetted = self.0.lock().await;
        let Vetted { url, since, upstream, layer } = vetted.as_ref()?;
        if since.elapsed() < URL_LIFE {
            return Some(url.clone());
        }
        let opened = tokio::time::timeout(TIME_TO_ASK, open(upstream, layer)).await.ok()?.ok();
        let (upstream, layer) = (upstream.clone(), layer.clone());
        let url = opened.and_then(|blob| blob.redirect().cloned());
        *vetted = url.map(|url| Vetted { url, since: Instant::now(), upstream, layer });
        vetted.as_ref().map(|vetted| vetted.url.clone())
    }
}

/// Asks the upstream for a layer. It has it, with the right size, if this succeeds.
async fn open(upstream: &Upstream, layer: &Descriptor) -> Result<Blob, layergate_upstream::Error> {
    let mut blob = upstream.blob(&layer.digest, layer.size)?;
    blob.open().await?;
    Ok(blob)
}

impl Worker {
    /// Fetches a layer that an image references and that is not stored. Returns how many bytes went
    /// into the store.
    pub(super) async fn layer(
        &self,
        fill: &Fill,
        repository: &Repository,
        digest: &Digest,
        redirect: &Redirect,
        stop: &CancellationToken,
    ) -> Result<u64, Failure> {
        let state = self.catalog.layer(repository, digest, Consistency::Strong).await?;
        let LayerState::Upstream(layer) = state else {
            self.catalog.end_fill(fill).await?; // it is stored, or no image references it any more
            return Ok(0);
        };
        let source = self.source(repository).await?;
        self.publishing(repository, [digest.clone()], async |publishing| {
            let intent = publishing.intent();
            self.store_layer(fill, (repository, &source, &layer), redirect, stop, intent).await
        })
        .await
    }

    async fn store_layer(
        &self,
        fill: &Fill,
        (repository, source, layer): (&Repository, &Source, &Descriptor),
        redirect: &Redirect,
        stop: &CancellationToken,
        intent: &Intent,
    ) -> Result<u64, Failure> {
        let blob = open(&source.upstream, layer).await;
        self.pin_realm(source).await?;
        let blob = blob?;
        if let (BeforeStored::Redirect, Some(url)) = (source.rule.before_stored, blob.redirect()) {
            if !self.catalog.renew_fill(fill, Some(url)).await? {
                return Err(Failure::LostLease);
            }
            *redirect.0.lock().await = Some(Vetted {
                url: url.clone(),
                since: Instant::now(),
                upstream: source.upstream.clone(),
                layer: layer.clone(),
            });
        }
        let uploads = Uploads::new(self.store.clone(), repository.registry.clone(), stop.clone());
        let opened = StdMutex::new(Some(blob));
        let open = || {
            let opened = opened.lock().ok().and_then(|mut opened| opened.take());
            let blob = match opened {
                Some(blob) => blob,
                None => source.upstream.blob(&layer.digest, layer.size)?,
            };
            Ok(blob.into_reader())
        };
        // What the bucket has, for another repository, is not sent again. But it is read from the
        // upstream and verified all the same: only who has the bytes may say that this repository
        // has them.
        let is_sent = uploads.blob(layer, IfStored::Verify, open, |_| {}).await?;
        if !self.catalog.finish_layer(fill, &layer.digest, intent).await? {
            // The image was deleted and cleaned meanwhile: it stays deleted, and so does its layer.
            // Or somebody else has the lease, and then this does nothing.
            self.catalog.end_fill(fill).await?;
        }
        Ok(if is_sent { layer.size } else { 0 })
    }
}
