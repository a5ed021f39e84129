//! The embedded KMS: one key, and the one operation that the function uses.

use std::fs;
use std::path::Path;

use axum::body::{Body, to_bytes};
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

use super::{LocalError, write_private};

/// The name of the key.
pub(super) const KEY_ID: &str = "alias/layergate-local";

/// More bytes than a request has: KMS takes messages of up to 4,096 bytes.
const LARGEST_REQUEST: usize = 64 * 1024;

/// A key for MACs. It is kept in the data folder, so that logins outlive a restart of the stack.
pub(super) struct Kms {
    key: Hmac<Sha256>,
}

impl Kms {
    /// The key in `directory`, made if it is missing.
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
    /// Source: [GenerateMac](https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html).
    pub(super) async fn answer(&self, request: Request) -> Response {
        let (status, body) = match self.generate_mac(request).await {
            Some(body) => (StatusCode::OK, body),
            None => (
                StatusCode::BAD_REQUEST,
                json!({"__type": "ValidationException", "message": "only GenerateMac of the local key"}),
            ),
        };
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        response
    }

    async fn generate_mac(&self, request: Request) -> Option<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input {
            key_id: String,
            mac_algorithm: String,
            message: String,
        }
        let target = request.headers().get("x-amz-target")?;
        if target != "TrentService.GenerateMac" {
            return None;
        }
        let body = to_bytes(request.into_body(), LARGEST_REQUEST).await.ok()?;
        let input: Input = serde_json::from_slice(&body).ok()?;
        if input.key_id != KEY_ID || input.mac_algorithm != "HMAC_SHA_256" {
            return None;
        }
        let mut mac = self.key.clone();
        mac.update(&BASE64_STANDARD.decode(input.message).ok()?);
        let mac = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        Some(json!({"KeyId": KEY_ID, "MacAlgorithm": "HMAC_SHA_256", "Mac": mac}))
    }
}
