//! `HOST/NAME`: a repository of another registry.

use std::fmt;

use url::{Host, Url};

use crate::types::{Constraint, RepositoryName};

/// The names by which Docker Hub is known. Only the last one speaks the protocol.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A repository of another registry, such as `docker.io/library/busybox`. Displayed as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRepository {
    as_given: String,
    /// Where the registry is reached: host, and port if there is one.
    authority: String,
    host: Host,
    name: RepositoryName,
}

/// Why a text is not `HOST/NAME`. Displayed as a sentence that follows what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not begin with a host.
    #[error("must begin with the registry's host, as in docker.io/library/busybox")]
    NoHost,
    /// What follows the host is no repository's name.
    #[error("has a name that {0}")]
    Name(Constraint),
}

impl UpstreamRepository {
    /// Accepts `HOST/NAME` or `HOST:PORT/NAME`. The host has a dot or a port, or is `localhost`. On Docker Hub, a name
    /// of one part is one of its official images, as everywhere.
    pub fn parse(value: &str) -> Result<Self, NameError> {
        let (authority, name) = value.split_once('/').ok_or(NameError::NoHost)?;
        // Nothing else that a URL may have before its first slash: no user, no query.
        let is_authority =
            authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        let is_host = is_authority && (authority.contains(['.', ':']) || authority == "localhost");
        let url = Url::parse(&format!("https://{authority}/")).ok().filter(|_| is_host);
        let host = url.as_ref().and_then(|url| url.host()).ok_or(NameError::NoHost)?.to_owned();
        let is_docker_hub = DOCKER_HUB.contains(&authority);
        let name = match is_docker_hub && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        let name = RepositoryName::parse(&name).map_err(NameError::Name)?;
        let (authority, host) = match is_docker_hub {
            true => (DOCKER_HUB[2].to_owned(), Host::Domain(DOCKER_HUB[2].to_owned())),
            false => (authority.to_owned(), host),
        };
        Ok(Self { as_given: value.to_owned(), authority, host, name })
    }

    /// The host at which the registry is reached, without its port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The registry as it was given, with its port: what its credentials are kept under.
    pub fn registry(&self) -> &str {
        self.as_given.split('/').next().unwrap_or_default()
    }

    /// Whether the registry is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.authority == DOCKER_HUB[2]
    }

    /// The repository's name in its registry.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// The URL below which the repository is, by the distribution specification.
    pub(super) fn base(&self, scheme: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{scheme}://{}/v2/{}/", self.authority, self.name))
    }
}

impl fmt::Display for UpstreamRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_given)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_a_host_and_a_name() {
        let cases = [
            ("docker.io/busybox", "https://registry-1.docker.io/v2/library/busybox/"),
            ("docker.io/library/busybox", "https://registry-1.docker.io/v2/library/busybox/"),
            ("index.docker.io/grafana/loki", "https://registry-1.docker.io/v2/grafana/loki/"),
            ("quay.io/busybox", "https://quay.io/v2/busybox/"),
            ("GHCR.io/team/app", "https://ghcr.io/v2/team/app/"),
            ("localhost/app", "https://localhost/v2/app/"),
            ("registry:5000/team/app", "https://registry:5000/v2/team/app/"),
            ("[::1]:5000/app", "https://[::1]:5000/v2/app/"),
        ];
        for (given, url) in cases {
            let repository = UpstreamRepository::parse(given).unwrap();
            assert_eq!(repository.base("https").unwrap().as_str(), url);
            assert_eq!(repository.to_string(), given);
        }
    }

    #[test]
    fn what_is_not_a_repository_is_refused() {
        let cases = [
            ("no host", "busybox", NameError::NoHost),
            ("a name of Docker Hub without its host", "library/busybox", NameError::NoHost),
            ("nothing", "", NameError::NoHost),
            ("no host before the slash", "/busybox", NameError::NoHost),
            ("credentials", "user:password@registry.example/app", NameError::NoHost),
            ("a port that is none", "registry.example:http/app", NameError::NoHost),
            ("a host with a query", "registry.example?x/app", NameError::NoHost),
            ("a host with an encoded slash", "registry.example%2f/app", NameError::NoHost),
            ("two hosts", "registry.example\\@other.example/app", NameError::NoHost),
        ];
        for (description, value, error) in cases {
            assert_eq!(UpstreamRepository::parse(value), Err(error), "{description}");
        }
        for name in ["", "App", "app/", "../app", "app?x", "app:1"] {
            let parsed = UpstreamRepository::parse(&format!("registry.example/{name}"));
            assert!(matches!(parsed, Err(NameError::Name(_))), "{name}: {parsed:?}");
        }
    }
}
