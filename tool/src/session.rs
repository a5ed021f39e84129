//! The clients of AWS that the commands use.

use aws_config::SdkConfig;
use layergate_core::aws;
use layergate_core::catalog::Catalog;
use layergate_core::config::{Config, ConfigError};
use layergate_core::role::Role;
use layergate_core::store::Store;
use layergate_core::types::{RegistryId, Repository, RepositoryName};
use layergate_core::worker::WorkerClient;

use crate::error::Error;

/// The registry that the settings name, with what the role `R` may do with it.
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
    let sdk = aws::from_standard_chain().await?;
    if sdk.region().is_none() {
        // Without a region, the SDK fails only at the first request, and with a long text.
        return Err(ConfigError::no_region().into());
    }
    Ok((sdk, config))
}

/// The error for a repository that does not exist.
pub fn no_such_repository(Repository { registry, name }: &Repository) -> Error {
    Error::NotFound(format!(
        "there is no repository '{name}' in registry {registry}; 'layergate repository list' lists them"
    ))
}

/// The same error for a command that publishes.
pub fn no_repository_to_publish_to(Repository { registry, name }: &Repository) -> Error {
    Error::NotFound(format!(
        "there is no repository '{name}' in registry {registry}; create it with --create-repository"
    ))
}
