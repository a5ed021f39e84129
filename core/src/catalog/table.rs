//! The table: its client, single records, and the rows of a partition, page by page.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::item::Item;
use super::schema::Key;
use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::role::Permissions;

/// The longest partition key, in bytes.
/// Source: [Quotas in
/// DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html).
const LONGEST_KEY: usize = 2048;

/// The table, and how it is reached.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
    permissions: Permissions,
}

impl Table {
    /// The table that `config` names. `sdk` has the region, the credentials and the time-outs.
    pub(super) fn new(sdk: &SdkConfig, config: &Config, permissions: Permissions) -> Self {
        Self { client: client(sdk, config), name: config.table_name.clone(), permissions }
    }

    /// Panics in a debug build if the role must not write such a record, for tests to find it. In a
    /// deployment, AWS refuses what the role's policy does not grant.
    pub(super) fn permit(&self, action: &str, (pk, _): &Key) {
        debug_assert!(self.permissions.include(action, pk), "the role may not {action} {pk}");
    }

    /// A record, read with strong consistency. One request.
    pub(super) async fn record(&self, key: Key) -> Result<Option<Item>, Fault> {
        self.record_as_of(key, true).await
    }

    /// A record. One request. An answer without an item means that there is no such record; the
    /// capacity in the answer proves that it is DynamoDB's.
    pub(super) async fn record_as_of(
        &self,
        (pk, sk): Key,
        is_consistent: bool,
    ) -> Result<Option<Item>, Fault> {
        if !may_be_key(&pk) {
            return Ok(None);
        }
        let found = self
            .client
            .get_item()
            .table_name(&self.name)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .consistent_read(is_consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(fault)?;
        found.consumed_capacity.ok_or_else(garbled)?;
        Ok(found.item)
    }

    /// The first two rows of a partition. One request.
    pub(super) async fn first_two(
        &self,
        pk: String,
        is_consistent: bool,
    ) -> Result<Vec<Item>, Fault> {
        let found = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk))
            .consistent_read(is_consistent)
            .limit(2)
            .send()
            .await
            .map_err(fault)?;
        found.items.ok_or_else(garbled)
    }

    /// The rows of a partition whose sort keys begin with `prefix`, in pages of up to `page` rows.
    pub(super) fn rows(&self, pk: String, prefix: &str, page: i32) -> Rows {
        let mut query = self.client.query().table_name(&self.name).consistent_read(true);
        query = query.expression_attribute_values(":pk", AttributeValue::S(pk));
        query = match prefix {
            "" => query.key_condition_expression("pk = :pk"),
            prefix => query
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned())),
        };
        Rows { query: query.limit(page), page: Vec::new().into_iter(), is_last_page: false }
    }
}

/// A client for the table that `config` names.
pub(super) fn client(sdk: &SdkConfig, config: &Config) -> Client {
    let mut builder = aws_sdk_dynamodb::config::Builder::from(sdk);
    if let Some(endpoint) = &config.dynamodb_endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Client::from_conf(builder.build())
}

/// Whether DynamoDB takes a partition key. It refuses a request for a longer one, so nothing can
/// have that.
pub(super) fn may_be_key(pk: &str) -> bool {
    pk.len() <= LONGEST_KEY
}

/// The rows of one partition whose sort keys share a prefix, in the order of the keys, read with
/// strong consistency.
pub(super) struct Rows {
    query: QueryFluentBuilder,
    /// Rows that were read but not returned yet.
    page: std::vec::IntoIter<Item>,
    is_last_page: bool,
}

impl Rows {
    /// Reads nothing but the sort keys.
    pub(super) fn keys_only(mut self) -> Self {
        self.query = self.query.projection_expression("sk");
        self
    }

    /// The same rows, but only those after this key, which need not be there.
    pub(super) fn after(mut self, key: Key) -> Self {
        self.query = self.query.set_exclusive_start_key(Some(key_attributes(key)));
        self
    }

    /// Whether the next row costs a query.
    pub(super) fn needs_query(&self) -> bool {
        self.page.as_slice().is_empty() && !self.is_last_page
    }

    /// The next row.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.is_last_page {
                return Ok(None);
            }
            let page = self.query.clone().send().await.map_err(fault)?;
            self.page = page.items.ok_or_else(garbled)?.into_iter();
            self.is_last_page = page.last_evaluated_key.is_none();
            self.query = self.query.clone().set_exclusive_start_key(page.last_evaluated_key);
        }
    }

    /// The next rows, at most `count`.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<Item>, Fault> {
        let mut rows = Vec::new();
        while rows.len() < count
            && let Some(row) = self.next().await?
        {
            rows.push(row);
        }
        Ok(rows)
    }
}

/// A key as DynamoDB has it.
pub(super) fn key_attributes((pk, sk): Key) -> Item {
    Item::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), AttributeValue::S(sk))])
}

pub(super) fn garbled() -> Fault {
    Fault::garbled(Backend::DynamoDb)
}

pub(super) fn fault<E>(error: SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Fault::of(Backend::DynamoDb, error)
}
