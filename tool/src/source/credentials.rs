//! The user's credentials for registries, from where `docker login` and its likes keep them.
//!
//! Source: [docker login](https://docs.docker.com/reference/cli/docker/login/#credential-stores)
//! and
//! [containers-auth.json](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md),
//! the same form.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use layergate_upstream::{Credentials, UpstreamRepository};
use serde::Deserialize;

use crate::error::Error;

/// What Docker Hub's credentials are kept under.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a helper says when it has no credentials for a registry.
const NOT_FOUND: &str = "credentials not found";

/// The user's name by which a helper says that the secret is no password, but to be exchanged for
/// one.
const IDENTITY_TOKEN: &str = "<token>";

/// What is read of the file. It is never printed.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The credentials for the registry of a repository; `None` if there are none.
pub fn find(repository: &UpstreamRepository) -> Result<Option<Credentials>, Error> {
    let Some(path) = file() else { return Ok(None) };
    let unusable =
        |problem: &str| Error::Local(format!("the credentials in {} {problem}", path.display()));
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&format!("cannot be read: {error}"))),
    };
    // The parser's own words may repeat what is in the file.
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|error| unusable(&format!("are not in docker's form (line {})", error.line())))?;

    let key = if repository.is_docker_hub() { DOCKER_HUB } else { repository.registry() };
    let of_registry = |name: &str| is_of(name, key);
    let helper =
        file.cred_helpers.iter().find(|(name, _)| of_registry(name)).map(|(_, helper)| helper);
    let helped = match helper.or(file.creds_store.as_ref()) {
        Some(helper) => ask_helper(helper, key)?,
        None => None,
    };
    let (username, password) = match helped {
        Some(answer) if answer.username == IDENTITY_TOKEN => return Err(identity_token(&path)),
        Some(answer) => (answer.username, answer.secret),
        None => match file.auths.into_iter().find(|(name, _)| of_registry(name)) {
            Some((_, entry)) if !entry.identitytoken.is_empty() => {
                return Err(identity_token(&path));
            }
            Some((_, entry)) if !entry.auth.is_empty() => decode(&entry.auth).ok_or_else(|| {
                unusable(&format!(
                    "for {} are not 'user:password' in base64",
                    repository.registry()
                ))
            })?,
            _ => return Ok(None),
        },
    };
    Ok(Some(Credentials { username, password, realm: None }))
}

fn identity_token(path: &Path) -> Error {
    Error::Local(format!(
        "the credentials in {} are an identity token, which layergate cannot use; log in with a password or an access \
         token",
        path.display()
    ))
}

/// The first that is named, whether it is there or not.
fn file() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("REGISTRY_AUTH_FILE")
        .or_else(|| Some(variable("DOCKER_CONFIG")?.join("config.json")))
        .or_else(|| Some(variable("HOME")?.join(".docker/config.json")))
}

/// Whether a name in the file is this registry's: some tools write it as a URL.
fn is_of(name: &str, key: &str) -> bool {
    let host = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2").to_owned()
    };
    host(name) == host(key) || key == DOCKER_HUB && name == "docker.io"
}

fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks `docker-credential-<helper>`. What it prints is a secret, and no part of an error.
/// Source:
/// [docker-credential-helpers](https://github.com/docker/docker-credential-helpers#development).
fn ask_helper(helper: &str, key: &str) -> Result<Option<HelperAnswer>, Error> {
    let program = format!("docker-credential-{helper}");
    let failed = |problem: &str| {
        Error::Local(format!("{program}, which keeps the credentials for {key}, {problem}"))
    };
    let run = || {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(key.as_bytes()); // it may answer without reading
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| failed(&format!("cannot be run: {error}")))?;
    if output.status.success() {
        let answer = serde_json::from_slice(&output.stdout);
        return answer.map(Some).map_err(|_| failed("gave no credentials"));
    }
    match String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND) {
        true => Ok(None),
        false => Err(failed(&format!("failed ({})", output.status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_by_what_tools_write() {
        let cases = [
            ("registry.example:5000", "registry.example:5000", true),
            ("https://registry.example", "registry.example", true),
            ("https://registry.example/v2/", "registry.example", true),
            ("registry.example", "registry.example:5000", false),
            ("registry.example/team", "registry.example", false),
            ("registry.example.org", "registry.example", false),
            ("https://index.docker.io/v1/", DOCKER_HUB, true),
            ("docker.io", DOCKER_HUB, true),
            ("docker.io", "registry.example", false),
        ];
        for (name, key, expected) in cases {
            assert_eq!(is_of(name, key), expected, "{name} for {key}");
        }
    }
}
