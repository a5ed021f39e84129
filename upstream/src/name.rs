//! Another registry, by its URL, and `HOST/NAME`: a repository there.

use std::fmt;

use url::{Host, Url};

use super::http::Trust;
use layergate_core::types::{Constraint, RepositoryName};

/// The names by which Docker Hub is known. Only the last one speaks the protocol.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Another registry: `https://HOST[:PORT]`, or `http://HOST[:PORT]` for one without TLS. Displayed
/// in this form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRegistry {
    is_plain: bool,
    /// Where the registry is reached: host, and port if there is one.
    authority: String,
    host: Host,
}

/// A repository of another registry, such as `docker.io/library/busybox`. Displayed as it was
/// given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRepository {
    as_given: String,
    registry: UpstreamRegistry,
    name: RepositoryName,
}

/// Why a text is not `HOST/NAME`, or not a registry's URL. Displayed as a sentence that follows
/// what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not `https://` or `http://`, a host and perhaps a port.
    #[error(
        "must be https:// or http:// and the registry's host, as in https://registry-1.docker.io"
    )]
    NoUrl,
    /// It does not begin with a host.
    #[error("must begin with the registry's host, as in docker.io/library/busybox")]
    NoHost,
    /// What follows the host is no repository's name.
    #[error("has a name that {0}")]
    Name(Constraint),
}

impl UpstreamRegistry {
    /// Accepts a URL that has a scheme, a host, perhaps a port, and nothing else but one last
    /// slash. A name of Docker Hub becomes the one that speaks the protocol.
    pub fn parse(value: &str) -> Result<Self, NameError> {
        let (scheme, rest) = value.split_once("://").ok_or(NameError::NoUrl)?;
        let is_plain = match scheme {
            "https" => false,
            "http" => true,
            _ => return Err(NameError::NoUrl),
        };
        Self::at(is_plain, rest.strip_suffix('/').unwrap_or(rest)).ok_or(NameError::NoUrl)
    }

    fn at(is_plain: bool, authority: &str) -> Option<Self> {
        let authority = match DOCKER_HUB.contains(&authority) {
            true => DOCKER_HUB[2],
            false => authority,
        };
        // Nothing else that a URL may have before its first slash: no user, no query.
        let is_authority =
            authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        let url = Url::parse(&format!("https://{authority}/")).ok();
        let url = url.filter(|_| is_authority && !authority.ends_with(':'))?;
        Some(Self { is_plain, authority: authority.to_owned(), host: url.host()?.to_owned() })
    }

    /// The repository of this name in the registry. On Docker Hub, a name of one part is one of its
    /// official images, as everywhere.
    pub fn repository(&self, name: &str) -> Result<UpstreamRepository, NameError> {
        UpstreamRepository::new(format!("{}/{name}", self.authority), self.clone(), name)
    }

    /// What to trust to fetch from this registry: these hosts, and itself if it has no TLS.
    pub fn trust(&self, mut hosts: Vec<Host>) -> Trust {
        if self.is_plain {
            hosts.push(self.host.clone());
        }
        Trust { hosts, plain_http: self.is_plain }
    }

    /// The host at which the registry is reached, without its port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether this is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.authority == DOCKER_HUB[2]
    }

    /// The URL below which everything is, by the distribution specification.
    pub(super) fn base(&self, trust: &Trust) -> Result<Url, url::ParseError> {
        let is_plain = trust.plain_http && trust.hosts.contains(&self.host);
        Url::parse(&format!("{}://{}/v2/", if is_plain { "http" } else { "https" }, self.authority))
    }
}

impl fmt::Display for UpstreamRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_plain { "http" } else { "https" }, self.authority)
    }
}

impl UpstreamRepository {
    /// Accepts `HOST/NAME` or `HOST:PORT/NAME`. The host has a dot or a port, or is `localhost`. On
    /// Docker Hub, a name of one part is one of its official images, as everywhere.
    pub fn parse(value: &str) -> Result<Self, NameError> {
        let (authority, name) = value.split_once('/').ok_or(NameError::NoHost)?;
        let is_host = authority.contains(['.', ':']) || authority == "localhost";
        let registry = UpstreamRegistry::at(false, authority).filter(|_| is_host);
        Self::new(value.to_owned(), registry.ok_or(NameError::NoHost)?, name)
    }

    fn new(as_given: String, registry: UpstreamRegistry, name: &str) -> Result<Self, NameError> {
        let name = match registry.is_docker_hub() && !name.contains('/') {
            true => RepositoryName::parse(&format!("library/{name}")),
            false => RepositoryName::parse(name),
        };
        Ok(Self { as_given, registry, name: name.map_err(NameError::Name)? })
    }

    /// The host at which the registry is reached, without its port.
    pub fn host(&self) -> &Host {
        self.registry.host()
    }

    /// The registry as it was given, with its port: what its credentials are kept under.
    pub fn registry(&self) -> &str {
        self.as_given.split('/').next().unwrap_or_default()
    }

    /// Whether the registry is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.registry.is_docker_hub()
    }

    /// The repository's name in its registry.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// The URL below which the repository is, by the distribution specification.
    pub(super) fn base(&self, trust: &Trust) -> Result<Url, url::ParseError> {
        self.registry.base(trust)?.join(&format!("{}/", self.name))
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
            assert_eq!(repository.base(&Trust::default()).unwrap().as_str(), url);
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

    #[test]
    fn a_registry_has_a_url() {
        let cases = [
            ("https://quay.io", "https://quay.io", "https://quay.io/v2/team/app/"),
            ("https://quay.io/", "https://quay.io", "https://quay.io/v2/team/app/"),
            ("https://registry", "https://registry", "https://registry/v2/team/app/"),
            ("http://registry:5000", "http://registry:5000", "http://registry:5000/v2/team/app/"),
            ("http://registry:443", "http://registry:443", "http://registry:443/v2/team/app/"),
            ("http://[::1]:5000/", "http://[::1]:5000", "http://[::1]:5000/v2/team/app/"),
            (
                "https://docker.io",
                "https://registry-1.docker.io",
                "https://registry-1.docker.io/v2/team/app/",
            ),
            (
                "https://index.docker.io/",
                "https://registry-1.docker.io",
                "https://registry-1.docker.io/v2/team/app/",
            ),
        ];
        for (given, displayed, url) in cases {
            let registry = UpstreamRegistry::parse(given).unwrap();
            assert_eq!(registry.to_string(), displayed);
            assert_eq!(UpstreamRegistry::parse(displayed), Ok(registry.clone()), "{given}");
            let repository = registry.repository("team/app").unwrap();
            assert_eq!(repository.base(&registry.trust(Vec::new())).unwrap().as_str(), url);
        }
        let repository = |url: &str, name| UpstreamRegistry::parse(url).unwrap().repository(name);
        let busybox = repository("https://docker.io", "busybox").unwrap();
        assert_eq!(busybox.name().as_ref(), "library/busybox");
        assert_eq!(busybox.to_string(), "registry-1.docker.io/busybox");
        assert_eq!(repository("https://quay.io", "busybox").unwrap().name().as_ref(), "busybox");
        let refused = repository("https://quay.io", "../app");
        assert!(matches!(refused, Err(NameError::Name(_))), "{refused:?}");
    }

    #[test]
    fn what_is_not_a_registrys_url_is_refused() {
        let cases = [
            ("nothing", ""),
            ("no scheme", "registry.example"),
            ("another scheme", "ftp://registry.example"),
            ("a scheme in upper case", "HTTPS://registry.example"),
            ("no host", "https://"),
            ("no host before the port", "https://:5000"),
            ("no port after the colon", "https://registry.example:"),
            ("a port that is none", "https://registry.example:http"),
            ("a port that is too large", "https://registry.example:65536"),
            ("credentials", "https://user:password@registry.example"),
            ("a path", "https://registry.example/v2"),
            ("two slashes", "https://registry.example//"),
            ("a query", "https://registry.example?x"),
            ("a fragment", "https://registry.example#x"),
            ("an encoded slash", "https://registry.example%2f"),
            ("a line break", "https://registry.example\n"),
            ("an address in brackets that is none", "https://[::1"),
        ];
        for (description, value) in cases {
            assert_eq!(UpstreamRegistry::parse(value), Err(NameError::NoUrl), "{description}");
        }
    }

    #[test]
    fn only_http_means_plain_http() {
        let (mirror, registry) =
            (Host::parse("mirror.example").unwrap(), Host::parse("registry").unwrap());
        let trust = |url: &str| UpstreamRegistry::parse(url).unwrap().trust(vec![mirror.clone()]);
        let plain = trust("http://registry:5000");
        assert_eq!((plain.hosts, plain.plain_http), (vec![mirror.clone(), registry], true));
        let tls = trust("https://registry:5000");
        assert_eq!((tls.hosts, tls.plain_http), (vec![mirror.clone()], false));
    }
}
