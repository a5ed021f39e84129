//! The transactions that the tool writes with, and their items.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::{DeleteBuilder, PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnConsumedCapacity, TransactWriteItem, Update,
};

use super::{Key, LayerIndex, fault, keys, no_answer};
use crate::error::Error;
use crate::types::{Digest, Repository};

/// The most items of one transaction.
/// Source: [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
pub(super) const LARGEST_TRANSACTION: usize = 100;

/// How often a transaction is tried that cannot be done at this moment, with a wait between that doubles.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(25);

/// Why a transaction was cancelled that may be done a moment later: another one writes the same items, or there is
/// too much to do. The SDK does not look at reasons.
/// Source: [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// How a transaction went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is written.
    Written,
    /// Some item's condition does not hold. Nothing is written.
    Refused,
}

pub(super) const COMPLETE: &str = "all that is required is set";

impl LayerIndex {
    /// Writes all of `items` or none. Waits a while for what keeps it from that to pass.
    pub(super) async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Outcome, Error> {
        let mut wait = FIRST_WAIT;
        let mut tries_left = TRIES;
        loop {
            let transaction = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let error = match transaction.send().await {
                Ok(done) => return done.consumed_capacity.map(|_| Outcome::Written).ok_or_else(no_answer),
                Err(error) => error,
            };
            let canceled = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled,
                _ => return Err(fault(error)),
            };
            let reasons: Vec<_> =
                canceled.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect();
            if reasons.contains(&"ConditionalCheckFailed") {
                return Ok(Outcome::Refused);
            }
            tries_left -= 1;
            if !reasons.iter().any(|reason| PASSING.contains(reason)) || tries_left == 0 {
                return Err(fault(error));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// An item that writes a record, over the one that may be there.
    pub(super) fn put<const N: usize>(
        &self,
        key: Key,
        attributes: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        TransactWriteItem::builder().put(put(self, key, attributes).build().expect(COMPLETE)).build()
    }

    /// An item that writes a record that must not be there yet.
    pub(super) fn put_new<const N: usize>(
        &self,
        key: Key,
        attributes: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let put = put(self, key, attributes).condition_expression("attribute_not_exists(pk)");
        TransactWriteItem::builder().put(put.build().expect(COMPLETE)).build()
    }

    /// An item that sets one attribute of a record for which `condition`, with these values, holds.
    pub(super) fn set<const N: usize>(
        &self,
        key: Key,
        (attribute, value): (&str, AttributeValue),
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let update = update(self, key)
            .update_expression(format!("SET {attribute} = :{attribute}"))
            .expression_attribute_values(format!(":{attribute}"), value)
            .condition_expression(condition);
        let update = values
            .into_iter()
            .fold(update, |update, (name, value)| update.expression_attribute_values(name, value));
        TransactWriteItem::builder().update(update.build().expect(COMPLETE)).build()
    }

    /// An item that writes nothing, and lets the others be written only if `condition`, with these values, holds.
    pub(super) fn check<const N: usize>(
        &self,
        (pk, sk): Key,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let check = ConditionCheck::builder()
            .table_name(&self.table_name)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .condition_expression(condition);
        let check = values
            .into_iter()
            .fold(check, |check, (name, value)| check.expression_attribute_values(name, value));
        TransactWriteItem::builder().condition_check(check.build().expect(COMPLETE)).build()
    }

    /// An item that deletes a record, if it is there.
    pub(super) fn delete(&self, key: Key) -> TransactWriteItem {
        TransactWriteItem::builder().delete(delete(self, key).build().expect(COMPLETE)).build()
    }

    /// An item that deletes a record for which `condition`, with these values, holds.
    pub(super) fn delete_if<const N: usize>(
        &self,
        key: Key,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let delete = delete(self, key).condition_expression(condition);
        let delete = values
            .into_iter()
            .fold(delete, |delete, (name, value)| delete.expression_attribute_values(name, value));
        TransactWriteItem::builder().delete(delete.build().expect(COMPLETE)).build()
    }

    /// An item that deletes a tag that must still be this image's.
    pub(super) fn delete_tag_of(
        &self,
        repository: &Repository,
        tag: &str,
        image: &Digest,
    ) -> TransactWriteItem {
        let image = [(":image", AttributeValue::S(image.canonical()))];
        self.delete_if(keys::tag(repository, tag), "image_digest = :image", image)
    }
}

fn put<const N: usize>(
    index: &LayerIndex,
    (pk, sk): Key,
    attributes: [(&str, AttributeValue); N],
) -> PutBuilder {
    let put = Put::builder()
        .table_name(&index.table_name)
        .item("pk", AttributeValue::S(pk))
        .item("sk", AttributeValue::S(sk));
    attributes.into_iter().fold(put, |put, (name, value)| put.item(name, value))
}

pub(super) fn update(index: &LayerIndex, (pk, sk): Key) -> UpdateBuilder {
    Update::builder()
        .table_name(&index.table_name)
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S(sk))
}

fn delete(index: &LayerIndex, (pk, sk): Key) -> DeleteBuilder {
    Delete::builder()
        .table_name(&index.table_name)
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S(sk))
}

/// What no other life of a record with the same key has.
pub(super) fn nanoseconds_since_1970() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or_default()
}

pub(super) fn number_value(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
