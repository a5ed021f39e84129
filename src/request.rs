//! A request to one of the two APIs, the same for each form of event.

use std::fmt;

use aws_lambda_events::query_map::QueryMap;
use base64::DecodeError;
use http::{HeaderMap, Method};

/// A request. Has no `Debug`, because it has credentials in it.
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, without percent-encoding; for the registry, without the leading `/v2`.
    pub path: String,
    /// The parameters of its query.
    pub query: QueryMap,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or why it is not base64. Only an operation that reads the body reports that.
    pub body: Result<Vec<u8>, DecodeError>,
    /// The address that the client used for the API.
    pub origin: Option<Origin>,
}

/// The start of a URL. `Display` writes it as `https://HOST`.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `https`, or `http` for a local stack.
    pub scheme: &'static str,
    /// The name and, if the URL has one, the port.
    pub host: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}
