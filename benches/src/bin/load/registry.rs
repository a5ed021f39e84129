//! Requests to the registry, and what their answers say.

use layergate_bench::http::{Message, message};
use layergate_bench::image;
use serde_json::Value;

use crate::layer::{Layer, Outcome};
use crate::tally::{Asked, Question};
use crate::{PRIVATE, REPOSITORY};

/// An image.
pub struct Image {
    pub tag: String,
    /// Its manifest's digest.
    pub digest: String,
    /// The number of a layer that is published and deleted with the image.
    pub layer: usize,
}

/// What a request is for.
pub enum Request {
    /// The content with this digest.
    Content(String),
    /// The list of tags, which may have this one.
    Tag(String),
    /// A request that is always refused in this way.
    Refused(Outcome),
}

/// Requests for each image by its tag and by its digest, for each layer, for the list of tags, and
/// requests that are refused. `absent` is the number of a layer that nobody published.
pub fn questions(
    images: &[Image],
    layers: &[Layer],
    absent: usize,
    credentials: &str,
) -> Vec<Question> {
    let basic = |credentials: &str| format!("\r\nAuthorization: Basic {credentials}");
    let token = basic(credentials);
    let get = |path: &str, authorization: &str, layer, request| {
        let head = format!("GET /v2/{path} HTTP/1.1\r\nHost: localhost{authorization}");
        Question { message: message(&head, b""), layer, asked: Asked::Registry(request) }
    };
    let manifest = |reference: &str| format!("{REPOSITORY}/manifests/{reference}");
    let tags = format!("{REPOSITORY}/tags/list");
    let mut questions = Vec::new();
    for (n, Layer { digest, .. }) in layers.iter().enumerate() {
        let path = format!("{REPOSITORY}/blobs/{digest}");
        questions.push(get(&path, &token, n, Request::Content(digest.clone())));
    }
    for Image { tag, digest, layer } in images {
        for reference in [tag, digest] {
            let request = Request::Content(digest.clone());
            questions.push(get(&manifest(reference), &token, *layer, request));
        }
        questions.push(get(&tags, &token, *layer, Request::Tag(tag.clone())));
    }
    let absent_digest = &layers[absent].digest;
    for reference in ["never-published", absent_digest] {
        let request = Request::Content(absent_digest.clone());
        questions.push(get(&manifest(reference), &token, absent, request));
    }
    let (image, blob) = (&images[0], &layers[0].digest);
    for repository in [PRIVATE, "nobody-has-this"] {
        for what in [
            format!("manifests/{}", image.tag),
            format!("manifests/{}", image.digest),
            format!("blobs/{blob}"),
            "tags/list".to_owned(),
        ] {
            let path = format!("{repository}/{what}");
            questions.push(get(&path, &token, 0, Request::Refused(Outcome::Denied)));
        }
    }
    // Another character near the end is a wrong MAC.
    let at = credentials.len() - 8;
    let other = if credentials[at..].starts_with('A') { "B" } else { "A" };
    let forged = format!("{}{other}{}", &credentials[..at], &credentials[at + 1..]);
    for authorization in [String::new(), basic(&forged), basic("QVdTOm5vIHRva2Vu")] {
        let refused = Request::Refused(Outcome::Unauthorized);
        questions.push(get(&manifest(&image.tag), &authorization, 0, refused));
    }
    questions
}

impl Request {
    /// Whether this outcome is possible for the request. Whether it is true also depends on what is
    /// published.
    pub fn allows(&self, outcome: Outcome) -> bool {
        match self {
            Self::Refused(expected) => outcome == *expected,
            _ => !matches!(outcome, Outcome::Denied | Outcome::Unauthorized),
        }
    }
}

/// What an answer says. `None` if it is not well-formed, or is a server error.
pub fn outcome(answer: &Message, request: &Request) -> Option<Outcome> {
    if let ("307", Request::Content(digest)) = (answer.word(1), request) {
        let hex = digest.strip_prefix("sha256:")?;
        let url = answer.header("location")?;
        let right = url.contains(hex) && url.contains("X-Amz-Signature=");
        let names_digest = answer.header("docker-content-digest") == Some(digest);
        return (right && names_digest && answer.body.is_empty()).then_some(Outcome::Given);
    }
    // A manifest is answered.
    if let ("200", Request::Content(digest)) = (answer.word(1), request) {
        let names_digest = answer.header("docker-content-digest") == Some(digest);
        let right = image::digest_of(answer.body) == *digest;
        return (right && names_digest).then_some(Outcome::Given);
    }
    let body: Value = serde_json::from_slice(answer.body).ok()?;
    if answer.header("content-type") != Some("application/json") {
        return None;
    }
    if let ("200", Request::Tag(tag)) = (answer.word(1), request) {
        let tags: Option<Vec<&str>> = body["tags"].as_array()?.iter().map(Value::as_str).collect();
        let tags = tags.filter(|tags| tags.is_sorted() && body["name"] == REPOSITORY)?;
        return Some(if tags.contains(&tag.as_str()) { Outcome::Given } else { Outcome::NoImage });
    }
    let [error] = body["errors"].as_array()?.as_slice() else { return None };
    let text = error["message"].as_str()?;
    match (answer.word(1), error["code"].as_str()?) {
        ("404", "MANIFEST_UNKNOWN") => Some(Outcome::NoImage),
        ("404", "BLOB_UNKNOWN") if text.contains("does not exist within") => {
            Some(Outcome::NotFound)
        }
        ("404", "BLOB_UNKNOWN") if text.contains("is not associated with an image") => {
            Some(Outcome::Inaccessible)
        }
        ("403", "DENIED") if text.contains("is not authorized to read") => Some(Outcome::Denied),
        ("401", "UNAUTHORIZED") => Some(Outcome::Unauthorized),
        _ => None,
    }
}
