//! Requests to the worker, and the client that sends them.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::builders::InvokeFluentBuilder;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};

use crate::catalog::UniqueId;
use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::types::{
    Digest, ImageId, ImageTag, RegistryId, Repository, RepositoryName, RulePrefix, Wanted,
};

/// How long a validation may take: an upstream that does not answer is asked three times, for ten
/// seconds each, and its token server as well.
const LONGEST_VALIDATION: Duration = Duration::from_secs(180);

/// What the worker is asked to do: the payload of an invocation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// To remove what no image needs any more. What the schedule sends.
    #[serde(rename_all = "camelCase")]
    Clean {
        /// Objects, uploads and unfinished images that are younger stay.
        older_than_days: u16,
    },
    /// To fetch an image or a layer.
    Fill(FillEvent),
    /// To say whether a rule's upstream lets the registry in.
    #[serde(rename_all = "camelCase")]
    Validate {
        /// The rule's prefix.
        ecr_repository_prefix: String,
    },
}

/// An image or a layer to fetch, as text. One of the last three is given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FillEvent {
    registry_id: String,
    repository_name: String,
    lease_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tag: Option<String>,
}

/// Whether a rule's upstream lets the registry in, by ECR's names.
/// Source:
/// [ValidatePullThroughCacheRule](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ValidatePullThroughCacheRule.html).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Whether it does.
    pub is_valid: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl FillEvent {
    fn new(repository: &Repository, wanted: &Wanted, lease_id: UniqueId) -> Self {
        let event = Self {
            registry_id: repository.registry.to_string(),
            repository_name: repository.name.to_string(),
            lease_id: lease_id.to_string(),
            ..Self::default()
        };
        match wanted {
            Wanted::Layer(digest) => Self { layer_digest: Some(digest.canonical()), ..event },
            Wanted::Image(ImageId::Digest(digest)) => {
                Self { image_digest: Some(digest.canonical()), ..event }
            }
            Wanted::Image(ImageId::Tag(tag)) => Self { image_tag: Some(tag.to_string()), ..event },
        }
    }

    /// Where it belongs, what it is, and the id of its lease; `None` if this is not what
    /// [`WorkerClient::fill`] sends.
    pub fn parse(&self) -> Option<(Repository, Wanted, UniqueId)> {
        let registry = RegistryId::parse(&self.registry_id).ok()?;
        let name = RepositoryName::parse(&self.repository_name).ok()?;
        let wanted = match (&self.layer_digest, &self.image_digest, &self.image_tag) {
            (Some(digest), None, None) => Wanted::Layer(Digest::parse(digest).ok()?),
            (None, Some(digest), None) => {
                Wanted::Image(ImageId::Digest(Digest::parse(digest).ok()?))
            }
            (None, None, Some(tag)) => Wanted::Image(ImageId::Tag(ImageTag::parse(tag).ok()?)),
            _ => return None,
        };
        Some((Repository { registry, name }, wanted, self.lease_id.parse().ok()?))
    }
}

/// A client of the worker.
#[derive(Debug)]
pub struct WorkerClient {
    sdk: SdkConfig,
    endpoint: Option<String>,
    function_name: String,
    /// Made at its first use: a function instance that gives out only what is stored needs no
    /// client.
    client: OnceLock<Client>,
}

impl WorkerClient {
    /// The worker that `config` names; `None` if it names none.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Option<Self> {
        config.worker_function_name.as_ref().map(|function_name| Self {
            sdk: sdk.clone(),
            endpoint: config.lambda_endpoint.clone(),
            function_name: function_name.clone(),
            client: OnceLock::new(),
        })
    }

    /// Asks for an image or a layer to be fetched, under this lease. Returns when Lambda has taken
    /// the request; it may deliver it more than once.
    /// Source: [Asynchronous
    /// invocation](https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html).
    pub async fn fill(
        &self,
        repository: &Repository,
        wanted: &Wanted,
        lease_id: UniqueId,
    ) -> Result<(), Fault> {
        let event = Event::Fill(FillEvent::new(repository, wanted, lease_id));
        let invoked = self.invoke(&event)?.invocation_type(InvocationType::Event).send().await;
        payload(invoked, 202).map(|_| ())
    }

    /// Asks whether a rule's upstream lets the registry in, and waits for the answer.
    pub async fn validate(&self, prefix: &RulePrefix) -> Result<Validation, Fault> {
        let event = Event::Validate { ecr_repository_prefix: prefix.to_string() };
        let invoke = self.invoke(&event)?.invocation_type(InvocationType::RequestResponse);
        let time = TimeoutConfig::builder()
            .operation_attempt_timeout(LONGEST_VALIDATION)
            .operation_timeout(LONGEST_VALIDATION)
            .build();
        let invoked =
            invoke.customize().config_override(Builder::new().timeout_config(time)).send().await;
        serde_json::from_slice(&payload(invoked, 200)?).map_err(|_| Fault::garbled(Backend::Lambda))
    }

    fn invoke(&self, event: &Event) -> Result<InvokeFluentBuilder, Fault> {
        let payload =
            serde_json::to_vec(event).map_err(|error| Fault::not_sent(Backend::Lambda, error))?;
        let client = self.client.get_or_init(|| {
            let mut builder = Builder::from(&self.sdk);
            if let Some(endpoint) = &self.endpoint {
                builder = builder.endpoint_url(endpoint);
            }
            Client::from_conf(builder.build())
        });
        Ok(client.invoke().function_name(&self.function_name).payload(Blob::new(payload)))
    }
}

/// What the function has returned, if Lambda answers with the status that says so.
fn payload(
    invoked: Result<InvokeOutput, SdkError<InvokeError>>,
    status: i32,
) -> Result<Vec<u8>, Fault> {
    let output = invoked.map_err(|error| Fault::of(Backend::Lambda, error))?;
    match (output.status_code == status, output.function_error) {
        (true, None) => Ok(output.payload.map(Blob::into_inner).unwrap_or_default()),
        (_, Some(error)) => Err(Fault::of_function(error)),
        _ => Err(Fault::garbled(Backend::Lambda)),
    }
}
