//! What of the tool others use too: the whole stack on one machine, for tests.

pub mod stack;
