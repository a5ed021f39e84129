//! The members of a request: first their types, then their constraints.

use std::fmt::Display;
use std::mem;

use serde_json::{Map, Value};

use super::Error;
use layergate_core::types::{Constraint, RegistryId, Repository, RepositoryName};

/// The members of a request's body, or of a structure in it. Unknown members are ignored, as the
/// protocol requires.
pub(super) struct Members(Map<String, Value>);

/// A type that a member may have.
pub(super) trait MemberType: Sized {
    /// Its name in error messages.
    const NAME: &'static str;

    /// Takes the value, if it has this type, and otherwise leaves it as it is.
    fn take_from(value: &mut Value) -> Option<Self>;
}

impl MemberType for String {
    const NAME: &'static str = "a string";

    fn take_from(value: &mut Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(mem::take(text)),
            _ => None,
        }
    }
}

impl MemberType for i64 {
    const NAME: &'static str = "an integer";

    fn take_from(value: &mut Value) -> Option<Self> {
        value.as_i64()
    }
}

impl MemberType for Members {
    const NAME: &'static str = "an object";

    fn take_from(value: &mut Value) -> Option<Self> {
        value.as_object_mut().map(mem::take).map(Self)
    }
}

impl MemberType for Vec<Value> {
    const NAME: &'static str = "an array";

    fn take_from(value: &mut Value) -> Option<Self> {
        value.as_array_mut().map(mem::take)
    }
}

impl Members {
    /// Reads a body. An empty one has no members.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        let value = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::Serialization(format!(
                "The body is not valid JSON (line {line}, column {column})"
            ))
        })?;
        typed(value, "a JSON object", "The body")
    }

    /// Takes out a member. An explicit `null` is an absent member.
    pub(super) fn take<T: MemberType>(&mut self, member: &str) -> Result<Option<T>, Error> {
        match self.0.remove(member) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => typed(value, T::NAME, format_args!("The member '{member}'")).map(Some),
        }
    }

    /// Takes out a member that is a list.
    pub(super) fn take_list<T: MemberType>(
        &mut self,
        member: &str,
    ) -> Result<Option<Vec<T>>, Error> {
        let Some(values) = self.take::<Vec<Value>>(member)? else { return Ok(None) };
        let element = |value| typed(value, T::NAME, format_args!("Each element of '{member}'"));
        values.into_iter().map(element).collect::<Result<_, _>>().map(Some)
    }
}

/// The value in its type. For the error message, `wanted` names the type and `what` the value.
fn typed<T: MemberType>(mut value: Value, wanted: &str, what: impl Display) -> Result<T, Error> {
    T::take_from(&mut value).ok_or_else(|| {
        let got = match &value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if wanted == i64::NAME => &number.to_string(),
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        Error::Serialization(format!("{what} must be {wanted}, and is {got}"))
    })
}

/// The value of a required member.
pub(super) fn required<T>(
    member: &'static str,
    value: Option<String>,
    parse: impl Fn(&str) -> Result<T, Constraint>,
) -> Result<T, Error> {
    let parsed = value.as_deref().map_or(Err(Constraint::NotNull), parse);
    parsed.map_err(|constraint| Error::InvalidParameter { member, constraint })
}

/// The registry that `registryId` names.
pub(super) fn registry(id: Option<String>, default: &RegistryId) -> Result<RegistryId, Error> {
    match id {
        Some(_) => required("registryId", id, RegistryId::parse),
        None => Ok(default.clone()),
    }
}

/// The repository that `repositoryName` and `registryId` name.
pub(super) fn repository(
    name: Option<String>,
    registry_id: Option<String>,
    default: &RegistryId,
) -> Result<Repository, Error> {
    let name = required("repositoryName", name, RepositoryName::parse)?;
    Ok(Repository { registry: registry(registry_id, default)?, name })
}

/// A list that has at least one element, and at most `most`.
pub(super) fn of_length<T>(
    member: &'static str,
    list: Vec<T>,
    most: usize,
) -> Result<Vec<T>, Error> {
    let constraint = match list.len() {
        0 => Constraint::MinItems(1),
        length if length > most => Constraint::MaxItems(most),
        _ => return Ok(list),
    };
    Err(Error::InvalidParameter { member, constraint })
}

/// A required list with at least one element and at most `most`.
pub(super) fn required_list<T>(
    member: &'static str,
    list: Option<Vec<T>>,
    most: usize,
) -> Result<Vec<T>, Error> {
    let missing = Error::InvalidParameter { member, constraint: Constraint::NotNull };
    of_length(member, list.ok_or(missing)?, most)
}

/// What is wrong with one part of a batch, as ECR writes its failure reasons.
pub(super) fn failure_reason(what: &str, constraint: Constraint) -> String {
    match constraint {
        Constraint::Pattern(pattern) => {
            format!("Invalid request parameters: {what} should satisfy the regex '{pattern}'")
        }
        other => format!("Invalid request parameters: {what} {other}"),
    }
}
