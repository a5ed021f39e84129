//! [GetAuthorizationToken](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html):
//! the password with which a client such as docker logs in to the registry.

use std::time::SystemTime;

use serde::Serialize;

use super::members::of_length;
use super::{Context, Error, Members, Operation};
use crate::access::Caller;
use crate::service::Service;
use layergate_core::types::{RegistryId, seconds_since_1970};

/// The most `registryIds`.
const MOST_REGISTRIES: usize = 10;

/// The request.
pub(super) struct GetAuthorizationToken {
    /// From `registryIds`, which is deprecated in ECR: a token is valid for every repository that
    /// its holder may read.
    registry_ids: Vec<RegistryId>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    authorization_data: Vec<AuthorizationData>,
}

/// Has no `Debug`, because it contains a token.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    /// `AWS:` and the token, in base64.
    authorization_token: String,
    /// In seconds since 1970.
    expires_at: u64,
    /// The registry's URL.
    proxy_endpoint: String,
}

impl Operation for GetAuthorizationToken {
    const NAME: &'static str = "GetAuthorizationToken";
    type Output = Output;

    fn is_offered(service: &Service) -> bool {
        service.tokens.is_some()
    }

    fn parse(mut members: Members, _default_registry: &RegistryId) -> Result<Self, Error> {
        let member = "registryIds";
        let ids = members.take_list::<String>(member)?;
        let ids =
            ids.map(|ids| of_length(member, ids, MOST_REGISTRIES)).transpose()?.unwrap_or_default();
        let registry_ids = ids.iter().map(|id| RegistryId::parse(id)).collect::<Result<_, _>>();
        let registry_ids =
            registry_ids.map_err(|constraint| Error::InvalidParameter { member, constraint })?;
        Ok(Self { registry_ids })
    }

    /// Every caller with an identity gets a token, whatever its account is. The function decides in
    /// each later request what the holder may read.
    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let (account, arn) = match context.caller {
            Caller::Identified { account, arn } => (account, arn.as_str()),
            // Like every caller that the gateway admits, it may read the whole registry.
            Caller::Trusted => (&context.service.default_registry_id, "anonymous"),
            Caller::Anonymous => return Err(Error::access_denied(context, "*".to_owned())),
        };
        let origin = context
            .origin
            .ok_or_else(|| Error::Server("the event does not name the API's host".into()))?;
        let tokens = context.service.tokens.as_ref();
        let tokens =
            tokens.ok_or_else(|| Error::Server("there is no key to make tokens with".into()))?;
        let (token, expires) = tokens.issue(account, arn, SystemTime::now()).await?;
        let data = AuthorizationData {
            authorization_token: token.as_basic_credentials(),
            expires_at: seconds_since_1970(expires),
            proxy_endpoint: origin.to_string(),
        };
        let count = self.registry_ids.len().max(1);
        Ok(Output { authorization_data: vec![data; count] })
    }
}
