//! `layergate credential-provider`: a kubelet runs it to get credentials for an image's registry.
//!
//! Source: [Configure a kubelet image credential
//! provider](https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/) and
//! the types of
//! [credentialprovider.kubelet.k8s.io/v1](https://kubernetes.io/docs/reference/config-api/kubelet-credentialprovider.v1/).

use std::io::{self, Read};

use layergate_tool::authorization::Api;
use serde::Deserialize;
use serde_json::json;

use crate::error::Error;
use crate::output;

/// What `--help` says.
pub const ABOUT: &str = "Answer a kubelet's request for credentials, as its plugin\n\n\
    Reads a CredentialProviderRequest from standard input, and prints a CredentialProviderResponse.";

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// How long a kubelet keeps the answer. A token expires after twice that time, so a kubelet never
/// starts a pull with a token that is about to expire.
const CACHE_DURATION: &str = "6h0m0s";

/// No request has more bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    image: String,
}

/// Runs the command.
pub async fn run() -> Result<(), Error> {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST_REQUEST).read_to_string(&mut text);
    read.map_err(|error| {
        Error::Local(format!("cannot read the request on standard input: {error}"))
    })?;
    let request: Request = serde_json::from_str(&text).map_err(|error| {
        Error::Usage(format!("standard input is not a CredentialProviderRequest: {error}"))
    })?;
    if request.api_version != API_VERSION {
        return Err(Error::Usage(format!(
            "the request has the API version '{}'; set {API_VERSION} in the kubelet's CredentialProviderConfig",
            request.api_version
        )));
    }
    let host = request.image.split('/').next().unwrap_or_default();
    let auth = match Api::of_registry(host)? {
        Some(api) => {
            let login = api.log_in().await?;
            json!({host: {"username": login.username, "password": login.password}})
        }
        // The kubelet then pulls without credentials.
        None => json!({}),
    };
    output::print_json(&json!({
        "apiVersion": API_VERSION,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": CACHE_DURATION,
        "auth": auth,
    }))
}
