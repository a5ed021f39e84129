//! An S3 operation that the tool needs and that the embedded S3 does not have:
//! [ListMultipartUploads](https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html).

use std::path::{Path, PathBuf};

use axum::extract::Query;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Extensions, HeaderMap, Method, Uri};
use s3s::dto::{ListMultipartUploadsOutput, MultipartUpload, Timestamp};
use s3s::route::S3Route;
use s3s::xml::{Serialize, Serializer};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    uploads: Option<String>,
    #[serde(default)]
    prefix: String,
}

/// Answers the operation from the files that the embedded S3 keeps in this directory.
pub(super) struct ListMultipartUploads(pub(super) PathBuf);

#[async_trait::async_trait]
impl S3Route for ListMultipartUploads {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        method == Method::GET
            && parameters(uri).is_some_and(|parameters| parameters.uploads.is_some())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let bucket = request.uri.path().trim_matches('/');
        let prefix = parameters(&request.uri).unwrap_or_default().prefix;
        let uploads = uploads(&self.0, bucket).map_err(S3Error::internal_error)?;
        let uploads = uploads
            .filter(|upload| upload.key.as_ref().is_some_and(|key| key.starts_with(&prefix)));
        let output = ListMultipartUploadsOutput {
            bucket: Some(bucket.to_owned()),
            is_truncated: Some(false),
            uploads: Some(uploads.collect()),
            ..ListMultipartUploadsOutput::default()
        };
        let mut xml = Vec::new();
        output.serialize(&mut Serializer::new(&mut xml)).map_err(S3Error::internal_error)?;
        Ok(S3Response::new(Body::from(xml)))
    }
}

fn parameters(uri: &Uri) -> Option<Parameters> {
    Query::try_from_uri(uri).ok().map(|Query(parameters)| parameters)
}

/// The unfinished uploads of a bucket. The embedded S3 writes a file for each when the upload
/// starts. The file's name contains the key and the id:
/// `.bucket-<base64>.object-<base64>.upload-<id>.metadata.json`.
fn uploads(
    directory: &Path,
    bucket: &str,
) -> std::io::Result<impl Iterator<Item = MultipartUpload>> {
    let prefix = format!(".bucket-{}.object-", BASE64_URL_SAFE_NO_PAD.encode(bucket));
    let files = std::fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(files.filter_map(move |file| {
        let name = file.file_name().into_string().ok()?;
        let (key, id) =
            name.strip_prefix(&prefix)?.strip_suffix(".metadata.json")?.split_once(".upload-")?;
        let key = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(key).ok()?).ok()?;
        Some(MultipartUpload {
            key: Some(key),
            upload_id: Some(id.to_owned()),
            initiated: Some(Timestamp::from(file.metadata().ok()?.modified().ok()?)),
            ..MultipartUpload::default()
        })
    }))
}
