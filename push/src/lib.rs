//! The writing half of the registry protocol: what docker, podman, skopeo and others push with.
//!
//! A pusher sends blobs first and the manifest last. `uploads` keeps what has arrived of a blob in
//! an unnamed temporary file. When the blob is complete and verified, it goes to the store. The
//! manifest makes the image visible, as publishing does.
//!
//! Who may push is decided before: the caller of this module has checked that the pusher is of the
//! registry's own account.
//!
//! Source: [OCI Distribution
//! Specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md), section
//! "Push".

mod blobs;
mod error;
mod manifests;
mod route;
mod uploads;

use aws_config::SdkConfig;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use layergate_core::catalog::Catalog;
use layergate_core::config::Config;
use layergate_core::role::Publisher;
use layergate_core::store::Store;
use layergate_core::types::{RegistryId, Repository, RepositoryName};

use route::Endpoint;
use uploads::Uploads;

pub use error::Error;

/// Takes pushes into one registry.
#[derive(Debug)]
pub struct Pusher {
    catalog: Catalog<Publisher>,
    store: Store<Publisher>,
    registry: RegistryId,
    creates_repositories: bool,
    uploads: Uploads,
}

impl Pusher {
    /// A pusher for the table and the bucket that `config` names. `sdk` has the region, the
    /// credentials and the time-outs. If it `creates_repositories`, a push into a repository that is
    /// missing creates it.
    pub fn new(sdk: &SdkConfig, config: &Config, creates_repositories: bool) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            registry: config.default_registry_id.clone(),
            creates_repositories,
            uploads: Uploads::default(),
        }
    }

    /// Answers a request that writes, or that asks what a pusher asks. Gives back any other request:
    /// the reading half of the protocol answers it.
    pub async fn answer(&self, request: Request<Body>) -> Result<Response, Box<Request<Body>>> {
        let Some(endpoint) = Endpoint::of(request.method(), request.uri().path()) else {
            return Err(Box::new(request));
        };
        let is_head = request.method() == http::Method::HEAD;
        let answered = match endpoint {
            Endpoint::StartUpload { name } => self.start_upload(&name, request).await,
            Endpoint::Upload { name, id } => self.continue_upload(&name, &id, request).await,
            // A pusher may read any layer that the bucket has: it administers the registry.
            Endpoint::Blob { name, digest } => {
                match self.find_blob(&name, &digest, is_head).await {
                    Ok(Some(response)) => Ok(response),
                    Ok(None) => return Err(Box::new(request)),
                    Err(error) => Err(error),
                }
            }
            Endpoint::PutManifest { name, reference } => {
                self.put_manifest(&name, &reference, request).await
            }
            Endpoint::DeleteManifest { name, reference } => {
                self.delete_manifest(&name, &reference).await
            }
            Endpoint::DeleteBlob => Err(Error::BlobsAreCleaned),
        };
        Ok(answered.unwrap_or_else(|error| error.response(is_head)))
    }

    fn repository(&self, name: &str) -> Result<Repository, Error> {
        let name = RepositoryName::parse(name).map_err(Error::NameInvalid)?;
        Ok(Repository { registry: self.registry.clone(), name })
    }

    /// The repository to push into. Creates it if it is missing and that is wanted.
    async fn writable(&self, name: &str) -> Result<Repository, Error> {
        let repository = self.repository(name)?;
        match self.catalog.repository(&repository).await? {
            Some(record) if record.deleting.is_some() => Err(Error::RepositoryDeleted(repository)),
            Some(_) => Ok(repository),
            None if self.creates_repositories => {
                self.catalog.create_repository(&repository).await?;
                Ok(repository)
            }
            None => Err(Error::NameUnknown(repository)),
        }
    }
}
