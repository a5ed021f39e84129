//! [GetDownloadUrlForLayer](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html):
//! a download URL for a layer that an image in the repository references.

use serde::Serialize;

use super::protocol::{registry, required};
use super::{Context, Error, Members};
use crate::pull_through::WAIT_OF_ECR;
use crate::service::MissingLayer;
use layergate_core::store::Method;
use layergate_core::types::{Digest, DownloadUrl, RegistryId, Repository, RepositoryName};

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
        let registry = registry(registry_id, default_registry)?;
        Ok(Self { repository: Repository { registry, name }, layer_digest })
    }
}

/// Answers a call.
pub async fn call(context: &Context<'_>, input: Input) -> Result<Output, Error> {
    let Input { repository, layer_digest: digest } = input;
    let url = context.service.layer_url(context.caller, &repository, &digest, Method::Get, WAIT_OF_ECR);
    match url.await {
        Ok(download_url) => Ok(Output { download_url, layer_digest: digest.to_string() }),
        Err(refusal) => Err(Error::refused(context, NAME, &repository, refusal, |missing| {
            let repository = repository.clone();
            match missing {
                MissingLayer::Absent => Error::LayersNotFound { digest, repository },
                MissingLayer::NotReferenced => Error::LayerInaccessible { digest, repository },
                MissingLayer::NotYet => Error::BeingFetched("layer"),
                MissingLayer::Upstream(failure) => Error::UnableToGetUpstreamLayer(failure),
            }
        })),
    }
}
