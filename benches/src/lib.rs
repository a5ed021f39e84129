//! What `make bench` and `make load` measure with.
//!
//! The clients use blocking threads and their own simple HTTP: the scheduling of an async client
//! would be part of every measured time.

pub mod http;
pub mod image;
pub mod paths;
pub mod process;
pub mod report;
pub mod stack;
pub mod statistics;

/// Why a run ended early, as text.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step of a run.
pub type Result<T> = std::result::Result<T, Error>;
