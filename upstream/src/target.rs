//! The URL of a request. Redirect URLs are often signed, so they are requested exactly as the
//! upstream wrote them.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, uri};
use layergate_core::types::DownloadUrl;
use url::{Position, Url};

use super::error::{Danger, Error};

/// A URL to request. Its `Debug` hides the URL, which may be signed.
pub struct Target {
    /// The parsed URL. It decides which server gets the request.
    url: Url,
    /// The same URL. Path and query are as the upstream wrote them: no percent-encoding was added
    /// and no dot segment was removed.
    uri: Uri,
}

impl Target {
    /// The URL as the parser writes it. Fails if its scheme is not http or https.
    pub fn new(url: Url) -> Result<Self, Error> {
        let path_and_query = &url[Position::BeforePath..Position::AfterQuery];
        let path_and_query = path_and_query.parse().map_err(|_| not_a_url())?;
        Self::with(url, path_and_query)
    }

    fn with(url: Url, path_and_query: PathAndQuery) -> Result<Self, Error> {
        if !matches!(url.scheme(), "http" | "https") {
            let host = url.host_str().unwrap_or("nowhere").to_owned();
            return Err(Error::Forbidden { host, reason: Danger::NoTls });
        }
        let uri = uri::Builder::new()
            .scheme(url.scheme())
            .authority(&url[Position::BeforeHost..Position::AfterPort])
            .path_and_query(path_and_query)
            .build();
        Ok(Self { url, uri: uri.map_err(|_| not_a_url())? })
    }

    /// The target of a redirect with this `Location`. Fails if that is not a URL of http or https.
    ///
    /// Source: [RFC 9110, 10.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.2).
    pub fn redirect(&self, location: &HeaderValue) -> Result<Self, Error> {
        let location = std::str::from_utf8(location.as_bytes()).map_err(|_| not_a_url())?.trim();
        let url = self.url.join(location).map_err(|_| not_a_url())?;
        match as_written(location) {
            Some(path_and_query) => Self::with(url, path_and_query),
            None => Self::new(url),
        }
    }

    /// The parsed URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What is requested.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What is requested, for clients that download it themselves.
    pub fn download_url(&self) -> DownloadUrl {
        DownloadUrl::new(self.uri.to_string())
    }
}

/// The error for a redirect to what is not a URL.
pub fn not_a_url() -> Error {
    Error::Unavailable("it redirected to an invalid URL".to_owned())
}

/// Path and query of a location, unchanged. `None` if they depend on the URL before, or if they
/// contain characters that HTTP does not allow, so that a parser must change them.
fn as_written(location: &str) -> Option<PathAndQuery> {
    let location = location.split('#').next().unwrap_or_default();
    // A URL parser takes a backslash for a slash, so it may end the host.
    if location.contains('\\') {
        return None;
    }
    let after_scheme = match location.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => Some(rest),
        _ => location.strip_prefix("//"),
    };
    let path_and_query = match after_scheme {
        Some(rest) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
        None if location.starts_with('/') => location,
        None => return None,
    };
    match path_and_query.starts_with('/') {
        true => path_and_query.parse().ok(),
        false => format!("/{path_and_query}").parse().ok(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_requested_as_it_was_written() {
        let cases = [
            ("a signature", "https://cdn.example/a?X-Amz-Signature=a%2Fb%3D&e=1", ""),
            ("encoded and plain", "https://cdn.example/a%7Eb~c%2fd%2Fe'(f)!*;:@&=+$,?q='x'", ""),
            ("dot segments", "https://cdn.example/a/../b/./%2e%2e/c", ""),
            ("two slashes, and one at the end", "https://cdn.example//a//b/", ""),
            ("braces, a bar, a caret and quotes", "https://cdn.example/{a}|^\"b\"`?{c}|d", ""),
            ("an empty query", "https://cdn.example/a?", ""),
            ("a URL within the query", "https://cdn.example/a?u=https://b.example/?c", ""),
            ("without a path", "https://cdn.example?q", "https://cdn.example/?q"),
            ("without path and query", "https://cdn.example", "https://cdn.example/"),
            ("with a port", "https://cdn.example:8443/a", ""),
            ("with the default port", "https://cdn.example:443/a", "https://cdn.example/a"),
            ("a host in upper case", "HTTPS://CDN.example/A", "https://cdn.example/A"),
            ("a user, who is not sent", "https://u:p@cdn.example/a", "https://cdn.example/a"),
            ("a fragment, which is not sent", "https://cdn.example/a#b", "https://cdn.example/a"),
            ("an absolute path", "/x/../y?z='", "https://registry.example/x/../y?z='"),
            ("without a scheme", "//cdn.example/a'?b'", "https://cdn.example/a'?b'"),
            ("a relative path", "../d?e", "https://registry.example/v2/app/d?e"),
            ("a query alone", "?e=%2f", "https://registry.example/v2/app/blobs/c?e=%2f"),
            ("spaces around it", " https://cdn.example/a ", "https://cdn.example/a"),
            ("a space within", "https://cdn.example/a b", "https://cdn.example/a%20b"),
            ("beyond ASCII", "https://cdn.example/ä", "https://cdn.example/%C3%A4"),
        ];
        let from = Url::parse("https://registry.example/v2/app/blobs/c").unwrap();
        let from = Target::new(from).unwrap();
        for (description, location, expected) in cases {
            let expected = if expected.is_empty() { location } else { expected };
            let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
            let target = from.redirect(&value).unwrap();
            assert_eq!(target.uri().to_string(), expected, "{description}");
            assert_eq!(target.download_url().reveal(), expected, "{description}");
        }
    }

    #[test]
    fn parsed_url_and_requested_url_have_one_host() {
        let from = Target::new(Url::parse("https://registry.example/v2/").unwrap()).unwrap();
        let locations = [
            "https://good.example\\@evil.example/a",
            "https://good.example@evil.example/a",
            "https://good.example?@evil.example/a",
            "https://good.example#@evil.example/a",
            "https:\\\\evil.example\\a",
            "https:/evil.example/a",
            "https:///evil.example/a",
            "///evil.example/a",
            "/\\evil.example/a",
            "https://2130706433/a",
            "https://0x7f.1/a",
            "https://[::ffff:127.0.0.1]/a",
            "https://evil.example%2fgood.example/a",
            "ftp://evil.example/a",
        ];
        for location in locations {
            let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
            let Ok(target) = from.redirect(&value) else { continue };
            assert_eq!(target.uri().host(), target.url().host_str(), "{location}");
            assert_eq!(target.uri().scheme_str(), Some(target.url().scheme()), "{location}");
        }
    }

    #[test]
    fn what_is_not_a_url_is_refused() {
        let from = Target::new(Url::parse("https://registry.example/v2/").unwrap()).unwrap();
        for location in [&b"https://"[..], b"https://a b/", b"https://[::1", b"\xff"] {
            let value = HeaderValue::from_bytes(location).unwrap();
            assert_eq!(from.redirect(&value).err(), Some(not_a_url()), "{location:?}");
        }
        for location in ["mailto:a", "file:///etc/passwd", "ftp://evil.example/"] {
            let refused = from.redirect(&HeaderValue::from_static(location)).err();
            let is_refused =
                matches!(refused, Some(Error::Forbidden { reason: Danger::NoTls, .. }));
            assert!(is_refused, "{location}: {refused:?}");
        }
    }
}
