//! What a request is about, for its log line.

use layergate_core::types::{Digest, ImageTag, Repository};

/// What a request is about. Filled in as soon as it is known, so that the log line of a request
/// that fails has it too.
#[derive(Debug, Default)]
pub struct Subject {
    /// The operation, if this service has it.
    pub operation: Option<&'static str>,
    /// The caller's ARN, if it is known.
    pub caller: Option<String>,
    /// The repository, if the whole request is valid.
    pub repository: Option<Repository>,
    /// The layer or the image, likewise.
    pub digest: Option<Digest>,
    /// The image's tag, likewise.
    pub tag: Option<ImageTag>,
}
