//! Keeps web pages away. A page in a browser may send requests to a loopback address, and with a
//! host name of its own that leads there it may even read the answers (DNS rebinding). A registry
//! that asks for no login must refuse both.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

/// Why a request is refused, as a sentence for its client; `None` if it is not.
pub(super) fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return Some(
            "Without a login this registry answers only at a loopback address or localhost",
        );
    }
    // A page of this server has the origin of this server. Programs send no origin.
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    match origin {
        Some(origin) if origin.split_once("://").is_none_or(|(_, from)| from != host) => {
            Some("Without a login this registry answers no web pages of other sites")
        }
        _ => None,
    }
}

/// Whether this is a loopback address or `localhost`, perhaps with a port.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Uri>() else { return false };
    let name = authority.host().unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_of_another_site_is_refused() {
        let cases = [
            ("docker", "127.0.0.1:5000", None, true),
            ("another loopback address", "127.8.0.1:5000", None, true),
            ("IPv6", "[::1]:5000", None, true),
            ("localhost", "localhost:5000", None, true),
            ("a page of this server", "127.0.0.1:5000", Some("http://127.0.0.1:5000"), true),
            ("a page of another site", "127.0.0.1:5000", Some("https://example.com"), false),
            ("a page at another port", "127.0.0.1:5000", Some("http://127.0.0.1:8000"), false),
            ("a sandboxed page", "127.0.0.1:5000", Some("null"), false),
            ("a name that leads here", "rebind.example.com:5000", None, false),
            ("a name that only begins so", "127.0.0.1.example.com", None, false),
            ("localhost as a part", "localhost.example.com", None, false),
            ("no host", "", None, false),
        ];
        for (description, host, origin, is_answered) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(refusal(&headers).is_none(), is_answered, "{description}");
        }
    }
}
