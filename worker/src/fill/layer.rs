//! Fetches a layer from the upstream into the store, with a limited amount of memory. Meanwhile,
//! clients may get the URL that the upstream redirects to.

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

/// The age at which a URL is replaced by a new one.
const URL_LIFE: Duration = Duration::from_secs(40);

/// The time limit for requesting a new URL. The lease must be renewed after it.
const TIME_TO_ASK: Duration = Duration::from_secs(5);

/// Where the upstream redirects to, if clients may go there.
#[derive(Debug, Default)]
pub(super) struct Redirect(Mutex<Option<Vetted>>);

/// A URL that was tried: it has the layer, needs no credentials, and its address is allowed.
#[derive(Debug)]
struct Vetted {
    url: DownloadUrl,
    since: Instant,
    upstream: Upstream,
    layer: Descriptor,
}

impl Redirect {
    /// The URL. Requests a new one if it is old. `None` if there was none, or if the upstream does
    /// not redirect to a new one at once.
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

/// Requests a layer. If this succeeds, the upstream has it with the right size.
async fn open(upstream: &Upstream, layer: &Descriptor) -> Result<Blob, layergate_upstream::Error> {
    let mut blob = upstream.blob(&layer.digest, layer.size)?;
    blob.open().await?;
    Ok(blob)
}

impl Worker {
    /// Fetches a layer that an image references and that is not stored. Returns how many bytes were
    /// stored.
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
            self.catalog.end_fill(fill).await?; // it is stored, or no image needs it any more
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
        // If the bucket has the layer for another repository, it is not uploaded again. It is still
        // read from the upstream and verified: that proves that this upstream has the layer.
        let is_sent = uploads.blob(layer, IfStored::Verify, open, |_| {}).await?;
        if !self.catalog.finish_layer(fill, &layer.digest, intent).await? {
            // The image was deleted meanwhile, so the layer is not recorded. Or another worker has
            // the lease, and then this request changes nothing.
            self.catalog.end_fill(fill).await?;
        }
        Ok(if is_sent { layer.size } else { 0 })
    }
}
