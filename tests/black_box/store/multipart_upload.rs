//! Uploads in parts against an S3 that treats checksums as AWS documents, which the embedded one
//! does not: it answers a part with its checksum, and refuses to complete an upload whose parts do
//! not fit the algorithm and the type that it was created with.
//!
//! Source: [Checking object
//! integrity](https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html)
//! and
//! [CompleteMultipartUpload](https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use support::{Layout, Stack, forward, serve, sha256, stderr};

/// What was asked of the one upload of a test.
#[derive(Debug, Default)]
struct Upload {
    algorithm: Option<String>,
    checksum_type: Option<String>,
    /// The checksum of each part, by its number.
    parts: BTreeMap<String, String>,
    /// What each part's request said of its algorithm.
    part_algorithms: Vec<Option<String>>,
    is_completed: bool,
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

/// The value of a parameter of the query.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let mut parameters =
        request.uri().query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    parameters.find(|(parameter, _)| *parameter == name).map(|(_, value)| value.to_owned())
}

fn refusal(message: &str) -> Response {
    let body = format!("<Error><Code>InvalidRequest</Code><Message>{message}</Message></Error>");
    Response::builder().status(StatusCode::BAD_REQUEST).body(Body::from(body)).unwrap()
}

/// What an upload's completion is refused for.
fn fault_of(upload: &Upload, completion: &str, checksum_type: Option<&str>) -> Option<String> {
    let Some(algorithm) = &upload.algorithm else {
        let names_checksums = completion.contains("<Checksum");
        return names_checksums
            .then(|| "The upload was created without a checksum algorithm".to_owned());
    };
    if algorithm != "CRC32" {
        return Some(format!("This S3 knows CRC32 and not {algorithm}"));
    }
    if checksum_type.is_some() && checksum_type != upload.checksum_type.as_deref() {
        return Some("The checksum type is not that of the upload".to_owned());
    }
    let missing = |checksum: &&String| {
        !completion.contains(&format!("<ChecksumCRC32>{checksum}</ChecksumCRC32>"))
    };
    upload
        .parts
        .values()
        .find(missing)
        .map(|checksum| format!("The part with the checksum {checksum} is named without"))
}

/// The embedded S3, made stricter.
async fn strict_s3(engine: &str) -> (String, Arc<Mutex<Upload>>) {
    let upload = Arc::new(Mutex::new(Upload::default()));
    let (seen, engine, client) = (upload.clone(), engine.to_owned(), reqwest::Client::new());
    let url = serve(move |request: Request| {
        let (seen, engine, client) = (seen.clone(), engine.clone(), client.clone());
        async move {
            let headers = request.headers().clone();
            let is_start =
                request.method() == Method::POST && parameter(&request, "uploads").is_some();
            let is_end =
                request.method() == Method::POST && parameter(&request, "uploadId").is_some();
            let part = parameter(&request, "partNumber");
            let checksum = header(&headers, "x-amz-checksum-crc32");
            if is_start {
                let mut upload = seen.lock().unwrap();
                upload.algorithm = header(&headers, "x-amz-checksum-algorithm");
                upload.checksum_type = header(&headers, "x-amz-checksum-type");
            }
            if let Some(number) = &part {
                let mut upload = seen.lock().unwrap();
                upload.part_algorithms.push(header(&headers, "x-amz-sdk-checksum-algorithm"));
                upload.parts.extend(checksum.clone().map(|checksum| (number.clone(), checksum)));
            }
            let request = if is_end {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let completion = String::from_utf8(body.to_vec()).unwrap();
                let checksum_type = header(&headers, "x-amz-checksum-type");
                let mut upload = seen.lock().unwrap();
                if let Some(fault) = fault_of(&upload, &completion, checksum_type.as_deref()) {
                    return refusal(&fault);
                }
                upload.is_completed = true;
                Request::from_parts(parts, Body::from(body))
            } else {
                request
            };
            let mut answer = forward(&client, &engine, request).await;
            if let (Some(_), Some(checksum)) = (part, checksum) {
                answer
                    .headers_mut()
                    .insert("x-amz-checksum-crc32", HeaderValue::from_str(&checksum).unwrap());
            }
            answer
        }
    });
    (url.await, upload)
}

#[tokio::test]
async fn an_upload_in_parts_names_its_checksum_from_beginning_to_end() {
    let stack = Stack::start().await;
    let large = vec![7; 20 * 1024 * 1024];
    let layout = Layout::of_layers(&[&large]);
    let (s3, upload) = strict_s3(&stack.local.engines.s3_url).await;
    let mut publish = stack.command(&["publish", "--create-repository", &layout.path(), "app:1"]);
    let output = publish.env("AWS_ENDPOINT_URL_S3", s3).output().await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stack.ask("app", &sha256(&large)).await.status, 200);

    let upload = upload.lock().unwrap();
    assert_eq!(upload.algorithm.as_deref(), Some("CRC32"));
    assert_eq!(upload.checksum_type.as_deref(), Some("COMPOSITE"));
    assert_eq!(upload.part_algorithms, vec![Some("CRC32".to_owned()); 3]);
    assert_eq!(upload.parts.len(), 3, "each part had a checksum: {upload:?}");
    assert!(upload.is_completed);
}
