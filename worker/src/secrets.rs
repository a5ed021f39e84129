//! The credentials for other registries, from Secrets Manager.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use layergate_core::fault::{Backend, Fault};
use layergate_upstream::Credentials;
use serde::Deserialize;

/// Reads secrets from Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
}

/// Why a secret cannot be used. Contains nothing of the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Secrets Manager refused or failed.
    #[error("the secret cannot be read")]
    Unreadable(#[from] Fault),
    /// The secret has another form, or an empty value.
    #[error(r#"the secret is not in the form {{"username":"...","accessToken":"..."}}"#)]
    OtherForm,
}

/// A secret, in ECR's form.
///
/// Source: [Storing your upstream repository
/// credentials](https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    username: String,
    access_token: String,
}

impl Secrets {
    /// The secrets of the account and region of `sdk`. `endpoint` replaces AWS's endpoint.
    pub fn new(sdk: &SdkConfig, endpoint: Option<&str>) -> Self {
        let mut builder = aws_sdk_secretsmanager::config::Builder::from(sdk);
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(builder.build()) }
    }

    /// The credentials in the secret with this ARN. They name no token server. One request.
    pub async fn credentials(&self, arn: &str) -> Result<Credentials, SecretError> {
        let answer = self.client.get_secret_value().secret_id(arn).send().await;
        let answer = answer.map_err(|error| Fault::of(Backend::SecretsManager, error))?;
        // The parser's error is dropped: it may repeat parts of the secret.
        let secret: Option<Secret> =
            answer.secret_string().and_then(|text| serde_json::from_str(text).ok());
        match secret {
            Some(Secret { username, access_token })
                if !username.is_empty() && !access_token.is_empty() =>
            {
                Ok(Credentials { username, password: access_token, realm: None })
            }
            _ => Err(SecretError::OtherForm),
        }
    }
}
