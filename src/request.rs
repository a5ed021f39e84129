//! A request, whichever of the two APIs it is for and whatever event brought it.

use aws_lambda_events::query_map::QueryMap;
use base64::DecodeError;
use http::{HeaderMap, Method};

/// A request. Has no `Debug`, because it has credentials in it.
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path; for the registry, without the leading `/v2`.
    pub path: String,
    /// The parameters of its query.
    pub query: QueryMap,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. Whether the gateway encoded it well matters only to an operation that reads it.
    pub body: Result<Vec<u8>, DecodeError>,
    /// The name that the client reached the API by.
    pub host: Option<String>,
}
