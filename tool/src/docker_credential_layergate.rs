//! docker's credential helper: it logs in when docker, podman, buildah or skopeo pulls.
//!
//! It stores nothing. It requests a new token each time, so no stored token can expire.
//!
//! Source:
//! [docker-credential-helpers](https://github.com/docker/docker-credential-helpers#development),
//! the protocol.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use layergate_tool::authorization::Api;
use serde_json::json;

/// docker takes these words to mean that there are no credentials, and continues without.
/// Source: `errCredentialsNotFoundMessage` in docker-credential-helpers.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// No request has more bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let action = std::env::args().nth(1);
    let answer = match action.as_deref() {
        Some("get") => get().await,
        // There is nothing to store: the AWS credentials are on this machine already.
        Some("store" | "erase") => Ok(String::new()),
        Some("list") => Ok("{}".to_owned()),
        _ => Err("usage: docker-credential-layergate get|store|erase|list, as docker calls it"
            .to_owned()),
    };
    // docker reads errors from standard output.
    let (text, exit) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(sentence) => (sentence, ExitCode::FAILURE),
    };
    let _ = io::stdout().write_all(text.as_bytes()); // nobody has to read it
    exit
}

async fn get() -> Result<String, String> {
    let mut server = String::new();
    let read = io::stdin().take(LONGEST_REQUEST).read_to_string(&mut server);
    read.map_err(|error| format!("cannot read the server's URL on standard input: {error}"))?;
    let server = server.trim();
    let api = Api::of_registry(server).map_err(|error| error.to_string())?;
    let api = api.ok_or_else(|| NOT_FOUND.to_owned())?;
    let login = api.log_in().await.map_err(|error| error.to_string())?;
    Ok(json!({"ServerURL": server, "Username": login.username, "Secret": login.password})
        .to_string())
}
