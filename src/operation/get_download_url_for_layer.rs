//! [GetDownloadUrlForLayer](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html):
//! a download URL for a layer that an image in the repository references.

use serde::Serialize;

use super::{Access, Caller, Registry};
use crate::error::Error;
use crate::index::{Consistency, Layer};
use crate::protocol::Members;
use crate::store::DownloadUrl;
use crate::types::{Constraint, Digest, RegistryId, Repository, RepositoryName};

/// The operation's name, as `X-Amz-Target` has it.
pub const NAME: &str = "GetDownloadUrlForLayer";

/// What to give the URL of.
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

/// Answers a call. The happy path is one query and no other request.
pub async fn call(registry: &Registry, caller: &Caller, input: Input) -> Result<Output, Error> {
    let Input { repository, layer_digest } = input;
    let index = &registry.index;

    let hint = match registry.access(caller, &repository) {
        Access::Allowed => index.layer(&repository, &layer_digest, Consistency::Remembered).await?,
        Access::IfGrantedTo(account) => {
            // Nothing remembered here: it would be quicker for what exists, and an outsider could tell.
            let (layer, record) = tokio::join!(
                index.layer(&repository, &layer_digest, Consistency::Eventual),
                index.repository(&repository),
            );
            // An outsider learns nothing of the layer, not even that reading it failed.
            if !record?.is_some_and(|record| record.grants(account)) {
                return Err(registry.access_denied(caller, NAME, repository));
            }
            layer?
        }
        Access::Denied => return Err(registry.access_denied(caller, NAME, repository)),
    };

    let object_key = match hint {
        Layer::Referenced(object_key) => object_key,
        // What an eventually consistent read did not see may have been written a moment ago.
        Layer::Absent | Layer::Unreferenced => {
            let (layer, record) = tokio::try_join!(
                index.layer(&repository, &layer_digest, Consistency::Strong),
                index.repository(&repository),
            )?;
            match (record, layer) {
                (None, _) => return Err(Error::RepositoryNotFound(repository)),
                (_, Layer::Absent) => {
                    return Err(Error::LayersNotFound { digest: layer_digest, repository });
                }
                (_, Layer::Unreferenced) => {
                    return Err(Error::LayerInaccessible { digest: layer_digest, repository });
                }
                (_, Layer::Referenced(object_key)) => object_key,
            }
        }
    };
    let download_url = registry.store.download_url(&object_key).await?;
    Ok(Output { download_url, layer_digest: layer_digest.to_string() })
}
