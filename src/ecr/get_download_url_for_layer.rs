//! [GetDownloadUrlForLayer](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html):
//! a download URL for a layer that an image in the repository references.

use serde::Serialize;

use super::{Error, Members};
use crate::access::Caller;
use crate::service::{NoUrl, Service};
use crate::store::DownloadUrl;
use crate::types::{Constraint, Digest, RegistryId, Repository, RepositoryName};

/// The operation's name, as `X-Amz-Target` spells it.
pub const NAME: &str = "GetDownloadUrlForLayer";

/// The layer that is asked for.
#[derive(Debug)]
pub struct Input {
    /// From `registryId` (or the default registry) and `repositoryName`.
    pub repository: Repository,
    /// From `layerDigest`.
    pub layer_digest: Digest,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// A presigned URL of the layer's bytes.
    pub download_url: DownloadUrl,
    /// The digest, as the request spells it.
    pub layer_digest: String,
}

impl Input {
    /// Reads the request: the types of all members first, then each member's constraint.
    pub fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let repository_name = members.string("repositoryName")?;
        let layer_digest = members.string("layerDigest")?;
        let registry_id = members.string("registryId")?;

        let name = required("repositoryName", repository_name, RepositoryName::parse)?;
        let layer_digest = required("layerDigest", layer_digest, Digest::parse)?;
        let registry = match registry_id {
            Some(_) => required("registryId", registry_id, RegistryId::parse)?,
            None => default_registry.clone(),
        };
        Ok(Self { repository: Repository { registry, name }, layer_digest })
    }
}

fn required<T>(
    member: &'static str,
    value: Option<String>,
    parse: impl Fn(&str) -> Result<T, Constraint>,
) -> Result<T, Error> {
    let parsed = value.as_deref().map_or(Err(Constraint::NotNull), parse);
    parsed.map_err(|constraint| Error::InvalidParameter { member, constraint })
}

/// Answers a call.
pub async fn call(service: &Service, caller: &Caller, input: Input) -> Result<Output, Error> {
    let Input { repository, layer_digest: digest } = input;
    match service.layer_url(caller, &repository, &digest).await {
        Ok(download_url) => Ok(Output { download_url, layer_digest: digest.to_string() }),
        Err(NoUrl::Denied) => Err(Error::access_denied(caller, NAME, &service.region, &repository)),
        Err(NoUrl::NoRepository) => Err(Error::RepositoryNotFound(repository)),
        Err(NoUrl::NoLayer) => Err(Error::LayersNotFound { digest, repository }),
        Err(NoUrl::NotReferenced) => Err(Error::LayerInaccessible { digest, repository }),
        Err(NoUrl::Fault(fault)) => Err(fault.into()),
    }
}
