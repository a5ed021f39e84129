//! The awsJson1_1 protocol: the operation from the target header, members from the body, replies out.
//!
//! Source: [AWS JSON 1.1 protocol](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::Error;
use crate::types::Constraint;

const SERVICE: &str = "AmazonEC2ContainerRegistry_V20150921";

/// The name of the operation that an `X-Amz-Target` header asks for.
pub fn operation_name(target: Option<&str>) -> Result<&str, Error> {
    let name = target.and_then(|target| target.strip_prefix(SERVICE)?.strip_prefix('.'));
    name.ok_or_else(|| unknown_operation(target))
}

/// The refusal of a target whose operation this service does not have.
pub fn unknown_operation(target: Option<&str>) -> Error {
    Error::UnknownOperation { target: target.map(str::to_owned) }
}

/// The members of a request's body. Members that no operation reads are ignored, as the protocol demands.
#[derive(Debug)]
pub struct Members(Map<String, Value>);

impl Members {
    /// Reads a body. An empty one has no members.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(other) => Err(wrong_type("The body", "a JSON object", &other)),
            Err(error) => Err(Error::Serialization(format!(
                "The body is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }

    /// Takes out a string member. An explicit `null` is an absent member.
    pub fn string(&mut self, member: &str) -> Result<Option<String>, Error> {
        match self.0.remove(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&format!("The member '{member}'"), "a string", &other)),
        }
    }

    /// Takes out a member that is a list of strings.
    pub fn strings(&mut self, member: &str) -> Result<Option<Vec<String>>, Error> {
        let values = match self.0.remove(member) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(wrong_type(&format!("The member '{member}'"), "an array", &other)),
        };
        let string = |value| match value {
            Value::String(value) => Ok(value),
            other => Err(wrong_type(&format!("Each element of '{member}'"), "a string", &other)),
        };
        values.into_iter().map(string).collect::<Result<_, _>>().map(Some)
    }
}

fn wrong_type(what: &str, wanted: &str, got: &Value) -> Error {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Error::Serialization(format!("{what} must be {wanted}, and is {got}"))
}

/// The value of a member that must be there.
pub fn required<T>(
    member: &'static str,
    value: Option<String>,
    parse: impl Fn(&str) -> Result<T, Constraint>,
) -> Result<T, Error> {
    let parsed = value.as_deref().map_or(Err(Constraint::NotNull), parse);
    parsed.map_err(|constraint| Error::InvalidParameter { member, constraint })
}

/// A response with a JSON body.
pub fn response(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
