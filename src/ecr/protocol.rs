//! The awsJson1_1 protocol: the operation from the target header, members from the body, replies out.
//!
//! Source: [AWS JSON 1.1 protocol](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Error;

/// The `Content-Type` of every reply.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

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

/// An answer as it goes over HTTP, without the headers that differ from call to call.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The value of `x-amzn-ErrorType`, for errors.
    pub error_type: Option<&'static str>,
    /// The JSON body.
    pub body: String,
}

impl Reply {
    /// Writes an output; or an error, in the form from which SDKs read its type.
    pub fn render(outcome: Result<&Value, &Error>) -> Self {
        match outcome {
            Ok(output) => Self { status: StatusCode::OK, error_type: None, body: output.to_string() },
            Err(error) => Self {
                status: error.status(),
                error_type: Some(error.code()),
                body: json!({"__type": error.code(), "message": error.to_string()}).to_string(),
            },
        }
    }
}
