//! Logging in to a registry: a token of the API's `GetAuthorizationToken`, which is the password.

use std::env;

use aws_sdk_ecr::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_ecr::config::{ConfigBag, Intercept, Region, RuntimeComponents};
use aws_sdk_ecr::error::{BoxError, DisplayErrorContext, ProvideErrorMetadata};
use aws_types::SigningName;
use layergate_core::aws;
use layergate_core::types::TOKEN_USER;
use serde::Serialize;

/// What to log in with. It is a credential.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The user.
    pub username: &'static str,
    /// The password.
    pub password: String,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
}

/// Why there is none: a sentence with what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoginError(String);

/// ECR's API of a deployment, as the setting `API_URL` or the registry's host names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    url: String,
    /// The region in the host's name, if it is API Gateway's own name.
    region: Option<String>,
}

/// The stage that the template gives ECR's API if nobody names it otherwise.
const DEFAULT_STAGE: &str = "Prod";

impl Api {
    /// The API at `API_URL`; `None` if that is not set.
    pub fn from_env() -> Option<Self> {
        let url = env::var("API_URL").ok().filter(|url| !url.is_empty())?;
        let region = region_of(host_of(&url));
        Some(Self { url, region })
    }

    /// The API whose registry is at `server`: a host's name, perhaps with a port, or a URL of it.
    /// That is the API at `API_URL` if it has that host; otherwise the stage `Prod` of an API with
    /// API Gateway's own name. `None` if it is neither: no other host is sent a request that is
    /// signed with AWS credentials.
    pub fn of_registry(server: &str) -> Option<Self> {
        let host = host_of(server);
        match Self::from_env() {
            Some(api) if host_of(&api.url) == host => Some(api),
            _ => region_of(host).map(|region| Self {
                url: format!("https://{host}/{DEFAULT_STAGE}"),
                region: Some(region),
            }),
        }
    }

    /// Asks for a token, with the AWS credentials that the AWS CLI would use.
    pub async fn log_in(&self) -> Result<Login, LoginError> {
        let failed = |what: String| LoginError(format!("cannot log in at {}: {what}", self.url));
        let sdk = aws::from_standard_chain().await;
        let sdk = sdk.map_err(|error| failed(format!("the setting {error}")))?;
        let region = self.region.clone().map(Region::new).or_else(|| sdk.region().cloned());
        let region =
            region.ok_or_else(|| failed("no region is configured; set AWS_REGION".to_owned()))?;
        let config = aws_sdk_ecr::config::Builder::from(&sdk)
            .endpoint_url(&self.url)
            .region(region)
            .interceptor(SignForExecuteApi)
            .build();
        let answer = aws_sdk_ecr::Client::from_conf(config).get_authorization_token().send().await;
        let answer = answer.map_err(|error| match (error.code(), error.message()) {
            (Some(code), Some(message)) => failed(format!("{code}: {message}")),
            _ => failed(format!(
                "{}; check API_URL, the network, and that there are AWS credentials",
                DisplayErrorContext(&error)
            )),
        })?;
        let data = answer.authorization_data().first();
        let login = data.and_then(|data| {
            let pair = base64_text(data.authorization_token()?)?;
            Some(Login {
                username: TOKEN_USER,
                password: pair.strip_prefix(TOKEN_USER)?.strip_prefix(':')?.to_owned(),
                expires_at: data.expires_at()?.secs(),
            })
        });
        login.ok_or_else(|| failed("what answers there is not layergate".to_owned()))
    }
}

fn base64_text(value: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::prelude::BASE64_STANDARD.decode(value).ok()?;
    String::from_utf8(bytes).ok()
}

/// The host, with its port, in a URL or in what begins with a host.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// The region in the name that API Gateway gives an API, such as
/// `a1b2c3d4e5.execute-api.us-east-1.amazonaws.com`.
fn region_of(host: &str) -> Option<String> {
    let (id, rest) = host.split_once(".execute-api.")?;
    let region =
        rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (is_name(id) && is_name(region)).then(|| region.to_owned())
}

/// An ECR client signs for the service `ecr`, which API Gateway refuses.
#[derive(Debug)]
struct SignForExecuteApi;

impl Intercept for SignForExecuteApi {
    fn name(&self) -> &'static str {
        "SignForExecuteApi"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SigningName::from_static("execute-api"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_that_is_known_is_logged_in_to() {
        let cases = [
            ("a host", "a1b2.execute-api.eu-west-1.amazonaws.com", Some("eu-west-1")),
            (
                "a URL, as docker gives it",
                "https://a1b2.execute-api.eu-west-1.amazonaws.com/v2/",
                Some("eu-west-1"),
            ),
            ("China", "a1b2.execute-api.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("a registry of somebody else", "registry.example.com", None),
            ("ECR itself", "123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
            (
                "a host that only looks like it",
                "a1b2.execute-api.eu-west-1.amazonaws.com.example.com",
                None,
            ),
            ("a region with a dot", "a1b2.execute-api.x.example.com.amazonaws.com", None),
            ("nothing", "", None),
        ];
        for (description, server, region) in cases {
            let api = Api::of_registry(server);
            assert_eq!(api.as_ref().and_then(|api| api.region.as_deref()), region, "{description}");
            let url = region.map(|_| format!("https://{}/Prod", host_of(server)));
            assert_eq!(api.map(|api| api.url), url, "{description}");
        }
    }
}
