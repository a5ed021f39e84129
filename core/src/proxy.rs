//! The proxies that the tool connects through. The Lambda functions use none.
//!
//! `HTTPS_PROXY` is for https URLs and `HTTP_PROXY` for http URLs; `ALL_PROXY` is for both, if the
//! other variable is not set. `NO_PROXY` lists hosts to connect to directly: domains with their
//! subdomains, addresses, networks such as `10.0.0.0/8`, or `*`; a domain or address may have a
//! port. The variables' names may be in lower case.
//! Connections to this machine and to link-local addresses (the metadata services of EC2 and ECS)
//! are always direct.

use std::net::IpAddr;

use http::header::PROXY_AUTHORIZATION;
use http::uri::Scheme;
use http::{Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use crate::config::ConfigError;

pub use hyper_util::client::proxy::matcher::Intercept;

/// The variables. If both names of a pair are set, the first one counts.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxies of the environment. Its `Debug` shows no password.
#[derive(Debug)]
pub struct Proxies {
    matcher: Matcher,
    /// The entries of `NO_PROXY` that have a port, which the matcher does not know.
    direct: Vec<(String, u16)>,
}

impl Proxies {
    /// Reads the environment; `None` if it names no proxy. Fails if a variable is not the URL of an
    /// HTTP proxy.
    pub fn from_env() -> Result<Option<Self>, ConfigError> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, ConfigError> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name)?)))
        };
        let proxy = |names| match first(names) {
            // The value is not repeated: it may contain a password.
            Some((name, value)) if !value.is_empty() && !is_http_proxy(&value) => {
                Err(ConfigError::not_a_proxy(name))
            }
            found => Ok(found.map(|(_, value)| value).unwrap_or_default()),
        };
        let (https, http, all) = (proxy(HTTPS)?, proxy(HTTP)?, proxy(ALL)?);
        if https.is_empty() && http.is_empty() && all.is_empty() {
            return Ok(None);
        }
        let none = first(NONE).map(|(_, value)| value).unwrap_or_default();
        let entries = none.split([',', ' ']).map(|entry| match entry.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => domain,
            _ => entry,
        });
        let (direct, others): (Vec<_>, Vec<_>) =
            entries.partition(|entry| host_and_port(entry).is_some());
        let matcher = Matcher::builder().https(https).http(http).all(all).no(others.join(","));
        let direct = direct.into_iter().filter_map(host_and_port).collect();
        Ok(Some(Self { matcher: matcher.build(), direct }))
    }

    /// The proxy for requests to a URL; `None` if the connection is direct.
    pub fn for_uri(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?;
        let port =
            uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 });
        let is_direct = |(direct, direct_port): &(String, u16)| {
            *direct_port == port && is_in_domain(host, direct)
        };
        match is_local(host) || self.direct.iter().any(is_direct) {
            true => None,
            false => self.matcher.intercept(uri),
        }
    }

    /// Adds the proxy's credentials to a request that the proxy itself reads: one for an http URL.
    pub fn authorize<B>(&self, request: &mut Request<B>) {
        if request.uri().scheme() == Some(&Scheme::HTTP)
            && let Some(proxy) = self.for_uri(request.uri())
            && let Some(authorization) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }
}

fn is_http_proxy(value: &str) -> bool {
    value.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), None | Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// An entry of `NO_PROXY` that has a port.
fn host_and_port(entry: &str) -> Option<(String, u16)> {
    let (host, port) = entry.rsplit_once(':')?;
    let is_host = !host.contains(':') || host.ends_with(']');
    Some((host.to_ascii_lowercase(), port.parse().ok()?)).filter(|_| is_host)
}

/// Whether a host is this domain or a subdomain of it.
fn is_in_domain(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.trim_start_matches('.'));
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a host is this machine or a link-local address.
fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match name.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_are_connected_to_directly() {
        let proxies = Proxies::read(|name| {
            let value = match name {
                "HTTPS_PROXY" => "http://user:pass%3Aword@proxy.example:3128",
                "http_proxy" => "proxy.example:8080",
                "https_proxy" | "ALL_PROXY" => "http://not.example",
                "NO_PROXY" => {
                    "internal.example, .corp.example,*.dev.example 10.0.0.0/8, 192.168.1.1 ,\
                     fd00::/8,port.example:5000,[fe00::1]:5000"
                }
                _ => return None,
            };
            Some(value.to_owned())
        });
        let proxies = proxies.unwrap().unwrap();
        let cases = [
            ("https", "https://registry.example/v2/", Some("http://proxy.example:3128/")),
            ("http", "http://registry.example/v2/", Some("http://proxy.example:8080/")),
            ("a port", "https://registry.example:8443/", Some("http://proxy.example:3128/")),
            ("a domain of NO_PROXY", "https://internal.example/", None),
            ("its subdomain", "https://a.b.internal.example/", None),
            ("in upper case", "https://INTERNAL.example/", None),
            ("a domain with a dot", "https://corp.example/", None),
            ("its subdomain, too", "https://a.corp.example/", None),
            (
                "a domain with a similar name",
                "https://notinternal.example/",
                Some("http://proxy.example:3128/"),
            ),
            ("a domain with a star", "https://a.dev.example/", None),
            ("a port", "http://port.example:5000/", None),
            ("its subdomain", "http://a.port.example:5000/", None),
            ("another port", "http://port.example/", Some("http://proxy.example:8080/")),
            ("an IPv6 address with a port", "http://[fe00::1]:5000/", None),
            ("a network", "https://10.1.2.3/", None),
            ("an address", "https://192.168.1.1/", None),
            ("another address", "https://192.168.1.2/", Some("http://proxy.example:3128/")),
            ("an IPv6 network", "https://[fd00::1]/", None),
            ("this machine", "http://127.0.0.1:8642/", None),
            ("this machine by IPv6", "http://[::1]:8642/", None),
            ("this machine by name", "http://localhost:8642/", None),
            ("a name of this machine", "http://Bucket.localhost.:8642/", None),
            ("EC2's metadata service", "http://169.254.169.254/latest/", None),
            ("ECS's credentials", "http://169.254.170.2/v2/credentials", None),
        ];
        for (description, url, expected) in cases {
            let proxy = proxies.for_uri(&url.parse().unwrap());
            let proxy = proxy.map(|proxy| proxy.uri().to_string());
            assert_eq!(proxy.as_deref(), expected, "{description}: {url}");
        }
        assert!(!format!("{proxies:?}").contains("word"), "{proxies:?}");
    }

    #[test]
    fn without_a_proxy_there_is_none() {
        let read = |variables: &[(&str, &str)]| {
            Proxies::read(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("NO_PROXY", "*")]).unwrap().is_none());
        assert!(
            read(&[("HTTPS_PROXY", ""), ("https_proxy", "http://p.example")]).unwrap().is_none()
        );
        let all = read(&[("all_proxy", "http://p.example"), ("NO_PROXY", "*")]).unwrap().unwrap();
        assert!(all.for_uri(&"https://registry.example".parse().unwrap()).is_none());
        let refused = read(&[("https_proxy", "socks5://u:secret@p.example")]).unwrap_err();
        let sentence = refused.to_string();
        assert!(sentence.contains("https_proxy") && !sentence.contains("secret"), "{sentence}");
    }

    #[test]
    fn only_http_proxies_are_accepted() {
        let cases = [
            ("http://proxy.example:3128", true),
            ("http://user:password@proxy.example", true),
            ("https://proxy.example", true),
            ("proxy.example:3128", true),
            ("http://[::1]:3128/", true),
            ("socks5://proxy.example", false),
            ("http://", false),
            ("http://proxy example", false),
            ("/proxy", false),
        ];
        for (value, expected) in cases {
            assert_eq!(is_http_proxy(value), expected, "{value}");
        }
    }
}
