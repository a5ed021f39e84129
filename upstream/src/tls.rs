//! What goes wrong with TLS, in words that say what to do.

use std::error::Error as StdError;
use std::io;

use layergate_core::fault::causes;
use rustls::{CertificateError, Error, InvalidMessage};

/// Why no TLS connection to a server could be made. `Display` follows the server's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// It answered, but not in TLS.
    #[error("does not speak TLS")]
    NoTls,
    /// It did not take a request that came without TLS.
    #[error("did not take a request without TLS")]
    Required,
    /// No known authority has signed its certificate.
    #[error("has a certificate that is not signed by an authority that this machine trusts")]
    UnknownIssuer,
    /// Its certificate may only sign others. `openssl req -x509` makes such certificates.
    #[error("has a certificate for authorities (CA:TRUE), and no server may use such a one")]
    AuthorityCertificate,
    /// Its certificate has other names.
    #[error("has a certificate for another name")]
    OtherName,
    /// Its certificate has expired, or this machine's clock is wrong.
    #[error("has a certificate that has expired or is not valid yet")]
    NotInTime,
    /// Something else, in the words of the TLS library.
    #[error("failed the TLS handshake: {0}")]
    Handshake(String),
}

impl TlsProblem {
    /// The problem of TLS in an error of an HTTP client, or in what caused it; `None` if there is
    /// none.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        causes(error).find_map(in_error).map(Self::of_rustls)
    }

    /// The same, for a request that was sent without TLS: what answers it with an alert of TLS does
    /// not answer in HTTP.
    pub fn of_plain(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut errors = causes(error).filter_map(|error| error.downcast_ref::<hyper::Error>());
        errors.any(hyper::Error::is_parse).then_some(Self::Required)
    }

    fn of_rustls(error: &Error) -> Self {
        let certificate = match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => return Self::NoTls,
            Error::InvalidCertificate(certificate) => certificate,
            other => return Self::Handshake(other.to_string()),
        };
        match certificate {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::NotInTime,
            // rustls passes this error of its certificate library on as it is.
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                Self::AuthorityCertificate
            }
            other => Self::Handshake(other.to_string()),
        }
    }

    /// What to do about it. `http` is how to ask the server without TLS, and `https` how to ask it
    /// with TLS.
    pub fn advice(&self, http: &'static str, https: &'static str) -> &'static str {
        match self {
            Self::NoTls => http,
            Self::Required => https,
            Self::UnknownIssuer => {
                "set SSL_CERT_FILE to a file with the authority's certificate, or with the server's \
                 own if it is self-signed"
            }
            Self::AuthorityCertificate => {
                "make another one, with 'openssl req -x509 -addext \
                 basicConstraints=critical,CA:FALSE ...', and set SSL_CERT_FILE to it"
            }
            Self::OtherName => "use a name that is in the certificate",
            Self::NotInTime => "renew the certificate, or set this machine's clock",
            Self::Handshake(_) => "check the host and the port",
        }
    }
}

/// An error of the TLS library, if this is one. `io::Error` hides what it wraps from `source`.
fn in_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(error);
    }
    let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
    in_error(wrapped)
}
