//! Rows as DynamoDB has them, and the values in them.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::SystemTime;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::fault::Fault;
use crate::types::{Digest, seconds_since_1970};

/// A row: its attributes by name.
pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn string<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, Fault> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or(Fault::BrokenRecord(name))
}

pub(super) fn optional_string(item: &Item, name: &'static str) -> Result<Option<String>, Fault> {
    item.contains_key(name).then(|| string(item, name).map(str::to_owned)).transpose()
}

/// The strings of a set, which is absent if it has none.
pub(super) fn strings(item: &Item, name: &'static str) -> Vec<String> {
    item.get(name).and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default()
}

/// A number, or an id.
pub(super) fn number<N: FromStr>(item: &Item, name: &'static str) -> Result<N, Fault> {
    let value = item.get(name).and_then(|value| value.as_n().ok());
    value.and_then(|digits| digits.parse().ok()).ok_or(Fault::BrokenRecord(name))
}

pub(super) fn optional_number<N: FromStr>(
    item: &Item,
    name: &'static str,
) -> Result<Option<N>, Fault> {
    item.contains_key(name).then(|| number(item, name)).transpose()
}

pub(super) fn digest(item: &Item, name: &'static str) -> Result<Digest, Fault> {
    Digest::parse(string(item, name)?).map_err(|_| Fault::BrokenRecord(name))
}

pub(super) fn digests(item: &Item, name: &'static str) -> Result<Vec<Digest>, Fault> {
    let values =
        item.get(name).and_then(|value| value.as_l().ok()).ok_or(Fault::BrokenRecord(name))?;
    let parse = |value: &AttributeValue| {
        value
            .as_s()
            .ok()
            .and_then(|value| Digest::parse(value).ok())
            .ok_or(Fault::BrokenRecord(name))
    };
    values.iter().map(parse).collect()
}

pub(super) fn digest_value(digest: &Digest) -> AttributeValue {
    AttributeValue::S(digest.canonical())
}

pub(super) fn digest_values<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> AttributeValue {
    AttributeValue::L(digests.into_iter().map(digest_value).collect())
}

pub(super) fn number_value(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The time, in seconds since 1970.
pub(super) fn now() -> AttributeValue {
    number_value(seconds_since_1970(SystemTime::now()))
}
