//! The transactions with which publishing and deleting write: their items and their conditions.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity,
    TransactWriteItem, Update,
};

use super::id::{UniqueId, transaction_token};
use super::keys::Key;
use super::{Catalog, Item, fault, garbled};
use crate::fault::{Backend, BackendFault, Fault, Kind};
use crate::types::seconds_since_1970;

/// The most items of one transaction.
/// Source: [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
pub(super) const LARGEST_TRANSACTION: usize = 100;

/// How often a transaction is tried, if the reason against it may pass. There is a random wait before each further
/// try, whose upper limit begins with `FIRST_WAIT` and doubles.
const TRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(25);

/// Reasons for a cancellation that may pass: another transaction has an item in common with this one, or there are
/// too many requests. The SDK does not retry these.
/// Source: [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

const COMPLETE: &str = "all that is required is set";

/// How a transaction went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is written.
    Written,
    /// The condition of the item at this place does not hold; it is the first such item. Nothing is written.
    Refused(usize),
}

/// What must be true of a record. Otherwise the transaction is refused.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    expression: &'static str,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Condition {
    /// There is no such record.
    pub(super) fn is_absent() -> Self {
        Self { expression: "attribute_not_exists(pk)", values: Vec::new() }
    }

    /// The record is there.
    pub(super) fn exists() -> Self {
        Self { expression: "attribute_exists(pk)", values: Vec::new() }
    }

    /// The record is there, and its deletion has not begun.
    pub(super) fn is_alive() -> Self {
        Self { expression: "attribute_exists(pk) AND attribute_not_exists(deleting)", values: Vec::new() }
    }

    /// The image is published, and its deletion has not begun.
    pub(super) fn is_published() -> Self {
        Self {
            expression: "attribute_exists(pushed_at) AND attribute_not_exists(deleting)",
            values: Vec::new(),
        }
    }

    /// The image is the one whose publishing began with this id, and its deletion has not begun.
    pub(super) fn began_as(begun_at: UniqueId) -> Self {
        let expression = "begun_at = :begun_at AND attribute_not_exists(deleting)";
        Self { expression, values: vec![(":begun_at", begun_at.value())] }
    }

    /// What names the image has not changed since this revision was read, and its deletion has not begun.
    pub(super) fn has_revision(revision: UniqueId) -> Self {
        let expression = "revision = :seen AND attribute_not_exists(deleting)";
        Self { expression, values: vec![(":seen", revision.value())] }
    }

    /// The same as [`Self::has_revision`], and the image's publishing has not ended.
    pub(super) fn is_unfinished(revision: UniqueId) -> Self {
        let expression =
            "revision = :seen AND attribute_not_exists(deleting) AND attribute_not_exists(pushed_at)";
        Self { expression, values: vec![(":seen", revision.value())] }
    }

    /// The record is being deleted by the deletion with this id.
    pub(super) fn is_marked(deletion: UniqueId) -> Self {
        Self { expression: "deleting = :deletion", values: vec![(":deletion", deletion.value())] }
    }

    /// The repository has a tentative mark, of the deletion with this id.
    pub(super) fn is_tentatively_marked(deletion: UniqueId) -> Self {
        let expression = "deleting = :deletion AND attribute_exists(tentative)";
        Self { expression, values: vec![(":deletion", deletion.value())] }
    }

    /// The intent is there, and neither has its publishing ended nor was it given up.
    pub(super) fn has_not_ended() -> Self {
        Self { expression: "attribute_exists(pk) AND attribute_not_exists(ended_at)", values: Vec::new() }
    }

    /// The cleaner's lease still ends at this time.
    pub(super) fn has_lease(lease_ends: u64) -> Self {
        Self { expression: "lease_ends = :seen", values: vec![(":seen", number_value(lease_ends))] }
    }

    /// The tag names this image.
    pub(super) fn names(image: AttributeValue) -> Self {
        Self { expression: "image_digest = :image", values: vec![(":image", image)] }
    }

    /// The rule still is for this upstream, and no token server is known yet.
    pub(super) fn is_unpinned(upstream_url: String) -> Self {
        let expression = "upstream_url = :upstream AND attribute_not_exists(realm)";
        Self { expression, values: vec![(":upstream", AttributeValue::S(upstream_url))] }
    }

    /// The fill is that of this lease, and no worker has begun it.
    pub(super) fn is_unclaimed(lease_id: UniqueId) -> Self {
        let expression = "lease_id = :lease AND attribute_not_exists(claimed_at)";
        Self { expression, values: vec![(":lease", lease_id.value())] }
    }

    /// The fill is that of this lease, and has not failed.
    pub(super) fn is_at_work(lease_id: UniqueId) -> Self {
        let expression = "lease_id = :lease AND attribute_not_exists(failure)";
        Self { expression, values: vec![(":lease", lease_id.value())] }
    }

    /// The fill is that of this lease.
    pub(super) fn has_lease_id(lease_id: UniqueId) -> Self {
        Self { expression: "lease_id = :lease", values: vec![(":lease", lease_id.value())] }
    }

    /// There is no fill, or its time was over at `now`, in seconds since 1970; or it is that of this lease, which was written
    /// by an earlier try whose answer was lost.
    pub(super) fn is_free(lease_id: UniqueId, now: u64) -> Self {
        let expression = "attribute_not_exists(pk) OR ends_at <= :now \
                          OR (lease_id = :lease AND attribute_not_exists(claimed_at))";
        Self { expression, values: vec![(":now", number_value(now)), (":lease", lease_id.value())] }
    }

    pub(super) fn split(
        condition: Option<Self>,
    ) -> (Option<String>, Option<HashMap<String, AttributeValue>>) {
        let Some(Self { expression, values }) = condition else { return (None, None) };
        let values: HashMap<_, _> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (Some(expression.to_owned()), Some(values).filter(|values| !values.is_empty()))
    }
}

impl Catalog {
    /// Writes all of `items` or none. Tries again if the reason against it may pass.
    pub(super) async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Outcome, Fault> {
        let mut longest_wait = FIRST_WAIT;
        let mut tries_left = TRIES;
        loop {
            let transaction = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(transaction_token())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let error = match transaction.send().await {
                Ok(done) => return done.consumed_capacity.map(|_| Outcome::Written).ok_or_else(garbled),
                Err(error) => error,
            };
            let reasons = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    canceled.cancellation_reasons()
                }
                _ => return Err(fault(error)),
            };
            if let Some(place) = reasons.iter().position(|reason| has_code(reason, "ConditionalCheckFailed"))
            {
                return Ok(Outcome::Refused(place));
            }
            tries_left -= 1;
            let passes = reasons.iter().any(|reason| PASSING.iter().any(|code| has_code(reason, code)));
            if !passes || tries_left == 0 {
                let reason = reasons.iter().find(|reason| !has_code(reason, "None")).cloned();
                return Err(cancelled(fault(error), reason));
            }
            // A random time, because transactions that wait equally long would meet again.
            tokio::time::sleep(longest_wait.mul_f64(fastrand::f64())).await;
            longest_wait *= 2;
        }
    }

    /// An item that writes a record, and replaces the one that may be there.
    pub(super) fn put<'a>(
        &self,
        key: Key,
        attributes: impl IntoIterator<Item = (&'a str, AttributeValue)>,
        condition: Option<Condition>,
    ) -> TransactWriteItem {
        let mut item = key_attributes(key);
        item.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let (expression, values) = Condition::split(condition);
        let put = Put::builder()
            .table_name(&self.table_name)
            .set_item(Some(item))
            .set_condition_expression(expression)
            .set_expression_attribute_values(values);
        TransactWriteItem::builder().put(put.build().expect(COMPLETE)).build()
    }

    /// An item that changes a record by an update expression with these values. It creates the record if there is
    /// none, unless `condition` forbids that.
    pub(super) fn update<'a>(
        &self,
        key: Key,
        expression: &str,
        values: impl IntoIterator<Item = (&'a str, AttributeValue)>,
        condition: Option<Condition>,
    ) -> TransactWriteItem {
        let (condition, condition_values) = Condition::split(condition);
        let mut all: HashMap<_, _> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(condition_values.unwrap_or_default());
        let update = Update::builder()
            .table_name(&self.table_name)
            .set_key(Some(key_attributes(key)))
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_values((!all.is_empty()).then_some(all));
        TransactWriteItem::builder().update(update.build().expect(COMPLETE)).build()
    }

    /// An item that only checks a condition.
    pub(super) fn check(&self, key: Key, condition: Condition) -> TransactWriteItem {
        let (expression, values) = Condition::split(Some(condition));
        let check = ConditionCheck::builder()
            .table_name(&self.table_name)
            .set_key(Some(key_attributes(key)))
            .set_condition_expression(expression)
            .set_expression_attribute_values(values);
        TransactWriteItem::builder().condition_check(check.build().expect(COMPLETE)).build()
    }

    /// An item that deletes a record, if it is there.
    pub(super) fn delete(&self, key: Key, condition: Option<Condition>) -> TransactWriteItem {
        let (expression, values) = Condition::split(condition);
        let delete = Delete::builder()
            .table_name(&self.table_name)
            .set_key(Some(key_attributes(key)))
            .set_condition_expression(expression)
            .set_expression_attribute_values(values);
        TransactWriteItem::builder().delete(delete.build().expect(COMPLETE)).build()
    }
}

pub(super) fn key_attributes((pk, sk): Key) -> Item {
    HashMap::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), AttributeValue::S(sk))])
}

fn has_code(reason: &CancellationReason, code: &str) -> bool {
    reason.code() == Some(code)
}

/// The fault for a cancelled transaction. It has the first reason as its code, because "cancelled" does not tell what
/// to do.
fn cancelled(fault: Fault, reason: Option<CancellationReason>) -> Fault {
    match (fault, reason) {
        (Fault::Backend(fault), Some(reason)) => Fault::Backend(Box::new(BackendFault {
            backend: Backend::DynamoDb,
            kind: Kind::Answered,
            source: match reason.message() {
                Some(message) => message.into(),
                None => fault.source,
            },
            code: reason.code,
            status: fault.status,
            request_id: fault.request_id,
        })),
        (fault, _) => fault,
    }
}

/// The time, in seconds since 1970.
pub(super) fn now() -> AttributeValue {
    number_value(seconds_since_1970(SystemTime::now()))
}

pub(super) fn number_value(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
