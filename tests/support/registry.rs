//! Requests to the registry, as a REST API's stage `v2` hands them to the function.

use std::time::SystemTime;

use layergate::access::token::Tokens;
use layergate::lambda::Handler;
use layergate_core::types::AccountId;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use super::{Answer, Stack, send};

impl Stack {
    /// The tokens of this stack's registry.
    pub fn tokens(&self) -> Tokens {
        Tokens::new(&self.local.engines.sdk_config(), &self.local.engines.config()).unwrap()
    }

    /// The `Authorization` header of an account that logged in at `time`.
    pub async fn login(&self, account: &str, time: SystemTime) -> String {
        let arn = format!("arn:aws:iam::{account}:user/puller");
        let account = AccountId::parse(account).unwrap();
        let (token, _) = self.tokens().issue(&account, &arn, time).await.unwrap();
        format!("Basic {}", token.as_basic_credentials())
    }

    /// Sends a request to the registry as a member of its account.
    pub async fn pull(&self, method: &str, path: &str) -> Answer {
        let authorization = self.login(ACCOUNT, SystemTime::now()).await;
        pull(&self.handler, method, path, Some(&authorization)).await
    }
}

/// Sends a request to the registry. `path` begins with `/v2` and may have a query.
pub async fn pull(
    handler: &Handler,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> Answer {
    send(handler, &registry_event(method, path, authorization)).await
}

pub fn registry_event(method: &str, path: &str, authorization: Option<&str>) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parameters: serde_json::Map<_, _> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({
        "resource": "/{proxy+}", "path": path.strip_prefix("/v2").unwrap(), "httpMethod": method,
        "headers": authorization.map(|value| json!({"Authorization": value})),
        "queryStringParameters": parameters,
        "requestContext": {
            "accountId": "222222222222", "httpMethod": method, "path": path, "stage": "v2",
            "resourcePath": "/{proxy+}", "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "identity": {"sourceIp": "203.0.113.7"}, "authorizer": {"principalId": "registry"},
        },
        "body": null, "isBase64Encoded": false,
    })
}

impl Answer {
    /// The code of a registry's error, after checking that the error is well formed.
    /// Source: [Error
    /// Codes](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes).
    pub fn code(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        let errors =
            self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self:?}"));
        assert_eq!(errors.len(), 1, "{self:?}");
        assert!(!errors[0]["message"].as_str().unwrap().is_empty(), "{self:?}");
        errors[0]["code"].as_str().unwrap()
    }
}
