//! A set of a fixed size.

use std::hash::{BuildHasher, RandomState};

/// A [Bloom filter](https://en.wikipedia.org/wiki/Bloom_filter) of two hashes. It takes 16 MiB,
/// however many values it has. It never forgets a value. But it may also say that it has a value
/// that it does not have: with a million values in it, this happens for one in about 4,600 others.
///
/// Each filter is wrong about other values, because its hashes begin with a random number. So what
/// one cleaning keeps by mistake, the next one removes.
#[derive(Debug)]
pub(super) struct Filter {
    bits: Vec<u64>,
    hasher: RandomState,
}

/// A power of two, so that a part of a hash is a place.
const BITS: usize = 1 << 27;

impl Filter {
    pub(super) fn new() -> Self {
        // The system gives the memory of zeros only when it is written to.
        Self { bits: vec![0; BITS / 64], hasher: RandomState::new() }
    }

    pub(super) fn insert(&mut self, value: &str) {
        for place in self.places(value) {
            self.bits[place / 64] |= 1 << (place % 64);
        }
    }

    pub(super) fn may_have(&self, value: &str) -> bool {
        self.places(value).iter().all(|place| self.bits[place / 64] & (1 << (place % 64)) != 0)
    }

    fn places(&self, value: &str) -> [usize; 2] {
        let hash = self.hasher.hash_one(value);
        [hash, hash >> 32].map(|hash| hash as usize % BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_all_that_was_put_into_it_and_hardly_anything_else() {
        let mut filter = Filter::new();
        (0..100_000).for_each(|n| filter.insert(&n.to_string()));
        assert!((0..100_000).all(|n| filter.may_have(&n.to_string())));
        let wrong = (100_000..200_000).filter(|n| filter.may_have(&n.to_string())).count();
        assert!(wrong < 20, "{wrong}"); // 0.2 are to be expected
    }
}
