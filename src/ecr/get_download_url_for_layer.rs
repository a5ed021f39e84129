//! [GetDownloadUrlForLayer](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html):
//! a download URL for a layer that an image in the repository references.

use serde::Serialize;

use super::members::{registry, required};
use super::{Context, Error, Members, Operation};
use crate::pull_through::WAIT_OF_ECR;
use crate::service::MissingLayer;
use crate::subject::Subject;
use layergate_core::store::Method;
use layergate_core::types::{Digest, DownloadUrl, RegistryId, Repository, RepositoryName};

/// The request.
pub(super) struct GetDownloadUrlForLayer {
    /// From `registryId` (or the default registry) and `repositoryName`.
    repository: Repository,
    /// From `layerDigest`.
    layer_digest: Digest,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    /// A presigned URL of the layer's bytes.
    download_url: DownloadUrl,
    /// The digest, as the request spells it.
    layer_digest: String,
}

impl Operation for GetDownloadUrlForLayer {
    const NAME: &'static str = "GetDownloadUrlForLayer";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let repository_name = members.take("repositoryName")?;
        let layer_digest = members.take("layerDigest")?;
        let registry_id = members.take("registryId")?;

        let name = required("repositoryName", repository_name, RepositoryName::parse)?;
        let layer_digest = required("layerDigest", layer_digest, Digest::parse)?;
        let registry = registry(registry_id, default_registry)?;
        Ok(Self { repository: Repository { registry, name }, layer_digest })
    }

    fn note(&self, subject: &mut Subject) {
        subject.repository = Some(self.repository.clone());
        subject.digest = Some(self.layer_digest.clone());
    }

    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let Self { repository, layer_digest: digest } = self;
        let url = context.service.layer_url(
            context.caller,
            &repository,
            &digest,
            Method::Get,
            WAIT_OF_ECR,
        );
        match url.await {
            Ok(download_url) => Ok(Output { download_url, layer_digest: digest.to_string() }),
            Err(refusal) => Err(Error::refused(context, &repository, refusal, |missing| {
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
}
