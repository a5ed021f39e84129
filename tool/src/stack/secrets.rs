//! The embedded Secrets Manager: secrets are files of the data folder, and can only be read.

use std::fs;
use std::path::{Path, PathBuf};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// More bytes than a request has.
const LARGEST_REQUEST: usize = 64 * 1024;

/// The secrets in a folder. The secret with the ARN `arn:...:secret:NAME` is the file `NAME`.
pub(super) struct SecretsManager(PathBuf);

impl SecretsManager {
    /// The secrets in the data folder `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join("secrets"))
    }

    /// Answers a request.
    /// Source: [GetSecretValue](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html).
    pub(super) async fn answer(&self, request: Request) -> Response {
        let (status, body) = match self.secret_value(request).await {
            Some(body) => (StatusCode::OK, body),
            None => {
                let message = "Secrets Manager can't find the specified secret.";
                (StatusCode::BAD_REQUEST, json!({"__type": "ResourceNotFoundException", "message": message}))
            }
        };
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        response
    }

    async fn secret_value(&self, request: Request) -> Option<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input {
            secret_id: String,
        }
        if request.headers().get("x-amz-target")? != "secretsmanager.GetSecretValue" {
            return None;
        }
        let body = to_bytes(request.into_body(), LARGEST_REQUEST).await.ok()?;
        let Input { secret_id } = serde_json::from_slice(&body).ok()?;
        let (_, name) = secret_id.split_once(":secret:")?;
        if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return None;
        }
        let secret = fs::read_to_string(self.0.join(name)).ok()?;
        Some(json!({"ARN": secret_id, "Name": name, "SecretString": secret}))
    }
}
