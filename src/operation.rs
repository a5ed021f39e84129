//! The operations, and who may call them.

pub mod get_download_url_for_layer;

use aws_config::SdkConfig;
use serde::Serialize;
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;
use crate::index::{Consistency, LayerIndex};
use crate::protocol::{self, Members};
use crate::store::LayerStore;
use crate::types::{AccountId, Digest, RegistryId, Repository, RepositoryName};

/// What the operations work on.
#[derive(Debug)]
pub struct Registry {
    index: LayerIndex,
    store: LayerStore,
    default_registry_id: RegistryId,
    region: String,
}

/// Who is calling.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody the gateway vouches for: reads everything.
    Trusted,
    /// The IAM identity that the gateway verified.
    Identified {
        /// The account it belongs to.
        account: AccountId,
        /// Its ARN.
        arn: String,
    },
    /// Nobody the gateway verified: reads nothing.
    Anonymous,
}

/// What a call is about, for the log.
#[derive(Debug, Default)]
pub struct Subject {
    /// The operation, if this service has it.
    pub operation: Option<&'static str>,
    /// The repository, if the whole request is valid.
    pub repository: Option<Repository>,
    /// The layer, likewise.
    pub digest: Option<Digest>,
}

/// Whether a caller may read a repository.
enum Access<'a> {
    Allowed,
    /// Only if the repository's record lists this account.
    IfGrantedTo(&'a AccountId),
    Denied,
}

impl Registry {
    /// A registry on the table and the bucket that `config` names, reached as `sdk` says.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            index: LayerIndex::new(sdk, config),
            store: LayerStore::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does what only a first call has to: reads certificates and credentials, and connects to DynamoDB. One
    /// request, for a layer that no repository has.
    pub async fn make_ready(&self) -> Result<(), Error> {
        let name = RepositoryName::parse("ready").expect("it is a name");
        let repository = Repository { registry: self.default_registry_id.clone(), name };
        let digest = Digest::parse("none:0").expect("it is a digest");
        self.index.layer(&repository, &digest, Consistency::Eventual).await.map(|_| ())
    }

    /// Calls the operation that `target`, the `X-Amz-Target` header, asks for; gives its output as JSON.
    /// `members` reads the body, which nobody looks at before the target.
    /// `subject` is filled in as soon as it is known, so that a call that fails can be logged with it.
    pub async fn call(
        &self,
        target: Option<&str>,
        members: impl FnOnce() -> Result<Members, Error>,
        caller: &Caller,
        subject: &mut Subject,
    ) -> Result<Value, Error> {
        match protocol::operation_name(target)? {
            get_download_url_for_layer::NAME => {
                subject.operation = Some(get_download_url_for_layer::NAME);
                let input = get_download_url_for_layer::Input::parse(members()?, &self.default_registry_id)?;
                subject.repository = Some(input.repository.clone());
                subject.digest = Some(input.layer_digest.clone());
                to_json(get_download_url_for_layer::call(self, caller, input).await?)
            }
            _ => Err(protocol::unknown_operation(target)),
        }
    }

    fn access<'a>(&self, caller: &'a Caller, repository: &Repository) -> Access<'a> {
        match caller {
            Caller::Trusted => Access::Allowed,
            Caller::Identified { account, .. } if *account == repository.registry => Access::Allowed,
            Caller::Identified { account, .. } => Access::IfGrantedTo(account),
            Caller::Anonymous => Access::Denied,
        }
    }

    fn access_denied(&self, caller: &Caller, operation: &'static str, repository: Repository) -> Error {
        let user = match caller {
            Caller::Identified { arn, .. } => arn.clone(),
            Caller::Trusted | Caller::Anonymous => "anonymous".to_owned(),
        };
        Error::AccessDenied { user, operation, region: self.region.clone(), repository }
    }
}

fn to_json(output: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(output).map_err(|error| Error::Server(error.into()))
}
