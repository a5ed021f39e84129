//! A cache of layers that were referenced a moment ago. A fleet that pulls an image asks for them
//! again and again.

use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::types::ObjectKey;

/// How many layers the cache holds. They take about half a megabyte, and are more than what one
/// function instance is asked for while an entry lives.
const MOST_LAYERS: usize = 1000;

/// Remembers for a short time that a layer is referenced. It does not remember layers that are not,
/// nor who may read a repository. The key is the layer's partition key in the table, so an entry is
/// of one repository only.
#[derive(Debug)]
pub(super) struct ReferencedLayers {
    layers: Cache<String, (ObjectKey, SystemTime)>,
    life: Duration,
}

impl ReferencedLayers {
    /// A cache whose entries live for `life`; `None` if that is zero.
    pub(super) fn new(life: Duration) -> Option<Self> {
        (life > Duration::ZERO).then(|| Self { layers: Cache::new(MOST_LAYERS), life })
    }

    /// The layer's object key, if its entry still lives.
    pub(super) fn get(&self, layer_partition: &str) -> Option<ObjectKey> {
        let (object_key, seen) = self.layers.get(layer_partition)?;
        // SystemTime and not Instant: the monotonic clock may stand still while Lambda freezes the
        // function.
        let age = seen.elapsed().ok()?;
        (age < self.life).then_some(object_key)
    }

    /// Remembers a layer that is referenced, as DynamoDB has just said.
    pub(super) fn insert(&self, layer_partition: String, object_key: ObjectKey) {
        self.layers.insert(layer_partition, (object_key, SystemTime::now()));
    }
}
