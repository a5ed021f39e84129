//! What `make bench` and `make load` measure with: as little as possible between the clock and what
//! is measured.
//!
//! Threads that block and HTTP read by hand, because an async server's own scheduling would be in
//! every number.

pub mod http;
pub mod image;
pub mod paths;
pub mod process;
pub mod report;
pub mod stack;
pub mod statistics;

/// What ends a run, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step of a run.
pub type Result<T> = std::result::Result<T, Error>;
