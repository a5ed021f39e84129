//! [BatchCheckLayerAvailability](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchCheckLayerAvailability.html):
//! which layers a repository has.

use serde::Serialize;

use super::members::failure_reason;
use super::{Context, Error, Members, Operation, members};
use crate::subject::Subject;
use layergate_core::types::{Constraint, Digest, RegistryId, Repository};

/// The most `layerDigests`, and the most characters of each.
const MOST_LAYERS: usize = 100;
const LONGEST_DIGEST: usize = 1000;

/// The request.
pub(super) struct BatchCheckLayerAvailability {
    /// From `registryId` (or the default registry) and `repositoryName`.
    repository: Repository,
    layer_digests: Vec<String>,
}

/// The answer.
#[derive(Serialize)]
pub(super) struct Output {
    layers: Vec<Layer>,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    /// The digest, as the request spells it.
    layer_digest: String,
    /// Whether the layer can be downloaded.
    layer_availability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    layer_digest: String,
    failure_code: &'static str,
    failure_reason: String,
}

impl Operation for BatchCheckLayerAvailability {
    const NAME: &'static str = "BatchCheckLayerAvailability";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.take("repositoryName")?;
        let registry_id = members.take("registryId")?;
        let member = "layerDigests";
        let layer_digests = members.take_list::<String>(member)?;

        let repository = members::repository(name, registry_id, default_registry)?;
        let layer_digests = members::required_list(member, layer_digests, MOST_LAYERS)?;
        if layer_digests.iter().any(|digest| digest.chars().count() > LONGEST_DIGEST) {
            let constraint = Constraint::MaxItems(LONGEST_DIGEST);
            return Err(Error::InvalidParameter { member, constraint });
        }
        Ok(Self { repository, layer_digests })
    }

    fn note(&self, subject: &mut Subject) {
        subject.repository = Some(self.repository.clone());
    }

    /// Returns a layer or a failure for each digest.
    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let Self { repository, layer_digests } = self;
        let (mut digests, mut failures) = (Vec::new(), Vec::new());
        for layer_digest in layer_digests {
            match Digest::parse(&layer_digest) {
                Ok(digest) => digests.push(digest),
                Err(constraint) => failures.push(Failure::new(layer_digest, constraint)),
            }
        }
        let found = context.service.layer_descriptors(context.caller, &repository, &digests).await;
        let found = found.map_err(|refusal| Error::no_access(context, &repository, refusal))?;
        let layers = digests.iter().zip(found).map(|(digest, layer)| Layer {
            layer_digest: digest.to_string(),
            layer_availability: if layer.is_some() { "AVAILABLE" } else { "UNAVAILABLE" },
            layer_size: layer.as_ref().map(|layer| layer.size),
            media_type: layer.map(|layer| layer.media_type),
        });
        Ok(Output { layers: layers.collect(), failures })
    }
}

impl Failure {
    fn new(layer_digest: String, constraint: Constraint) -> Self {
        let (failure_code, failure_reason) = match layer_digest.as_str() {
            "" => (
                "MissingLayerDigest",
                "Invalid request parameters: layer digest cannot be empty".to_owned(),
            ),
            _ => ("InvalidLayerDigest", failure_reason("layer digest", constraint)),
        };
        Self { layer_digest, failure_code, failure_reason }
    }
}
