//! Which of the endpoints that write a request is for.

use http::Method;
use percent_encoding::percent_decode_str;

/// An endpoint, with what its path names. The names are not validated yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `POST /v2/<name>/blobs/uploads/`
    StartUpload { name: String },
    /// `PATCH`, `PUT`, `GET` or `DELETE /v2/<name>/blobs/uploads/<id>`
    Upload { name: String, id: String },
    /// `GET` or `HEAD /v2/<name>/blobs/<digest>`
    Blob { name: String, digest: String },
    /// `PUT /v2/<name>/manifests/<reference>`
    PutManifest { name: String, reference: String },
    /// `DELETE /v2/<name>/manifests/<reference>`
    DeleteManifest { name: String, reference: String },
    /// `DELETE /v2/<name>/blobs/<digest>`
    DeleteBlob,
}

impl Endpoint {
    /// The endpoint of a request; `None` if it is one of the reading half, or none at all.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v2/")?;
        let text = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        // A name may have slashes, and parts such as `blobs`, so the path is read from its end.
        let (three, four) = (path.rsplitn(3, '/'), path.rsplitn(4, '/'));
        let (three, four): (Vec<_>, Vec<_>) = (three.collect(), four.collect());
        match (method.as_str(), &three[..], &four[..]) {
            ("POST", _, ["", "uploads", "blobs", name])
            | ("POST", ["uploads", "blobs", name], _) => {
                Some(Self::StartUpload { name: text(name) })
            }
            ("PATCH" | "PUT" | "GET" | "DELETE", _, [id, "uploads", "blobs", name]) => {
                Some(Self::Upload { name: text(name), id: text(id) })
            }
            ("GET" | "HEAD", [digest, "blobs", name], _) => {
                Some(Self::Blob { name: text(name), digest: text(digest) })
            }
            ("DELETE", [_, "blobs", _], _) => Some(Self::DeleteBlob),
            ("PUT", [reference, "manifests", name], _) => {
                Some(Self::PutManifest { name: text(name), reference: text(reference) })
            }
            ("DELETE", [reference, "manifests", name], _) => {
                Some(Self::DeleteManifest { name: text(name), reference: text(reference) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_its_end() {
        let upload = |name: &str, id: &str| Endpoint::Upload { name: name.into(), id: id.into() };
        let blob = |name: &str, digest: &str| {
            Some(Endpoint::Blob { name: name.into(), digest: digest.into() })
        };
        let put = |name: &str, reference: &str| {
            Some(Endpoint::PutManifest { name: name.into(), reference: reference.into() })
        };
        let cases = [
            ("a start", "POST", "/v2/app/blobs/uploads/", {
                Some(Endpoint::StartUpload { name: "app".into() })
            }),
            ("a start without the slash", "POST", "/v2/a/b/blobs/uploads", {
                Some(Endpoint::StartUpload { name: "a/b".into() })
            }),
            ("a chunk", "PATCH", "/v2/app/blobs/uploads/1", Some(upload("app", "1"))),
            ("its status", "GET", "/v2/app/blobs/uploads/1", Some(upload("app", "1"))),
            ("a name with the protocol's words", "PUT", "/v2/blobs/uploads/blobs/uploads/1", {
                Some(upload("blobs/uploads", "1"))
            }),
            ("a blob", "HEAD", "/v2/a/b/blobs/sha256:1", blob("a/b", "sha256:1")),
            ("an encoded digest", "HEAD", "/v2/app/blobs/sha256%3A1", blob("app", "sha256:1")),
            ("a manifest", "PUT", "/v2/app/manifests/1", put("app", "1")),
            ("a blob to delete", "DELETE", "/v2/app/blobs/sha256:1", Some(Endpoint::DeleteBlob)),
            ("a manifest to read", "GET", "/v2/app/manifests/1", None),
            ("tags", "GET", "/v2/app/tags/list", None),
            ("no name", "PUT", "/v2/manifests/1", None),
            ("the other API", "POST", "/", None),
        ];
        for (description, method, path, endpoint) in cases {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(Endpoint::of(&method, path), endpoint, "{description}");
        }
    }
}
