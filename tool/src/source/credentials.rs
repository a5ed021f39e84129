//! The user's credentials for registries, where `docker login`, `podman login` and their likes
//! store them.
//!
//! Files and helpers may leave out a value, or have `null` or an empty text in its place. All of
//! them mean that there is no such value. Credentials without a user name or a password are none.
//!
//! Sources: [docker login](https://docs.docker.com/reference/cli/docker/login/#credential-stores)
//! and
//! [containers-auth.json](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md),
//! which has the same form.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use layergate_upstream::{Credentials, UpstreamRepository};
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// The name of Docker Hub's entry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The other names of Docker Hub's entry, as other tools write them.
const OTHER_DOCKER_HUBS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A part of a helper's output if it has no credentials for a registry.
const NOT_FOUND: &str = "credentials not found";

/// The user name in a helper's answer if the secret is not a password: it must be exchanged for
/// one.
const IDENTITY_TOKEN: &str = "<token>";

/// The parts of the file that are used. They are never printed.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    /// Only the entry of the wanted registry is parsed. The others may have any form.
    auths: Option<BTreeMap<String, Value>>,
    cred_helpers: Option<BTreeMap<String, Option<String>>>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    /// User name and password, with a colon between them, in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// A helper's answer. docker accepts the names in any case.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(alias = "username")]
    username: Option<String>,
    #[serde(alias = "secret")]
    secret: Option<String>,
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
    // The parser's own words may repeat parts of the file.
    let file: File = parse(&bytes)
        .map_err(|error| unusable(&format!("are not in docker's form (line {})", error.line())))?;

    let names = Names::of(repository);
    if let Some(helper) = helper(&file, &names) {
        let HelperAnswer { username, secret } = ask_helper(helper, &names.registry)?;
        if username.as_deref() == Some(IDENTITY_TOKEN) && !is_empty(&secret) {
            return Err(identity_token(&path));
        }
        if let Some(credentials) = credentials(username, secret) {
            return Ok(Some(credentials));
        }
    }
    let auths = file.auths.unwrap_or_default();
    let Some(entry) = names.entry(&auths) else { return Ok(None) };
    let not_an_entry = || {
        let registry = repository.registry();
        unusable(&format!("for {registry} are not 'user:password' in base64"))
    };
    let entry = Option::<Entry>::deserialize(entry).map_err(|_| not_an_entry())?;
    let Entry { auth, username, password, identitytoken } = entry.unwrap_or_default();
    if !is_empty(&identitytoken) {
        return Err(identity_token(&path));
    }
    match auth.filter(|auth| !auth.is_empty()) {
        Some(auth) => {
            let (username, password) = decode(&auth).ok_or_else(not_an_entry)?;
            Ok(credentials(Some(username), Some(password)))
        }
        None => Ok(credentials(username, password)),
    }
}

/// Parses a file or a helper's answer. Nothing at all and `null` are the default.
fn parse<'a, T: Deserialize<'a> + Default>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    match bytes.trim_ascii() {
        b"" => Ok(T::default()),
        bytes => Ok(serde_json::from_slice::<Option<T>>(bytes)?.unwrap_or_default()),
    }
}

fn is_empty(value: &Option<String>) -> bool {
    value.as_ref().is_none_or(String::is_empty)
}

fn credentials(username: Option<String>, password: Option<String>) -> Option<Credentials> {
    let username = username.filter(|username| !username.is_empty())?;
    let password = password.filter(|password| !password.is_empty())?;
    Some(Credentials { username, password, realm: None })
}

fn identity_token(path: &Path) -> Error {
    Error::Local(format!(
        "the credentials in {} are an identity token, which layergate cannot use; log in with a password or an access \
         token",
        path.display()
    ))
}

/// The first file that is configured, whether it exists or not.
fn file() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("REGISTRY_AUTH_FILE")
        .or_else(|| Some(variable("DOCKER_CONFIG")?.join("config.json")))
        .or_else(|| Some(variable("HOME")?.join(".docker/config.json")))
}

/// The names that the credentials for a repository may be stored under.
struct Names {
    /// The registry's name for helpers.
    registry: String,
    /// The names in the file, exactly as tools write them. The first one that the file has counts.
    exact: Vec<String>,
    /// The registry's hosts. Older tools write `https://HOST/v1/` and the like.
    hosts: Vec<String>,
}

impl Names {
    fn of(repository: &UpstreamRepository) -> Self {
        let host = repository.registry().to_ascii_lowercase();
        let is_docker_hub = repository.is_docker_hub();
        let own = if is_docker_hub { OTHER_DOCKER_HUBS[0] } else { &host };
        // podman stores credentials for a part of a registry under HOST/NAMESPACE.
        let mut exact = Vec::new();
        let mut name = repository.name();
        while !name.is_empty() {
            exact.push(format!("{own}/{name}"));
            name = name.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        }
        let mut hosts = vec![host.clone()];
        if is_docker_hub {
            exact.push(DOCKER_HUB.to_owned());
            hosts = OTHER_DOCKER_HUBS.map(str::to_owned).to_vec();
        }
        exact.extend(hosts.iter().cloned());
        let registry = if is_docker_hub { DOCKER_HUB.to_owned() } else { host };
        Self { registry, exact, hosts }
    }

    /// The value for the repository in a part of the file.
    fn entry<'a, T>(&self, values: &'a BTreeMap<String, T>) -> Option<&'a T> {
        let exact = self.exact.iter().find_map(|name| values.get(name));
        exact.or_else(|| {
            let mut values = values.iter();
            values.find(|(name, _)| self.hosts.contains(&host_in(name))).map(|(_, value)| value)
        })
    }
}

/// The host, with its port, in a name that may be a URL of a registry.
fn host_in(name: &str) -> String {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    let name = name.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    name.to_ascii_lowercase()
}

/// The helper that has the registry's credentials. An empty name for this registry means the file
/// itself, as for docker.
fn helper<'a>(file: &'a File, names: &Names) -> Option<&'a str> {
    let own = file.cred_helpers.as_ref().and_then(|helpers| names.entry(helpers));
    let helper = match own {
        Some(helper) => helper.as_deref(),
        None => file.creds_store.as_deref(),
    };
    helper.filter(|helper| !helper.is_empty())
}

fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks `docker-credential-<helper>`. Its output is secret, so errors do not contain it.
/// Source:
/// [docker-credential-helpers](https://github.com/docker/docker-credential-helpers#development).
fn ask_helper(helper: &str, registry: &str) -> Result<HelperAnswer, Error> {
    let program = format!("docker-credential-{helper}");
    let failed = |problem: &str| {
        Error::Local(format!("{program}, which keeps the credentials for {registry}, {problem}"))
    };
    let run = || {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(registry.as_bytes()); // it may answer without reading
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| failed(&format!("cannot be run: {error}")))?;
    if output.status.success() {
        return parse(&output.stdout).map_err(|_| failed("gave no credentials"));
    }
    match String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND) {
        true => Ok(HelperAnswer::default()),
        false => Err(failed(&format!("failed ({})", output.status))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_entry_counts_and_never_that_of_somebody_else() {
        let cases: [(&str, &str, &[&str], Option<&str>); 20] = [
            ("the host", "r.example/team/app", &["r.example"], Some("r.example")),
            ("with its port", "r.example:5000/app", &["r.example:5000"], Some("r.example:5000")),
            ("a URL", "r.example/app", &["https://r.example"], Some("https://r.example")),
            (
                "with a path",
                "r.example/app",
                &["http://r.example/v2/"],
                Some("http://r.example/v2/"),
            ),
            ("in upper case", "R.Example/app", &["r.example"], Some("r.example")),
            ("another port", "r.example/app", &["r.example:5000"], None),
            ("without the port", "r.example:5000/app", &["r.example"], None),
            ("a longer host", "r.example/app", &["r.example.org", "my.r.example"], None),
            (
                "host and URL",
                "r.example/app",
                &["https://r.example/v1/", "r.example"],
                Some("r.example"),
            ),
            ("a namespace", "r.example/a/b/c", &["r.example/a", "r.example"], Some("r.example/a")),
            (
                "two namespaces",
                "r.example/a/b/c",
                &["r.example/a", "r.example/a/b", "r.example"],
                Some("r.example/a/b"),
            ),
            (
                "the repository",
                "r.example/a/b",
                &["r.example/a/b", "r.example/a"],
                Some("r.example/a/b"),
            ),
            ("another namespace", "r.example/a/b", &["r.example/c", "r.example/a/c"], None),
            ("a namespace that begins alike", "r.example/team/app", &["r.example/tea"], None),
            ("Docker Hub", "docker.io/app", &[DOCKER_HUB], Some(DOCKER_HUB)),
            ("by podman", "registry-1.docker.io/a/b", &["docker.io"], Some("docker.io")),
            (
                "a namespace there",
                "docker.io/a/b",
                &[DOCKER_HUB, "docker.io/a"],
                Some("docker.io/a"),
            ),
            (
                "the other version",
                "docker.io/app",
                &["https://index.docker.io/v2/"],
                Some("https://index.docker.io/v2/"),
            ),
            ("Docker Hub for another", "r.example/app", &["docker.io", DOCKER_HUB], None),
            ("nothing", "r.example/app", &["", "https://", "/"], None),
        ];
        for (description, repository, names, expected) in cases {
            let entries: BTreeMap<_, _> =
                names.iter().map(|name| ((*name).to_owned(), *name)).collect();
            let repository = UpstreamRepository::parse(repository).unwrap();
            assert_eq!(
                Names::of(&repository).entry(&entries).copied(),
                expected,
                "{description}: {repository} in {names:?}"
            );
        }
    }
}
