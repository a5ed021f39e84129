//! What is known about a layer, and whether an answer about it is true.

use std::sync::atomic::{AtomicU64, Ordering};

/// A layer that is asked for, and what is known about it.
pub struct Layer {
    pub digest: String,
    pub knowledge: Knowledge,
}

pub enum Knowledge {
    Referenced,
    NeverPublished,
    /// The flags below, and above them how often they were set.
    Changing(AtomicU64),
}

/// The layer is being published or deleted.
pub const CHANGING: u64 = 1;
/// An image references it.
pub const REFERENCED: u64 = 2;
/// It was published, now or before.
pub const PUBLISHED: u64 = 4;
/// Each change adds this, so that no value comes twice: if two readings are equal, there was no
/// change between them.
const STEP: u64 = 8;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Given,
    NotFound,
    Inaccessible,
    /// There is no such image now. It may have been deleted.
    NoImage,
    Denied,
    Unauthorized,
}

impl Layer {
    /// What is known now: the flags, and how often they were set.
    pub fn reading(&self) -> u64 {
        match &self.knowledge {
            Knowledge::Referenced => REFERENCED | PUBLISHED,
            Knowledge::NeverPublished => 0,
            Knowledge::Changing(number) => number.load(Ordering::SeqCst),
        }
    }

    /// Sets the flags of a layer that comes and goes. Only one thread calls this.
    pub fn set(&self, flags: u64) {
        if let Knowledge::Changing(number) = &self.knowledge {
            let next = (number.load(Ordering::SeqCst) / STEP + 1) * STEP + flags;
            number.store(next, Ordering::SeqCst);
        }
    }
}

/// Whether the layer may have changed between two readings.
pub fn has_changed(before: u64, after: u64) -> bool {
    before != after || before & CHANGING != 0
}

impl Outcome {
    /// Whether this was true at some time between two readings, the one before the request and the
    /// one after the answer.
    pub fn is_true(self, before: u64, after: u64) -> bool {
        let has_changed = has_changed(before, after);
        match self {
            Self::Given => has_changed || before & REFERENCED != 0,
            // After a deletion, a clean may remove the layer's record.
            Self::NotFound | Self::NoImage => has_changed || before & REFERENCED == 0,
            // A layer that was never published has no record.
            Self::Inaccessible => {
                after & PUBLISHED != 0 && (has_changed || before & REFERENCED == 0)
            }
            // These do not depend on what is published.
            Self::Denied | Self::Unauthorized => true,
        }
    }
}
