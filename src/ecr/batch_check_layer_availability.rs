//! [BatchCheckLayerAvailability](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchCheckLayerAvailability.html):
//! which layers a repository has.

use serde::Serialize;

use super::protocol::failure_reason;
use super::{Context, Error, Members, protocol};
use layergate_core::types::{Constraint, Digest, RegistryId, Repository};

/// The operation's name, as `X-Amz-Target` spells it.
pub const NAME: &str = "BatchCheckLayerAvailability";

/// The most `layerDigests`, and the most characters of each.
const MOST_LAYERS: usize = 100;
const LONGEST_DIGEST: usize = 1000;

/// The layers that are asked for.
#[derive(Debug)]
pub struct Input {
    /// From `registryId` (or the default registry) and `repositoryName`.
    pub repository: Repository,
    layer_digests: Vec<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Output {
    layers: Vec<Layer>,
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    layer_digest: String,
    failure_code: &'static str,
    failure_reason: String,
}

impl Input {
    /// Reads the request: the types of all members first, then each member's constraint.
    pub fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.string("repositoryName")?;
        let registry_id = members.string("registryId")?;
        let member = "layerDigests";
        let layer_digests = members.strings(member)?;

        let repository = protocol::repository(name, registry_id, default_registry)?;
        let layer_digests = protocol::required_list(member, layer_digests, MOST_LAYERS)?;
        if layer_digests.iter().any(|digest| digest.chars().count() > LONGEST_DIGEST) {
            let constraint = Constraint::MaxItems(LONGEST_DIGEST);
            return Err(Error::InvalidParameter { member, constraint });
        }
        Ok(Self { repository, layer_digests })
    }
}

/// Answers a call. Each of the digests leads to a layer or a failure.
pub async fn call(context: &Context<'_>, input: Input) -> Result<Output, Error> {
    let Input { repository, layer_digests } = input;
    let (mut digests, mut failures) = (Vec::new(), Vec::new());
    for layer_digest in layer_digests {
        match Digest::parse(&layer_digest) {
            Ok(digest) => digests.push(digest),
            Err(constraint) => failures.push(Failure::new(layer_digest, constraint)),
        }
    }
    let found = context.service.layer_descriptions(context.caller, &repository, &digests).await;
    let found = found.map_err(|refusal| Error::no_access(context, NAME, &repository, refusal))?;
    let layers = digests.iter().zip(found).map(|(digest, layer)| Layer {
        layer_digest: digest.to_string(),
        layer_availability: if layer.is_some() { "AVAILABLE" } else { "UNAVAILABLE" },
        layer_size: layer.as_ref().map(|layer| layer.size),
        media_type: layer.map(|layer| layer.media_type),
    });
    Ok(Output { layers: layers.collect(), failures })
}

impl Failure {
    fn new(layer_digest: String, constraint: Constraint) -> Self {
        let (failure_code, failure_reason) = match layer_digest.as_str() {
            "" => {
                ("MissingLayerDigest", "Invalid request parameters: layer digest cannot be empty".to_owned())
            }
            _ => ("InvalidLayerDigest", failure_reason("layer digest", constraint)),
        };
        Self { layer_digest, failure_code, failure_reason }
    }
}
