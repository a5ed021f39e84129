//! The subject of a request, for its log line.

use layergate_core::types::{Digest, ImageTag, Repository};

/// The subject of a request. Each part is set as soon as it is known, so the log line of a failed
/// request has it, too.
#[derive(Debug, Default)]
pub struct Subject {
    /// The operation, if this API has it.
    pub operation: Option<&'static str>,
    /// The caller's ARN, if it is known.
    pub caller: Option<String>,
    /// The repository, if the whole request is valid.
    pub repository: Option<Repository>,
    /// The digest of the layer or the image, if the whole request is valid.
    pub digest: Option<Digest>,
    /// The image's tag, if the whole request is valid.
    pub tag: Option<ImageTag>,
}
