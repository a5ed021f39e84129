//! The decisions, whichever API asks: whether this caller may have this layer or this image, and where its bytes are.

use std::convert::Infallible;

use aws_config::SdkConfig;

use crate::access::token::Tokens;
use crate::access::{Access, Caller};
use crate::catalog::{Catalog, Consistency, Image, ImageId, LayerState};
use crate::config::Config;
use crate::fault::Fault;
use crate::store::{DownloadUrl, Method, Store};
use crate::types::{Digest, ImageTag, ObjectKey, RegistryId, Repository};

/// What the operations of an API work on.
#[derive(Debug)]
pub struct Service {
    catalog: Catalog,
    store: Store,
    /// What clients log in to the registry with; `None` if there is no registry to log in to.
    pub tokens: Option<Tokens>,
    /// The registry of a request that names none.
    pub default_registry_id: RegistryId,
    /// The region that this runs in.
    pub region: String,
}

/// Why a caller does not get what it asked for. `Missing` says in which ways the thing itself can be missing.
#[derive(Debug)]
pub enum Refusal<Missing> {
    /// The caller may not read that repository. Does not tell whether it exists.
    Denied,
    /// There is no such repository.
    NoRepository,
    /// The repository does not have what was asked for.
    Missing(Missing),
    /// DynamoDB or S3 failed, so the answer is not known.
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
    /// The layer is stored, and no image references it.
    NotReferenced,
}

/// The repository has no such image.
#[derive(Debug)]
pub struct MissingImage;

impl Service {
    /// A service for the table and the bucket that `config` names. `sdk` has the region, the credentials and the
    /// time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            tokens: Tokens::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does what would make a first call slow: reads certificates and credentials, connects to DynamoDB, and checks
    /// that the table has the layout that this code reads. One request.
    pub async fn make_ready(&self) -> Result<(), Fault> {
        self.catalog.layout().await.map(|_| ())
    }

    /// A URL to download a layer from, for requests with this method. One query, if there is a URL; for a caller from
    /// another account, one more request.
    pub async fn layer_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        digest: &Digest,
        method: Method,
    ) -> Result<DownloadUrl, Refusal<MissingLayer>> {
        let consistency = match caller.access(repository) {
            Access::Allowed => Consistency::Remembered,
            // Not from the cache: an answer from there is quicker, so an outsider could tell which layers exist.
            Access::IfGrantedTo(_) | Access::Denied => Consistency::Eventual,
        };
        let state = self.catalog.layer(repository, digest, consistency);
        let object_key = match self.if_readable(caller, repository, state).await? {
            LayerState::Referenced(object_key) => object_key,
            // What an eventually consistent read did not see may have been written a moment ago.
            LayerState::Absent | LayerState::Unreferenced => {
                let state = self.catalog.layer(repository, digest, Consistency::Strong);
                match self.confirmed(repository, state).await? {
                    LayerState::Absent => return Err(Refusal::Missing(MissingLayer::Absent)),
                    LayerState::Unreferenced => return Err(Refusal::Missing(MissingLayer::NotReferenced)),
                    LayerState::Referenced(object_key) => object_key,
                }
            }
        };
        Ok(self.store.download_url(&object_key, method).await?)
    }

    /// A published image. One request by digest, two by tag; for a caller from another account, one more.
    pub async fn image(
        &self,
        caller: &Caller,
        repository: &Repository,
        id: &ImageId,
    ) -> Result<Image, Refusal<MissingImage>> {
        let image = self.catalog.published_image(repository, id, Consistency::Eventual);
        match self.if_readable(caller, repository, image).await? {
            Some(image) => Ok(image),
            None => {
                let image = self.catalog.published_image(repository, id, Consistency::Strong);
                self.confirmed(repository, image).await?.ok_or(Refusal::Missing(MissingImage))
            }
        }
    }

    /// A URL to download an image's manifest from, for requests with this method, and the manifest's digest. The
    /// download's `Content-Type` is the manifest's media type. The same requests as [`image`](Self::image).
    pub async fn manifest_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        id: &ImageId,
        method: Method,
    ) -> Result<(Digest, DownloadUrl), Refusal<MissingImage>> {
        let Image { digest, .. } = self.image(caller, repository, id).await?;
        let object_key = ObjectKey::of_manifest(&repository.registry, &digest);
        Ok((digest, self.store.download_url(&object_key, method).await?))
    }

    /// Some tags of a repository, at most `count`, in the order of their bytes: the first ones, or those after `last`.
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

    /// What `lookup` finds in the repository, if the caller may read that.
    async fn if_readable<T, Missing>(
        &self,
        caller: &Caller,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        match caller.access(repository) {
            Access::Allowed => Ok(lookup.await?),
            Access::IfGrantedTo(account) => {
                let (found, record) = tokio::join!(lookup, self.catalog.repository(repository));
                // An outsider learns nothing of what was found, not even that looking for it failed.
                match record?.is_some_and(|record| record.grants(account)) {
                    true => Ok(found?),
                    false => Err(Refusal::Denied),
                }
            }
            Access::Denied => Err(Refusal::Denied),
        }
    }

    /// What `lookup` finds in a repository that is there. To be asked with reads that see every write that was answered
    /// before them.
    async fn confirmed<T, Missing>(
        &self,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        let (found, record) = tokio::try_join!(lookup, self.catalog.confirmed_repository(repository))?;
        record.map(|_| found).ok_or(Refusal::NoRepository)
    }
}
