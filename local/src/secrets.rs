//! The embedded Secrets Manager: secrets are files of the data folder, and can only be read.

use std::fs;
use std::path::{Path, PathBuf};

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::aws_json;

/// The secrets in a folder. The secret with the ARN `arn:...:secret:NAME` is the file `NAME`.
pub(super) struct SecretsManager(PathBuf);

impl SecretsManager {
    /// The secrets in the data folder `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join("secrets"))
    }

    /// Answers a request.
    /// Source:
    /// [GetSecretValue](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html).
    pub(super) async fn answer(&self, request: Request) -> Response {
        match self.secret_value(request).await {
            Some(body) => aws_json::response(StatusCode::OK, &body),
            None => {
                let message = "Secrets Manager can't find the specified secret.";
                let error = json!({"__type": "ResourceNotFoundException", "message": message});
                aws_json::response(StatusCode::BAD_REQUEST, &error)
            }
        }
    }

    async fn secret_value(&self, request: Request) -> Option<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input {
            secret_id: String,
        }
        let Input { secret_id } = aws_json::input(request, "secretsmanager.GetSecretValue").await?;
        let (_, name) = secret_id.split_once(":secret:")?;
        if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return None;
        }
        let secret = fs::read_to_string(self.0.join(name)).ok()?;
        Some(json!({"ARN": secret_id, "Name": name, "SecretString": secret}))
    }
}
