//! What the tool's programs and the tests share: the whole stack on one machine, and logging in to a registry.

pub mod authorization;
pub mod stack;
