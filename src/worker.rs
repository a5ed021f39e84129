//! What the worker is asked for: the events that it takes.

use serde::{Deserialize, Serialize};

/// An event of the worker. As JSON, it is an object with one member, such as `{"clean":{"olderThanDays":7}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// Clean the registry, for as long as the function's time allows. This is what the schedule sends.
    Clean {
        /// Objects, uploads and unfinished images that are younger stay.
        older_than_days: u16,
    },
}
