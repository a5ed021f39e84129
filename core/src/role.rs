//! The roles, and what each may do with the table and the bucket.
//!
//! A role is a type: [`Catalog`](crate::catalog::Catalog) and [`Store`](crate::store::Store) have
//! the methods that their role may call, and no others. The lists here are what the template
//! grants; a test compares the two. In a debug build, a write that is not in the role's list
//! panics, so a test finds it.
//!
//! Source of the actions: [DynamoDB](https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html)
//! and [S3](https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html)
//! in the Service Authorization Reference.

use serde::Serialize;

/// What a role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// The actions on the table, without `dynamodb:`. A transaction has the actions of its items.
    pub table: &'static [&'static str],
    /// What the partition keys begin with of the records that the role may write.
    pub writes: &'static [&'static str],
    /// The actions on the bucket, without `s3:`.
    pub bucket: &'static [&'static str],
}

impl Permissions {
    /// Whether the role may do `action` to a record of this partition.
    pub(crate) fn include(&self, action: &str, partition: &str) -> bool {
        self.table.contains(&action) && self.writes.iter().any(|keys| partition.starts_with(keys))
    }
}

/// A role.
pub trait Role {
    /// What it may do.
    const PERMISSIONS: Permissions;
}

/// Answers pulls: the function. It reads, and takes the leases of what a worker shall fetch.
#[derive(Debug, Clone, Copy)]
pub enum Puller {}

/// Publishes, deletes, and manages repositories: the tool and the worker.
#[derive(Debug, Clone, Copy)]
pub enum Publisher {}

/// Manages pull-through cache rules: the tool.
#[derive(Debug, Clone, Copy)]
pub enum RuleManager {}

/// Removes what no image needs: the tool and the worker.
#[derive(Debug, Clone, Copy)]
pub enum Cleaner {}

/// The beginning of each partition key.
const ANY: &str = "";

impl Role for Puller {
    const PERMISSIONS: Permissions = Permissions {
        table: &["DeleteItem", "GetItem", "PutItem", "Query"],
        writes: &["fill#"],
        bucket: &["GetObject"],
    };
}

impl Role for Publisher {
    const PERMISSIONS: Permissions = Permissions {
        table: &[
            "BatchGetItem",
            "ConditionCheckItem",
            "DeleteItem",
            "GetItem",
            "PutItem",
            "Query",
            "UpdateItem",
        ],
        writes: &[ANY],
        // ListBucket: without it S3 answers 403 instead of 404 for an object that is missing.
        bucket: &[
            "AbortMultipartUpload",
            "GetObject",
            "ListBucket",
            "ListBucketMultipartUploads",
            "PutObject",
        ],
    };
}

impl Role for RuleManager {
    const PERMISSIONS: Permissions = Permissions {
        table: &["DeleteItem", "GetItem", "PutItem", "Query"],
        writes: &["registry#", "table"],
        bucket: &[],
    };
}

impl Role for Cleaner {
    const PERMISSIONS: Permissions = Permissions {
        table: &["ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"],
        writes: &[ANY],
        bucket: &[
            "AbortMultipartUpload",
            "DeleteObject",
            "ListBucket",
            "ListBucketMultipartUploads",
        ],
    };
}
