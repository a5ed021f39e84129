//! Logging in to a registry: the API's `GetAuthorizationToken` returns a token, which is the
//! password.

use std::{env, fmt};

use aws_sdk_ecr::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_ecr::config::{ConfigBag, Intercept, Region, RuntimeComponents};
use aws_sdk_ecr::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_types::SigningName;
use layergate_core::aws;
use layergate_core::fault::{credentials_problem, root_cause};
use layergate_core::types::TOKEN_USER;
use layergate_upstream::{TlsProblem, Url};
use serde::Serialize;

/// What to do if there are no AWS credentials.
pub const NO_CREDENTIALS: &str =
    "run 'aws configure' or 'aws sso login', or for a local stack '. .layergate/local.env'";

/// A user name and a password for docker. It is a credential.
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

/// Why there is no login: a sentence with what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// `API_URL` is not the URL of an API. The value is not repeated: it may contain a password.
    #[error(
        "the setting API_URL must be the URL of ECR's API without a user or a query, such as \
         https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/Prod"
    )]
    NoUrl,
    /// The API gave no token.
    #[error("cannot log in at {api}: {problem}")]
    Refused {
        /// The API.
        api: Api,
        /// What went wrong, and what to do.
        problem: String,
    },
}

/// ECR's API of a deployment, as the setting `API_URL` or the registry's host names it. Displayed
/// as its URL, which has nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    url: String,
    /// The region in the host's name, if it is API Gateway's own name.
    region: Option<String>,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The template's default name for the stage of ECR's API.
const DEFAULT_STAGE: &str = "Prod";

impl Api {
    /// The API at `API_URL`; `None` if that is not set.
    pub fn from_env() -> Result<Option<Self>, LoginError> {
        let Some(url) = env::var("API_URL").ok().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let is_api = Url::parse(&url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
        });
        match is_api {
            true => Ok(Some(Self { region: region_of(host_of(&url)), url })),
            false => Err(LoginError::NoUrl),
        }
    }

    /// The API whose registry is at `server`: a host's name, perhaps with a port, or a URL of it.
    /// That is the API at `API_URL` if it has that host; otherwise the stage `Prod` of an API with
    /// API Gateway's own name. `None` if it is neither: no other host gets a request that is signed
    /// with AWS credentials.
    pub fn of_registry(server: &str) -> Result<Option<Self>, LoginError> {
        let host = host_of(server);
        let by_name = region_of(host).map(|region| Self {
            url: format!("https://{host}/{DEFAULT_STAGE}"),
            region: Some(region),
        });
        match Self::from_env() {
            Ok(Some(api)) if host_of(&api.url) == host => Ok(Some(api)),
            Err(error) if by_name.is_none() => Err(error),
            _ => Ok(by_name),
        }
    }

    /// Asks for a token, with the AWS credentials that the AWS CLI would use.
    pub async fn log_in(&self) -> Result<Login, LoginError> {
        let failed = |problem| LoginError::Refused { api: self.clone(), problem };
        let sdk = aws::from_standard_chain().await;
        let sdk = sdk.map_err(|error| failed(format!("the setting {error}")))?;
        let region = self.region.clone().map(Region::new).or_else(|| sdk.region().cloned());
        let region =
            region.ok_or_else(|| failed("there is no region; set AWS_REGION".to_owned()))?;
        let config = aws_sdk_ecr::config::Builder::from(&sdk)
            .endpoint_url(&self.url)
            .region(region)
            .interceptor(SignForExecuteApi)
            .build();
        let answer = aws_sdk_ecr::Client::from_conf(config).get_authorization_token().send().await;
        let answer = answer.map_err(|error| failed(self.problem(&error)))?;
        let data = answer.authorization_data().first();
        let login = data.and_then(|data| {
            let pair = base64_text(data.authorization_token()?)?;
            Some(Login {
                username: TOKEN_USER,
                password: pair.strip_prefix(TOKEN_USER)?.strip_prefix(':')?.to_owned(),
                expires_at: data.expires_at()?.secs(),
            })
        });
        login.ok_or_else(|| failed(NO_API.to_owned()))
    }

    /// What went wrong, and what to do.
    fn problem<E>(&self, error: &SdkError<E>) -> String
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let (Some(code), Some(message)) = (error.code(), error.message()) {
            return format!("{code}: {message}");
        }
        if let Some(problem) = credentials_problem(error) {
            return format!("{problem}; {NO_CREDENTIALS}");
        }
        let tls = match self.url.starts_with("http://") {
            true => TlsProblem::of_plain(error),
            false => TlsProblem::of(error),
        };
        if let Some(problem) = tls {
            let advice =
                problem.advice("begin API_URL with http://", "begin API_URL with https://");
            return format!("the server {problem}; {advice}");
        }
        match error {
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => NO_API.to_owned(),
            SdkError::TimeoutError(_) => {
                "there was no answer in time; check API_URL and the network".to_owned()
            }
            error => {
                let cause = root_cause(error);
                format!("the server cannot be reached: {cause}; check API_URL and the network")
            }
        }
    }
}

/// Why the answer of a server cannot be used.
const NO_API: &str = "the server is not a layergate API; check API_URL";

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
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn only_known_registries_get_signed_requests() {
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
            let api = Api::of_registry(server).unwrap();
            assert_eq!(api.as_ref().and_then(|api| api.region.as_deref()), region, "{description}");
            let url = region.map(|_| format!("https://{}/Prod", host_of(server)));
            assert_eq!(api.map(|api| api.url), url, "{description}");
        }
    }
}
