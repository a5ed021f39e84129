//! The URL of another registry, and `HOST/NAME`: a repository there.

use std::fmt;

use url::{Host, Url};

use super::http::Trust;

/// The names of Docker Hub. Only the last one is a registry.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The longest name of a repository, in characters. Registries and clients have this limit.
/// Source: [Pulling
/// manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests).
const LONGEST_NAME: usize = 255;

/// Another registry: `https://HOST[:PORT]`, or `http://HOST[:PORT]` without TLS. `Display` writes
/// this form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRegistry {
    /// Whether the scheme is http.
    is_plain: bool,
    /// The host, and the port if there is one.
    authority: String,
    host: Host,
}

/// A repository of another registry, such as `docker.io/library/busybox`. `Display` writes it as it
/// was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRepository {
    as_given: String,
    registry: UpstreamRegistry,
    name: String,
}

/// Why a text is not `HOST/NAME`, or not a registry's URL. `Display` follows the subject, such as
/// "it".
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
    /// The name is not one of a repository.
    #[error(
        "has a name that no registry accepts; a name has parts with '/' between them, each of a-z, 0-9, '.', '_' and \
         '-' and with a letter or digit at both ends, and at most {LONGEST_NAME} characters in all"
    )]
    Name,
}

impl UpstreamRegistry {
    /// Parses a URL of scheme, host, perhaps a port, and perhaps one slash at the end. A name of
    /// Docker Hub becomes the name of its registry.
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
        // No user and no query.
        let is_authority =
            authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        let url = Url::parse(&format!("https://{authority}/")).ok();
        let url = url.filter(|_| is_authority && !authority.ends_with(':'))?;
        Some(Self { is_plain, authority: authority.to_owned(), host: url.host()?.to_owned() })
    }

    /// The repository with this name. On Docker Hub, a name of one part is an official image.
    pub fn repository(&self, name: &str) -> Result<UpstreamRepository, NameError> {
        UpstreamRepository::new(format!("{}/{name}", self.authority), self.clone(), name)
    }

    /// What to trust when fetching from this registry: these hosts, and the registry itself if it
    /// has no TLS.
    pub fn trust(&self, mut hosts: Vec<Host>) -> Trust {
        if self.is_plain {
            hosts.push(self.host.clone());
        }
        Trust { hosts, plain_http: self.is_plain }
    }

    /// The registry's host, without the port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether this is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.authority == DOCKER_HUB[2]
    }

    /// The URL that all paths of the registry begin with.
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
    /// Parses `HOST/NAME` or `HOST:PORT/NAME`. The host has a dot or a port, or is `localhost`. On
    /// Docker Hub, a name of one part is an official image.
    pub fn parse(value: &str) -> Result<Self, NameError> {
        let (authority, name) = value.split_once('/').ok_or(NameError::NoHost)?;
        let is_host = authority.contains(['.', ':']) || authority == "localhost";
        let registry = UpstreamRegistry::at(false, authority).filter(|_| is_host);
        Self::new(value.to_owned(), registry.ok_or(NameError::NoHost)?, name)
    }

    fn new(as_given: String, registry: UpstreamRegistry, name: &str) -> Result<Self, NameError> {
        let name = match registry.is_docker_hub() && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        match is_name(&name) {
            true => Ok(Self { as_given, registry, name }),
            false => Err(NameError::Name),
        }
    }

    /// The registry's host, without the port.
    pub fn host(&self) -> &Host {
        self.registry.host()
    }

    /// The registry's host and port as they were given. Tools store credentials under this name.
    pub fn registry(&self) -> &str {
        self.as_given.split('/').next().unwrap_or_default()
    }

    /// Whether the registry is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.registry.is_docker_hub()
    }

    /// The repository's name in its registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that all paths of the repository begin with.
    pub(super) fn base(&self, trust: &Trust) -> Result<Url, url::ParseError> {
        self.registry.base(trust)?.join(&format!("{}/", self.name))
    }
}

impl fmt::Display for UpstreamRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_given)
    }
}

/// Whether a registry may have a repository of this name. A name of one character is valid,
/// although ECR does not allow it.
///
/// Source: [Pulling
/// manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests).
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        // What is between the letters and digits: nothing at both ends, a separator elsewhere.
        let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_separator = |text: &str| {
            matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
        };
        part.starts_with(is_alphanumeric)
            && part.ends_with(is_alphanumeric)
            && part.split(is_alphanumeric).all(is_separator)
    };
    name.len() <= LONGEST_NAME && name.split('/').all(is_part)
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
            ("quay.io/a", "https://quay.io/v2/a/"),
            ("docker.io/a", "https://registry-1.docker.io/v2/library/a/"),
            ("quay.io/a.b/c_d__e/f---g/0", "https://quay.io/v2/a.b/c_d__e/f---g/0/"),
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
        let long = ["a".repeat(255), "a".repeat(256)];
        assert!(UpstreamRepository::parse(&format!("registry.example/{}", long[0])).is_ok());
        for name in [
            "", "App", "app/", "/app", "a//b", "../app", "a/../b", "app?x", "app:1", "-a", "a-",
            "_a", "a.", "a..b", "a___b", "a._b", "a b", "ä", "a%2fb", &long[1],
        ] {
            let parsed = UpstreamRepository::parse(&format!("registry.example/{name}"));
            assert_eq!(parsed, Err(NameError::Name), "{name}");
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
        assert_eq!(busybox.name(), "library/busybox");
        assert_eq!(busybox.to_string(), "registry-1.docker.io/busybox");
        assert_eq!(repository("https://quay.io", "busybox").unwrap().name(), "busybox");
        assert_eq!(repository("https://quay.io", "../app"), Err(NameError::Name));
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
