//! What a pull storm asks again and again: layers that were referenced a moment ago.

use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::types::ObjectKey;

/// The most layers it remembers: what one sandbox can be asked for in its short life, at half a megabyte.
const MOST_LAYERS: usize = 1000;

/// Remembers for a short time that a layer is referenced. Never that it is not, and never why: a layer's key
/// in the table is the key here too, so nothing crosses a repository or a registry, and who may read it is
/// looked up elsewhere, each time.
#[derive(Debug)]
pub(super) struct ReferencedLayers {
    layers: Cache<String, (ObjectKey, SystemTime)>,
    life: Duration,
}

impl ReferencedLayers {
    /// One that remembers for `life`; `None` if that is nothing.
    pub(super) fn new(life: Duration) -> Option<Self> {
        (life > Duration::ZERO).then(|| Self { layers: Cache::new(MOST_LAYERS), life })
    }

    /// The layer's object key, if it was seen to be referenced less than a life ago.
    pub(super) fn get(&self, layer_partition: &str) -> Option<ObjectKey> {
        let (object_key, seen) = self.layers.get(layer_partition)?;
        // By the clock on the wall: the other one may stand still while Lambda freezes the sandbox.
        let age = seen.elapsed().ok()?;
        (age < self.life).then_some(object_key)
    }

    /// Remembers that the index said just now that the layer is referenced.
    pub(super) fn insert(&self, layer_partition: String, object_key: ObjectKey) {
        self.layers.insert(layer_partition, (object_key, SystemTime::now()));
    }
}
