//! The manifests that this function instance has read lately. A digest always names the same bytes,
//! so an entry is never wrong.

use std::sync::Arc;

use layergate_core::types::ObjectKey;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// The largest manifest that is kept, in bytes. Those of images are a tenth of it.
const LARGEST: usize = 64 * 1024;

/// How many bytes all entries have together.
const CAPACITY: u64 = 4 * 1024 * 1024;

/// Manifests by their object keys, which contain registry and digest.
#[derive(Debug)]
pub(super) struct ManifestCache(Cache<ObjectKey, Arc<str>, ByBytes>);

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<ObjectKey, Arc<str>> for ByBytes {
    fn weight(&self, key: &ObjectKey, manifest: &Arc<str>) -> u64 {
        (key.as_ref().len() + manifest.len()) as u64
    }
}

impl ManifestCache {
    pub(super) fn new() -> Self {
        const USUAL: u64 = 2 * 1024;
        let entries = usize::try_from(CAPACITY / USUAL).unwrap_or_default();
        Self(Cache::with_weighter(entries, CAPACITY, ByBytes))
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<str>> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: ObjectKey, manifest: &Arc<str>) {
        if manifest.len() <= LARGEST {
            self.0.insert(key, Arc::clone(manifest));
        }
    }
}
