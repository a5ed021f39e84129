//! The worker: the Lambda function for work that takes longer than a request. It fetches images and
//! layers from other registries when the API's function asks for them. It also cleans the registry
//! on a schedule.
//!
//! The worker is a function of its own because it has more permissions (it writes, deletes and
//! reads secrets) and a longer time limit.

mod clean;
mod fill;
pub mod secrets;
mod source;

use std::io;
use std::time::Duration;

use aws_config::SdkConfig;
use lambda_runtime::{Error, LambdaEvent};
use layergate_core::catalog::Catalog;
use layergate_core::config::Config;
use layergate_core::role::{Cleaner, Publisher};
use layergate_core::store::Store;
use layergate_core::types::RegistryId;
use layergate_core::worker::{Event, Validation};
use layergate_upstream::{Http, Trust};

use secrets::Secrets;

/// How to connect to upstreams: [`Http::direct`] or [`Http::through_proxies`].
pub type Connect = fn(Trust) -> io::Result<Http>;

/// The worker.
#[derive(Debug)]
pub struct Worker {
    catalog: Catalog<Publisher>,
    store: Store<Publisher>,
    /// The same table and bucket, to clean.
    records: Catalog<Cleaner>,
    objects: Store<Cleaner>,
    secrets: Secrets,
    registry: RegistryId,
    connect: Connect,
}

impl Worker {
    /// A worker for the table, the bucket and the registry that `config` names.
    pub fn new(sdk: &SdkConfig, config: &Config, connect: Connect) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            records: Catalog::new(sdk, config),
            objects: Store::new(sdk, config),
            secrets: Secrets::new(sdk, config.secrets_manager_endpoint.as_deref()),
            registry: config.default_registry_id.clone(),
            connect,
        }
    }

    /// Handles an event and writes one log line about it. Only a validation has an answer. An error
    /// fails the invocation.
    pub async fn handle(&self, event: LambdaEvent<Event>) -> Result<Option<Validation>, Error> {
        let (event, context) = event.into_parts();
        match event {
            Event::Clean { older_than_days } => {
                let older_than = Duration::from_secs(u64::from(older_than_days) * 24 * 60 * 60);
                // Boxed: the compiler cannot handle futures that are nested this deep.
                Box::pin(self.clean(older_than, context.deadline())).await?;
                Ok(None)
            }
            Event::Fill(event) => {
                Box::pin(self.fill(&event, context.deadline())).await;
                Ok(None)
            }
            Event::Validate { ecr_repository_prefix } => {
                Ok(Some(Box::pin(self.validate(&ecr_repository_prefix)).await))
            }
        }
    }
}
