//! What the tool's programs share: logging in to a registry.

pub mod authorization;
