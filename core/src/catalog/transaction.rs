//! The transactions with which publishing, deleting and cleaning write: what they write, and under
//! which guards.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::TransactWriteItemBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity,
    TransactWriteItem, Update,
};

use super::condition::{Condition, Values};
use super::id::transaction_token;
use super::schema::Key;
use super::table::{Table, fault, garbled, key_attributes};
use crate::fault::{Backend, BackendFault, Fault, Kind};

/// The most items of one transaction.
/// Source:
/// [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
pub(super) const LARGEST_TRANSACTION: usize = 100;

/// How often a transaction is tried, if the reason against it may pass. There is a random wait
/// before each further try, whose upper limit begins with `FIRST_WAIT` and doubles.
const TRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(25);

/// Reasons for a cancellation that may pass: another transaction has an item in common with this
/// one, or there are too many requests. The SDK does not retry these.
/// Source:
/// [TransactWriteItems](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).
const PASSING: [&str; 3] =
    ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

const COMPLETE: &str = "all that is required is set";

/// How a transaction went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<G> {
    /// All of it is written.
    Written,
    /// This guard did not hold; it is the first such guard. Nothing is written.
    Refused(G),
}

impl<G> Outcome<G> {
    pub(super) fn is_written(&self) -> bool {
        matches!(self, Self::Written)
    }
}

/// A transaction that is being put together. `G` names its guards: a refused transaction says which
/// guard did not hold.
#[derive(Debug)]
pub(super) struct Transaction<'a, G> {
    table: &'a Table,
    items: Vec<TransactWriteItem>,
    /// The guard of each item that has a condition.
    guards: Vec<Option<G>>,
}

impl Table {
    /// A transaction that does nothing yet. `G` names its guards.
    pub(super) fn transaction<G>(&self) -> Transaction<'_, G> {
        Transaction { table: self, items: Vec::new(), guards: Vec::new() }
    }
}

impl<G> Transaction<'_, G> {
    /// How many items it has.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Writes a record, and replaces the one that may be there.
    pub(super) fn put<'b>(
        &mut self,
        key: Key,
        attributes: impl IntoIterator<Item = (&'b str, AttributeValue)>,
    ) {
        self.add_put(key, attributes, None);
    }

    /// The same, under a guard.
    pub(super) fn put_if<'b>(
        &mut self,
        guard: G,
        condition: Condition,
        key: Key,
        attributes: impl IntoIterator<Item = (&'b str, AttributeValue)>,
    ) {
        self.add_put(key, attributes, Some((guard, condition)));
    }

    fn add_put<'b>(
        &mut self,
        key: Key,
        attributes: impl IntoIterator<Item = (&'b str, AttributeValue)>,
        guard: Option<(G, Condition)>,
    ) {
        self.table.permit("PutItem", &key);
        let (guard, expression, values) = split(guard);
        let mut item = key_attributes(key);
        item.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .set_condition_expression(expression)
            .set_expression_attribute_values(values);
        self.push(TransactWriteItem::builder().put(put.build().expect(COMPLETE)), guard);
    }

    /// Changes a record by an update expression with these values. Creates the record if there is
    /// none.
    pub(super) fn update<'b>(
        &mut self,
        key: Key,
        expression: &str,
        values: impl IntoIterator<Item = (&'b str, AttributeValue)>,
    ) {
        self.add_update(key, expression, values, None);
    }

    /// The same, under a guard.
    pub(super) fn update_if<'b>(
        &mut self,
        guard: G,
        condition: Condition,
        key: Key,
        expression: &str,
        values: impl IntoIterator<Item = (&'b str, AttributeValue)>,
    ) {
        self.add_update(key, expression, values, Some((guard, condition)));
    }

    fn add_update<'b>(
        &mut self,
        key: Key,
        expression: &str,
        values: impl IntoIterator<Item = (&'b str, AttributeValue)>,
        guard: Option<(G, Condition)>,
    ) {
        self.table.permit("UpdateItem", &key);
        let (guard, condition, condition_values) = split(guard);
        let mut all: HashMap<_, _> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(condition_values.unwrap_or_default());
        let update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(key_attributes(key)))
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_values((!all.is_empty()).then_some(all));
        self.push(TransactWriteItem::builder().update(update.build().expect(COMPLETE)), guard);
    }

    /// Writes nothing, and only guards.
    pub(super) fn check(&mut self, guard: G, condition: Condition, key: Key) {
        self.table.permit("ConditionCheckItem", &key);
        let (expression, values) = condition.split();
        let check = ConditionCheck::builder()
            .table_name(&self.table.name)
            .set_key(Some(key_attributes(key)))
            .condition_expression(expression)
            .set_expression_attribute_values(values);
        let item = TransactWriteItem::builder().condition_check(check.build().expect(COMPLETE));
        self.push(item, Some(guard));
    }

    /// Deletes a record, if it is there.
    pub(super) fn delete(&mut self, key: Key) {
        self.add_delete(key, None);
    }

    /// The same, under a guard.
    pub(super) fn delete_if(&mut self, guard: G, condition: Condition, key: Key) {
        self.add_delete(key, Some((guard, condition)));
    }

    fn add_delete(&mut self, key: Key, guard: Option<(G, Condition)>) {
        self.table.permit("DeleteItem", &key);
        let (guard, expression, values) = split(guard);
        let delete = Delete::builder()
            .table_name(&self.table.name)
            .set_key(Some(key_attributes(key)))
            .set_condition_expression(expression)
            .set_expression_attribute_values(values);
        self.push(TransactWriteItem::builder().delete(delete.build().expect(COMPLETE)), guard);
    }

    fn push(&mut self, item: TransactWriteItemBuilder, guard: Option<G>) {
        self.items.push(item.build());
        self.guards.push(guard);
    }

    /// Writes all of it or nothing. Tries again if the reason against it may pass.
    pub(super) async fn commit(mut self) -> Result<Outcome<G>, Fault> {
        let mut longest_wait = FIRST_WAIT;
        let mut tries_left = TRIES;
        loop {
            let transaction = self
                .table
                .client
                .transact_write_items()
                .set_transact_items(Some(self.items.clone()))
                .client_request_token(transaction_token())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let error = match transaction.send().await {
                Ok(done) => {
                    return done.consumed_capacity.map(|_| Outcome::Written).ok_or_else(garbled);
                }
                Err(error) => error,
            };
            let reasons = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    canceled.cancellation_reasons()
                }
                _ => return Err(fault(error)),
            };
            // There is a reason for each item, in their order.
            if let Some(place) =
                reasons.iter().position(|reason| has_code(reason, "ConditionalCheckFailed"))
            {
                let guard = self.guards.get_mut(place).and_then(Option::take);
                return guard.map(Outcome::Refused).ok_or_else(garbled);
            }
            tries_left -= 1;
            let passes =
                reasons.iter().any(|reason| PASSING.iter().any(|code| has_code(reason, code)));
            if !passes || tries_left == 0 {
                let reason = reasons.iter().find(|reason| !has_code(reason, "None")).cloned();
                return Err(cancelled(fault(error), reason));
            }
            // A random time, because transactions that wait equally long would meet again.
            tokio::time::sleep(longest_wait.mul_f64(fastrand::f64())).await;
            longest_wait *= 2;
        }
    }
}

/// The parts of a guard: its name, and the expression of its condition with its values.
fn split<G>(guard: Option<(G, Condition)>) -> (Option<G>, Option<String>, Option<Values>) {
    match guard {
        Some((guard, condition)) => {
            let (expression, values) = condition.split();
            (Some(guard), Some(expression), values)
        }
        None => (None, None, None),
    }
}

fn has_code(reason: &CancellationReason, code: &str) -> bool {
    reason.code() == Some(code)
}

/// The fault for a cancelled transaction. It has the first reason as its code, because "cancelled"
/// does not tell what to do.
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
