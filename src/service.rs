//! The decisions for both APIs: may this caller read this layer or this image, and where are its
//! bytes?

mod images;
mod manifest_cache;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use futures_util::{StreamExt, stream};

use crate::access::token::Tokens;
use crate::access::{Access, Caller};
use crate::pull_through::{PullThrough, Wait, Waited};
use layergate_core::catalog::page::RepositoryPage;
use layergate_core::catalog::{Catalog, Consistency, FillFailure, LayerState, RepositoryRecord};
use layergate_core::config::{Config, ManifestHead};
use layergate_core::fault::Fault;
use layergate_core::role::Puller;
use layergate_core::store::{Method, Store};
use layergate_core::types::{
    Descriptor, Digest, DownloadUrl, ImageTag, RegistryId, Repository, RepositoryName, Wanted,
};

use manifest_cache::ManifestCache;

pub use images::{ImageName, Mismatch, MissingImage};

/// Decides for the operations of both APIs.
#[derive(Debug)]
pub struct Service {
    catalog: Catalog<Puller>,
    store: Store<Puller>,
    manifests: ManifestCache,
    /// Requests missing images and layers from the worker; `None` if there is no worker.
    pull_through: Option<PullThrough>,
    /// Issues and verifies the registry's tokens; `None` if this stack has no registry.
    pub tokens: Option<Tokens>,
    /// The registry of a request that names none.
    pub default_registry_id: RegistryId,
    /// The region of the function.
    pub region: String,
    /// What a HEAD of a manifest is answered with.
    pub manifest_head: ManifestHead,
}

/// Why a caller gets an error. `Missing` says in which ways a layer or an image can be missing.
#[derive(Debug)]
pub enum Refusal<Missing> {
    /// The caller may not read that repository, which may or may not exist.
    Denied,
    /// There is no such repository.
    NoRepository,
    /// The repository does not have the layer or the image.
    Missing(Missing),
    /// DynamoDB, S3 or the worker failed, so the answer is unknown.
    Fault(Fault),
}

impl<Missing> From<Fault> for Refusal<Missing> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Why there is no URL for a layer.
#[derive(Debug)]
pub enum MissingLayer {
    /// The repository has no such layer.
    Absent,
    /// The repository has the layer, and no image references it.
    NotReferenced,
    /// The worker is still fetching it from another registry.
    NotYet,
    /// The worker could not fetch it from another registry.
    Upstream(FillFailure),
}

/// How many lookups one call makes at the same time.
const AT_ONCE: usize = 10;

impl Service {
    /// A service for the table and the bucket that `config` names. `sdk` has the region, the
    /// credentials and the time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            manifests: ManifestCache::new(),
            pull_through: PullThrough::new(sdk, config),
            tokens: Tokens::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            manifest_head: config.manifest_head,
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does in advance what makes a first call slow: reads certificates and credentials, connects
    /// to DynamoDB, and checks that this code can read the table's layout. One request.
    pub async fn make_ready(&self) -> Result<(), Fault> {
        self.catalog.layout().await.map(|_| ())
    }

    /// A URL to download a layer, for requests with this method. Waits for a layer that is still in
    /// another registry. Costs one query if the layer is stored; for a caller from another account,
    /// one more request.
    pub async fn layer_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        digest: &Digest,
        method: Method,
        longest_wait: Duration,
    ) -> Result<DownloadUrl, Refusal<MissingLayer>> {
        let consistency = match caller.access(repository) {
            Access::Allowed => Consistency::Remembered,
            // Not from the cache: it answers faster, so an outsider could measure which layers
            // exist.
            Access::IfGrantedTo(_) | Access::Denied => Consistency::Eventual,
        };
        let state = self.catalog.layer(repository, digest, consistency);
        let mut state = self.if_readable(caller, repository, state).await?;
        if let LayerState::Absent | LayerState::Unreferenced = state {
            // An eventually consistent read may miss what was written a moment ago.
            let lookup = self.catalog.layer(repository, digest, Consistency::Strong);
            state = self.confirmed(repository, lookup).await?;
        }
        if let (LayerState::Upstream(_), Some(pull_through)) = (&state, &self.pull_through) {
            let lookup = || async {
                let state = self.catalog.layer(repository, digest, Consistency::Strong).await?;
                Ok(Some(state).filter(|state| !matches!(state, LayerState::Upstream(_))))
            };
            let wait = Wait {
                until: Instant::now() + longest_wait,
                takes_redirect: method == Method::Get,
            };
            let wanted = (repository, &Wanted::Layer(digest.clone()));
            state = match pull_through.wait_for(&self.catalog, wanted, lookup, wait).await? {
                Waited::Here(state) => state,
                Waited::AtUpstream(url) => return Ok(url),
                Waited::NotYet => return Err(Refusal::Missing(MissingLayer::NotYet)),
                Waited::Failed(failure) => {
                    return Err(Refusal::Missing(MissingLayer::Upstream(failure)));
                }
            };
        }
        match state {
            LayerState::Absent => Err(Refusal::Missing(MissingLayer::Absent)),
            LayerState::Unreferenced => Err(Refusal::Missing(MissingLayer::NotReferenced)),
            // The stack no longer has a worker that could fetch it.
            LayerState::Upstream(_) => {
                Err(Refusal::Missing(MissingLayer::Upstream(FillFailure::NoRule)))
            }
            LayerState::Referenced(object_key) => {
                Ok(self.store.download_url(&object_key, method).await?)
            }
        }
    }

    /// Some tags of a repository, at most `count`, in the order of their bytes: the first ones, or
    /// those after `last`.
    pub async fn tags(
        &self,
        caller: &Caller,
        repository: &Repository,
        last: Option<&ImageTag>,
        count: usize,
    ) -> Result<Vec<ImageTag>, Refusal<Infallible>> {
        let tags = self.catalog.tags(repository, last, count);
        let tags = self.if_readable(caller, repository, tags).await?;
        match tags.is_empty() {
            true => self.confirmed(repository, async { Ok(tags) }).await,
            false => Ok(tags),
        }
    }

    /// The descriptions of these layers, in their order; `None` for a layer that cannot be
    /// downloaded. One query for each, a few at once.
    pub async fn layer_descriptors(
        &self,
        caller: &Caller,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<Option<Descriptor>>, Refusal<Infallible>> {
        self.readable(caller, repository).await?;
        let layers = digests.iter().map(|digest| self.catalog.layer_descriptor(repository, digest));
        Ok(a_few_at_once(layers.collect()).await.into_iter().collect::<Result<_, _>>()?)
    }

    /// The records of these repositories, in their order; or the first repository that is refused,
    /// and why. One request for each, a few at once.
    pub async fn repositories(
        &self,
        caller: &Caller,
        repositories: &[Repository],
    ) -> Result<Vec<RepositoryRecord>, (Repository, Refusal<Infallible>)> {
        // Reads all of them before it refuses one, so that the cost of a refusal does not reveal
        // which of them exist.
        let records =
            repositories.iter().map(|repository| self.readable(caller, repository)).collect();
        let records = a_few_at_once(records).await.into_iter().zip(repositories);
        records
            .map(|(record, repository)| record.map_err(|refusal| (repository.clone(), refusal)))
            .collect()
    }

    /// A page of a registry's repositories, for a caller that may read all of them:
    /// [`Catalog::repository_page`].
    pub async fn repository_page(
        &self,
        caller: &Caller,
        registry: &RegistryId,
        after: Option<&RepositoryName>,
        most: usize,
    ) -> Result<RepositoryPage, Refusal<Infallible>> {
        if !caller.reads_all_of(registry) {
            return Err(Refusal::Denied);
        }
        let page = self.catalog.repository_page(registry, after, most);
        let (page, _) = tokio::try_join!(page, self.catalog.layout())?;
        Ok(page)
    }

    /// The record of a repository, if the caller may read it. One request; none for a caller
    /// without an identity.
    async fn readable<Missing>(
        &self,
        caller: &Caller,
        repository: &Repository,
    ) -> Result<RepositoryRecord, Refusal<Missing>> {
        match caller.access(repository) {
            Access::Allowed => {
                self.catalog.confirmed_repository(repository).await?.ok_or(Refusal::NoRepository)
            }
            Access::IfGrantedTo(account) => {
                let record = self.catalog.repository(repository).await?;
                record.filter(|record| record.grants(account)).ok_or(Refusal::Denied)
            }
            Access::Denied => Err(Refusal::Denied),
        }
    }

    /// The result of `lookup`, if the caller may read the repository.
    async fn if_readable<T, Missing>(
        &self,
        caller: &Caller,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        match caller.access(repository) {
            Access::Allowed => Ok(lookup.await?),
            // One after the other: otherwise an outsider could measure how long the lookup takes.
            Access::IfGrantedTo(_) => {
                self.readable(caller, repository).await?;
                Ok(lookup.await?)
            }
            Access::Denied => Err(Refusal::Denied),
        }
    }

    /// The result of `lookup`, if the repository exists. `lookup` must read with strong
    /// consistency.
    async fn confirmed<T, Missing>(
        &self,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        let (found, record) =
            tokio::try_join!(lookup, self.catalog.confirmed_repository(repository))?;
        record.map(|_| found).ok_or(Refusal::NoRepository)
    }
}

/// The results of these lookups, in their order.
async fn a_few_at_once<F: Future>(lookups: Vec<F>) -> Vec<F::Output> {
    stream::iter(lookups).buffered(AT_ONCE).collect().await
}
