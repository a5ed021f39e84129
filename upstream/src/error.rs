//! Why something cannot be had from an upstream.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use hyper_util::client::legacy;
use layergate_core::fault::{causes, root_cause};

use super::tls::TlsProblem;

/// What went wrong at the upstream. `Display` follows the upstream's name, and has no URL and
/// nothing secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry, its token server or where it redirected to refused access, with this status.
    #[error("refused access ({0})")]
    Denied(StatusCode),
    /// It has no such repository, image or blob.
    #[error("has no such image")]
    NotFound,
    /// What it sent has another digest or size than it should have.
    #[error("sent something else than was asked for: {0}")]
    WrongContent(&'static str),
    /// What it sent, or would send, has more bytes than this.
    #[error("sent more than the {0} bytes that are accepted")]
    TooLarge(u64),
    /// It redirected more often than is followed.
    #[error("redirected too often")]
    RedirectLoop,
    /// It leads to where nothing is fetched from.
    #[error("leads to {host}, {reason}")]
    Forbidden {
        /// The host that it leads to, itself perhaps.
        host: String,
        /// What is wrong with that.
        reason: Danger,
    },
    /// It gets too many requests, by its own account.
    #[error("got too many requests")]
    RateLimited {
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// No connection to it can be made, also when it was tried again.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// There is a connection, but TLS does not work.
    #[error("{0}")]
    Tls(TlsProblem),
    /// It failed or did not answer in time, also when it was tried again.
    #[error("failed: {0}")]
    Unavailable(String),
}

/// Why nothing is fetched from a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    /// It is in this machine or a private network, and was not named as trusted.
    #[error("whose address is not one of the internet")]
    PrivateAddress,
    /// It would be reached without TLS.
    #[error("and not by https")]
    NoTls,
    /// It is a token server, and another one than before.
    #[error("which is not the token server that it is known by")]
    OtherRealm,
}

impl Error {
    /// What the status of an answer means; `Ok` for 200 and 206.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Self> {
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Self::Denied(status)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Self::NotFound),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Self::RateLimited { retry_after: retry_after(headers) })
            }
            _ => Err(Self::Unavailable(format!("it answered {status}"))),
        }
    }

    /// Why a request got no answer, or an answer broke off.
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

    pub(super) fn is_worth_another_try(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable(_))
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
