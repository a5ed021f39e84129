//! What the service decides, whichever API asks: whether this caller may have this layer, and where it is.

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
    /// The caller may not read that repository. Says nothing of whether it exists.
    Denied,
    /// There is no such repository.
    NoRepository,
    /// The repository has no such layer.
    NoLayer,
    /// The layer is stored, and no image references it.
    NotReferenced,
    /// It could not be found out.
    Fault(Fault),
}

impl From<Fault> for NoUrl {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Service {
    /// A service on the table and the bucket that `config` names, reached as `sdk` says.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does what only a first call has to: reads certificates and credentials, connects to DynamoDB, and looks
    /// whether the table has the layout that this code reads. One request.
    pub async fn make_ready(&self) -> Result<(), Fault> {
        self.catalog.layout().await.map(|_| ())
    }

    /// A URL to download a layer from. The happy path is one query and no other request.
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
                // Nothing remembered here: it would be quicker for what exists, and an outsider could tell.
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
