//! The awsJson1_1 protocol: the operation from the target header, members from the body, replies out.
//!
//! Source: [AWS JSON 1.1 protocol](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Number, Value};

use super::Error;
use layergate_core::types::{Constraint, RegistryId, Repository, RepositoryName};

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
        self.take(member, "a string", string)
    }

    /// Takes out an integer member.
    pub fn integer(&mut self, member: &str) -> Result<Option<i64>, Error> {
        let Some(number) = self.take(member, "an integer", number)? else { return Ok(None) };
        let other =
            || Error::Serialization(format!("The member '{member}' must be an integer, and is {number}"));
        number.as_i64().ok_or_else(other).map(Some)
    }

    /// Takes out a member that is a structure.
    pub fn structure(&mut self, member: &str) -> Result<Option<Self>, Error> {
        self.take(member, "an object", structure)
    }

    /// Takes out a member that is a list of strings.
    pub fn strings(&mut self, member: &str) -> Result<Option<Vec<String>>, Error> {
        self.list(member, "a string", string)
    }

    /// Takes out a member that is a list of structures.
    pub fn structures(&mut self, member: &str) -> Result<Option<Vec<Self>>, Error> {
        self.list(member, "an object", structure)
    }

    fn take<T>(
        &mut self,
        member: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Error> {
        match self.0.remove(member) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Ok(value) => Ok(Some(value)),
                Err(other) => Err(wrong_type(&format!("The member '{member}'"), wanted, &other)),
            },
        }
    }

    fn list<T>(
        &mut self,
        member: &str,
        wanted: &str,
        read: impl Fn(Value) -> Result<T, Value>,
    ) -> Result<Option<Vec<T>>, Error> {
        let Some(values) = self.take(member, "an array", array)? else { return Ok(None) };
        let values = values.into_iter().map(read).collect::<Result<_, _>>();
        let wrong = |other| wrong_type(&format!("Each element of '{member}'"), wanted, &other);
        values.map(Some).map_err(wrong)
    }
}

fn string(value: Value) -> Result<String, Value> {
    match value {
        Value::String(value) => Ok(value),
        other => Err(other),
    }
}

fn number(value: Value) -> Result<Number, Value> {
    match value {
        Value::Number(number) => Ok(number),
        other => Err(other),
    }
}

fn array(value: Value) -> Result<Vec<Value>, Value> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(other),
    }
}

fn structure(value: Value) -> Result<Members, Value> {
    match value {
        Value::Object(members) => Ok(Members(members)),
        other => Err(other),
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

/// The registry that `registryId` names.
pub fn registry(id: Option<String>, default: &RegistryId) -> Result<RegistryId, Error> {
    match id {
        Some(_) => required("registryId", id, RegistryId::parse),
        None => Ok(default.clone()),
    }
}

/// The repository that `repositoryName` and `registryId` name.
pub fn repository(
    name: Option<String>,
    registry_id: Option<String>,
    default: &RegistryId,
) -> Result<Repository, Error> {
    let name = required("repositoryName", name, RepositoryName::parse)?;
    Ok(Repository { registry: registry(registry_id, default)?, name })
}

/// A list that has at least one element, and at most `most`.
pub fn of_length<T>(member: &'static str, list: Vec<T>, most: usize) -> Result<Vec<T>, Error> {
    let constraint = match list.len() {
        0 => Constraint::MinItems(1),
        length if length > most => Constraint::MaxItems(most),
        _ => return Ok(list),
    };
    Err(Error::InvalidParameter { member, constraint })
}

/// A list member that must be there, with at least one element and at most `most`.
pub fn required_list<T>(member: &'static str, list: Option<Vec<T>>, most: usize) -> Result<Vec<T>, Error> {
    let missing = Error::InvalidParameter { member, constraint: Constraint::NotNull };
    of_length(member, list.ok_or(missing)?, most)
}

/// What is wrong with one part of a batch, in the words of ECR's failure reasons.
pub fn failure_reason(what: &str, constraint: Constraint) -> String {
    match constraint {
        Constraint::Pattern(pattern) => {
            format!("Invalid request parameters: {what} should satisfy the regex '{pattern}'")
        }
        other => format!("Invalid request parameters: {what} {other}"),
    }
}

/// A response with a JSON body.
pub fn response(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
