//! The reasons why an upstream does not send an image or a blob.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use hyper_util::client::legacy;
use layergate_core::fault::{causes, root_cause};

use super::tls::TlsProblem;

/// A failure of an upstream. `Display` follows the upstream's name. It contains no URL and no
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry, its token server or the target of a redirect refused access, with this status.
    #[error("refused access ({0})")]
    Denied(StatusCode),
    /// There is no such repository, image or blob.
    #[error("has no such image")]
    NotFound,
    /// The answer has another digest or size, or a broken encoding.
    #[error("sent something else than was asked for: {0}")]
    WrongContent(&'static str),
    /// The answer has more bytes than this.
    #[error("sent more than the {0} bytes that are accepted")]
    TooLarge(u64),
    /// There were more redirects than are followed.
    #[error("redirected too often")]
    RedirectLoop,
    /// The upstream, its token server or a redirect has a URL that is not allowed.
    #[error("leads to {host}, {reason}")]
    Forbidden {
        /// The host in that URL.
        host: String,
        /// Why it is not allowed.
        reason: Danger,
    },
    /// The upstream says that it received too many requests (429).
    #[error("got too many requests")]
    RateLimited {
        /// When to come back, if the upstream says so.
        retry_after: Option<Duration>,
    },
    /// The upstream says that it is busy (503), and when to come back.
    #[error("is busy, and asked to come back in {} s", .retry_after.as_secs())]
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// No connection to the upstream can be made, also after retries.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// There is a connection, but TLS does not work.
    #[error("{0}")]
    Tls(TlsProblem),
    /// The upstream failed, or did not answer in time; also after retries.
    #[error("failed: {0}")]
    Unavailable(String),
}

/// Why a host is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    /// It is this machine or in a private network, and the caller does not trust it.
    #[error("whose address is not one of the internet")]
    PrivateAddress,
    /// The URL is not one of https.
    #[error("and not by https")]
    NoTls,
    /// It is another token server than before.
    #[error("which is not the token server that it is known by")]
    OtherRealm,
}

impl Error {
    /// The error for a status. `Ok` for 200 and 206.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Self> {
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Self::Denied(status)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Self::NotFound),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Self::RateLimited { retry_after: retry_after(headers) })
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(Self::Unavailable(
                "the proxy wants a user name and a password in its URL".to_owned(),
            )),
            _ => match retry_after(headers) {
                Some(retry_after) if status == StatusCode::SERVICE_UNAVAILABLE => {
                    Err(Self::Busy { retry_after })
                }
                _ => Err(Self::Unavailable(format!("it answered {status}"))),
            },
        }
    }

    /// The error for a connection that failed or broke.
    pub(super) fn of_transport(error: &(dyn StdError + 'static)) -> Self {
        if let Some(problem) = TlsProblem::of(error) {
            return Self::Tls(problem);
        }
        let mut is_unreachable = false;
        for error in causes(error) {
            if let Some(own) = error.downcast_ref::<Self>() {
                return own.clone();
            }
            is_unreachable |=
                error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect);
        }
        match is_unreachable {
            true => Self::Unreachable(root_cause(error)),
            false => Self::Unavailable(root_cause(error)),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_worth_another_try(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable(_))
    }

    /// When the upstream asked to come back.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Source: [RFC 9110, 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3): seconds, or a
/// date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_two_forms() {
        let of = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]))
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO), "a date in the past");
        assert!(of("Fri, 31 Dec 2100 23:59:59 GMT") > Some(Duration::from_secs(3600)));
        for nonsense in ["", "soon", "-1", "1.5"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }
}
