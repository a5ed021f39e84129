//! The embedded KMS: one key, and the one operation that the function uses.

use std::fs;
use std::path::Path;

use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

use super::{LocalError, aws_json, write_private};

/// The name of the key.
pub(super) const KEY_ID: &str = "alias/layergate-local";

/// A key for MACs. It is stored in the data folder, so that a login stays valid after a restart.
pub(super) struct Kms {
    key: Hmac<Sha256>,
}

impl Kms {
    /// The key in `directory`, created if it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, LocalError> {
        let path = directory.join("token.key");
        if !path.exists() {
            let random = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            write_private(&path, &random)?;
        }
        let failed = |error: &dyn std::fmt::Display| {
            LocalError(format!("cannot use the key in {}: {error}", path.display()))
        };
        let secret = fs::read(&path).map_err(|error| failed(&error))?;
        Ok(Self { key: Hmac::new_from_slice(&secret).map_err(|error| failed(&error))? })
    }

    /// Answers a request.
    /// Source:
    /// [GenerateMac](https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html).
    pub(super) async fn answer(&self, request: Request) -> Response {
        match self.generate_mac(request).await {
            Some(body) => aws_json::response(StatusCode::OK, &body),
            None => {
                let message = "only GenerateMac of the local key";
                let error = json!({"__type": "ValidationException", "message": message});
                aws_json::response(StatusCode::BAD_REQUEST, &error)
            }
        }
    }

    async fn generate_mac(&self, request: Request) -> Option<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input {
            key_id: String,
            mac_algorithm: String,
            message: String,
        }
        let input: Input = aws_json::input(request, "TrentService.GenerateMac").await?;
        if input.key_id != KEY_ID || input.mac_algorithm != "HMAC_SHA_256" {
            return None;
        }
        let mut mac = self.key.clone();
        mac.update(&BASE64_STANDARD.decode(input.message).ok()?);
        let mac = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        Some(json!({"KeyId": KEY_ID, "MacAlgorithm": "HMAC_SHA_256", "Mac": mac}))
    }
}
