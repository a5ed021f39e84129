//! What the commands that talk to AWS work with.

use aws_config::SdkConfig;
use layergate_core::aws;
use layergate_core::catalog::Catalog;
use layergate_core::config::{Config, ConfigError};
use layergate_core::role::Role;
use layergate_core::store::Store;
use layergate_core::types::{RegistryId, Repository, RepositoryName};
use layergate_core::worker::WorkerClient;

use crate::error::Error;

/// The registry of the settings, with what the role `R` may do with it.
#[derive(Debug)]
pub struct Session<R> {
    /// Its catalog.
    pub catalog: Catalog<R>,
    /// Its store.
    pub store: Store<R>,
    /// Its id.
    pub registry: RegistryId,
    /// Its worker, if the settings name it.
    pub worker: Option<WorkerClient>,
}

impl<R: Role> Session<R> {
    /// Reads the settings, finds region and credentials, and checks that the table has the layout
    /// of this version.
    pub async fn open() -> Result<Self, Error> {
        let (sdk, config) = settings().await?;
        let catalog = Catalog::new(&sdk, &config);
        catalog.check_layout(&config.default_registry_id).await?;
        let (store, worker) = (Store::new(&sdk, &config), WorkerClient::new(&sdk, &config));
        Ok(Self { catalog, store, registry: config.default_registry_id, worker })
    }

    /// A repository of the registry.
    pub fn repository(&self, name: RepositoryName) -> Repository {
        Repository { registry: self.registry.clone(), name }
    }
}

/// The settings, and what the clients of AWS need: region, credentials and time-outs.
pub async fn settings() -> Result<(SdkConfig, Config), Error> {
    let config = Config::from_env(|name| std::env::var(name).ok())?;
    let sdk = aws::from_standard_chain().await;
    if sdk.region().is_none() {
        // The SDK would fail at the first request, in many words.
        return Err(ConfigError::no_region().into());
    }
    Ok((sdk, config))
}

/// The refusal to work on a repository that is not there.
pub fn no_such_repository(repository: &Repository) -> Error {
    Error::NotFound(format!(
        "there is no repository '{}' in registry {}; create it with 'layergate repository create {}'",
        repository.name, repository.registry, repository.name
    ))
}
