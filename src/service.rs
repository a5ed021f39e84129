//! The decisions, whichever API asks: whether this caller may have this layer, and where the layer is.

use aws_config::SdkConfig;

use crate::access::{Access, Caller};
use crate::catalog::{Catalog, Consistency, LayerState};
use crate::config::Config;
use crate::fault::Fault;
use crate::store::{DownloadUrl, Store};
use crate::types::{Digest, ObjectKey, RegistryId, Repository};

/// What the operations of an API work on.
#[derive(Debug)]
pub struct Service {
    catalog: Catalog,
    store: Store,
    /// The registry of a request that names none.
    pub default_registry_id: RegistryId,
    /// The region that this runs in.
    pub region: String,
}

/// Why there is no URL for a layer.
#[derive(Debug)]
pub enum NoUrl {
    /// The caller may not read that repository. Does not tell whether it exists.
    Denied,
    /// There is no such repository.
    NoRepository,
    /// The repository has no such layer.
    NoLayer,
    /// The layer is stored, and no image references it.
    NotReferenced,
    /// DynamoDB or S3 failed, so the answer is not known.
    Fault(Fault),
}

impl From<Fault> for NoUrl {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Service {
    /// A service for the table and the bucket that `config` names. `sdk` has the region, the credentials and the
    /// time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does what would make a first call slow: reads certificates and credentials, connects to DynamoDB, and checks
    /// that the table has the layout that this code reads. One request.
    pub async fn make_ready(&self) -> Result<(), Fault> {
        self.catalog.layout().await.map(|_| ())
    }

    /// A URL to download a layer from. One query, if there is a URL; for a caller from another account, one more
    /// request.
    pub async fn layer_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<DownloadUrl, NoUrl> {
        let catalog = &self.catalog;
        let state = match caller.access(repository) {
            Access::Allowed => catalog.layer(repository, digest, Consistency::Remembered).await?,
            Access::IfGrantedTo(account) => {
                // Not from the cache: an answer from there is quicker, so an outsider could tell which layers exist.
                let (state, record) = tokio::join!(
                    catalog.layer(repository, digest, Consistency::Eventual),
                    catalog.repository(repository),
                );
                // An outsider learns nothing of the layer, not even that reading it failed.
                if !record?.is_some_and(|record| record.grants(account)) {
                    return Err(NoUrl::Denied);
                }
                state?
            }
            Access::Denied => return Err(NoUrl::Denied),
        };
        let object_key = match state {
            LayerState::Referenced(object_key) => object_key,
            // What an eventually consistent read did not see may have been written a moment ago.
            LayerState::Absent | LayerState::Unreferenced => self.confirmed(repository, digest).await?,
        };
        Ok(self.store.download_url(&object_key).await?)
    }

    /// Looks again, with reads that see every write that was answered before them.
    async fn confirmed(&self, repository: &Repository, digest: &Digest) -> Result<ObjectKey, NoUrl> {
        let (state, record) = tokio::try_join!(
            self.catalog.layer(repository, digest, Consistency::Strong),
            self.catalog.confirmed_repository(repository),
        )?;
        match (record, state) {
            (None, _) => Err(NoUrl::NoRepository),
            (_, LayerState::Absent) => Err(NoUrl::NoLayer),
            (_, LayerState::Unreferenced) => Err(NoUrl::NotReferenced),
            (_, LayerState::Referenced(object_key)) => Ok(object_key),
        }
    }
}
