//! What a write may demand of the record that it writes.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::id::UniqueId;
use super::item::number_value;

/// The values of an expression, by their names in it.
pub(super) type Values = HashMap<String, AttributeValue>;

/// What must be true of a record. Otherwise the transaction is refused.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    expression: &'static str,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Condition {
    /// The table does not say which layout it has; or it has this one, and does not say which
    /// bucket it belongs to.
    pub(super) fn lacks_bucket(layout: u64) -> Self {
        let expression =
            "attribute_not_exists(pk) OR (version = :layout AND attribute_not_exists(bucket_name))";
        Self { expression, values: vec![(":layout", number_value(layout))] }
    }

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
        Self {
            expression: "attribute_exists(pk) AND attribute_not_exists(deleting)",
            values: Vec::new(),
        }
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

    /// What names the image has not changed since this revision was read, and its deletion has not
    /// begun.
    pub(super) fn has_revision(revision: UniqueId) -> Self {
        let expression = "revision = :seen AND attribute_not_exists(deleting)";
        Self { expression, values: vec![(":seen", revision.value())] }
    }

    /// The same as [`Self::has_revision`], and the image's publishing has not ended.
    pub(super) fn is_unfinished(revision: UniqueId) -> Self {
        let expression = "revision = :seen AND attribute_not_exists(deleting) AND attribute_not_exists(pushed_at)";
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
        Self {
            expression: "attribute_exists(pk) AND attribute_not_exists(ended_at)",
            values: Vec::new(),
        }
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

    /// There is no fill, or its time was over at `now`, in seconds since 1970; or it is that of
    /// this lease, which was written by an earlier try whose answer was lost.
    pub(super) fn is_free(lease_id: UniqueId, now: u64) -> Self {
        let expression = "attribute_not_exists(pk) OR ends_at <= :now \
                          OR (lease_id = :lease AND attribute_not_exists(claimed_at))";
        Self { expression, values: vec![(":now", number_value(now)), (":lease", lease_id.value())] }
    }

    /// The expression, and its values if it has any.
    pub(super) fn split(self) -> (String, Option<Values>) {
        let values = self.values.into_iter().map(|(name, value)| (name.to_owned(), value));
        let values: Values = values.collect();
        (self.expression.to_owned(), Some(values).filter(|values| !values.is_empty()))
    }
}
