//! Content encodings: what the client asks for, and what it makes of the answers of servers that
//! use one nevertheless.

use std::io::Write;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use layergate_upstream::Error;

use support::upstream::{bearer, client, digest, is_authorized, read, tag};
use support::{Layout, Recorder, breaking, headed, sha256};

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn encoded(encoding: &str, bytes: Vec<u8>) -> Response {
    ([("content-encoding", encoding)], bytes).into_response()
}

/// The same without a length.
fn encoded_in_chunks(encoding: &str, bytes: Vec<u8>) -> Response {
    let chunks: Vec<_> = bytes.chunks(100).map(|chunk| Ok::<_, Error>(chunk.to_vec())).collect();
    let body = Body::from_stream(stream::iter(chunks));
    ([("content-encoding", encoding)], body).into_response()
}

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|n| (n / 7) as u8).collect()
}

#[tokio::test]
async fn every_request_asks_for_bytes_as_they_are() {
    let layout = Layout::of_layers(&[b"layer"]);
    let token_server = Recorder::start(|_| encoded("gzip", gzipped(br#"{"token": "t"}"#))).await;
    let realm = token_server.url.clone();
    let registry = Recorder::registry(&layout, move |request| {
        (!is_authorized(request, "Bearer t")).then(|| bearer(&realm, ""))
    })
    .await;
    let upstream = client(&registry.url, None);
    upstream.digest_of(&tag()).await.unwrap();
    upstream.tagged_manifest(&tag()).await.unwrap();
    read(upstream.blob(&digest(b"layer"), 5).unwrap()).await.unwrap();
    assert_eq!(registry.header("accept-encoding"), ["identity"; 4]);
    assert_eq!(token_server.header("accept-encoding"), ["identity"]);
}

#[tokio::test]
async fn manifests_that_are_encoded_nevertheless_are_decoded() {
    let layout = Layout::of_layers(&[b"layer"]);
    let root = layout.root()["digest"].as_str().unwrap().to_owned();
    let manifest = layout.contents()[&root].clone();
    type Encode = fn(Vec<u8>) -> Response;
    let cases: [(&str, Encode); 6] = [
        ("gzip", |bytes| encoded("gzip", gzipped(&bytes))),
        ("its old name", |bytes| encoded("x-gzip", gzipped(&bytes))),
        ("in upper case", |bytes| encoded(" GZIP ", gzipped(&bytes))),
        ("in chunks", |bytes| encoded_in_chunks("gzip", gzipped(&bytes))),
        ("in two members", |bytes| {
            let (first, second) = bytes.split_at(20);
            encoded("gzip", [gzipped(first), gzipped(second)].concat())
        }),
        ("an encoding by name only", |bytes| encoded("utf-8", bytes)),
    ];
    for (description, encode) in cases {
        for digest_header in [None, Some(root.clone())] {
            let bytes = manifest.clone();
            let registry = Recorder::start(move |_| {
                let mut answer = encode(bytes.clone());
                if let Some(digest) = &digest_header {
                    answer.headers_mut().insert("docker-content-digest", digest.parse().unwrap());
                }
                answer
            })
            .await;
            let upstream = client(&registry.url, None);
            let tagged = upstream.tagged_manifest(&tag()).await.unwrap();
            assert_eq!(tagged.digest.to_string(), root, "{description}");
            assert_eq!(tagged.bytes, manifest, "{description}");
            assert_eq!(upstream.manifest(&tagged.digest).await.unwrap().bytes, manifest);
        }
    }
}

#[tokio::test]
async fn blobs_that_are_encoded_nevertheless_are_decoded() {
    let (content, stored) = (content(), gzipped(&content()));
    type Encode = fn(Vec<u8>) -> Response;
    let cases: [(&str, &[u8], Encode); 8] = [
        ("gzip", &content, |bytes| encoded("gzip", gzipped(&bytes))),
        ("its old name", &content, |bytes| encoded("x-gzip", gzipped(&bytes))),
        ("in chunks", &content, |bytes| encoded_in_chunks("gzip", gzipped(&bytes))),
        ("a layer that is gzip itself", &stored, |bytes| encoded("gzip", gzipped(&bytes))),
        ("the encoding that was stored with a layer", &stored, |bytes| encoded("gzip", bytes)),
        ("an empty encoding", &content, |bytes| encoded("", bytes)),
        ("an encoding by name only", &content, |bytes| encoded("aws-chunked", bytes)),
        ("none", &content, |bytes| encoded("identity", bytes)),
    ];
    for (description, blob, encode) in cases {
        let bytes = blob.to_vec();
        let registry = Recorder::start(move |_| encode(bytes.clone())).await;
        let upstream = client(&registry.url, None);
        let reader = upstream.blob(&digest(blob), blob.len() as u64).unwrap();
        let found = read(reader).await;
        assert!(found.as_deref() == Ok(blob), "{description}: {:?}", found.map(|all| all.len()));
        assert_eq!(registry.asked().len(), 1, "{description}");
    }
}

#[tokio::test]
async fn broken_encodings_are_refused() {
    let content = content();
    let wrong = Error::WrongContent;
    type Encode = fn(Vec<u8>) -> Response;
    let few = || Error::Unavailable("it sent too few bytes".to_owned());
    let incomplete = "its gzip encoding is incomplete or has a wrong checksum";
    let incomplete = || Error::Unavailable(incomplete.to_owned());
    let cases: [(&str, Encode, Error, usize); 6] = [
        (
            "not gzip",
            |bytes| encoded("gzip", [b"x".to_vec(), bytes].concat()),
            wrong("its gzip encoding is broken"),
            1,
        ),
        (
            "a wrong checksum",
            |bytes| {
                let mut bytes = gzipped(&bytes);
                let end = bytes.len() - 8;
                bytes[end] ^= 1;
                encoded("gzip", bytes)
            },
            incomplete(),
            3,
        ),
        ("truncated", |bytes| encoded("gzip", gzipped(&bytes)[..200].to_vec()), incomplete(), 3),
        (
            "more bytes than the size",
            |bytes| encoded("gzip", gzipped(&[bytes, vec![0; 1 << 26]].concat())),
            wrong("it has another size"),
            1,
        ),
        ("fewer bytes", |bytes| encoded("gzip", gzipped(&bytes[1..])), few(), 3),
        (
            "another encoding",
            |bytes| encoded("br", bytes[..1000].to_vec()),
            wrong("it has another size"),
            1,
        ),
    ];
    for (description, encode, expected, requests) in cases {
        let bytes = content.clone();
        let registry = Recorder::start(move |_| encode(bytes.clone())).await;
        // One byte more, so that the checksum is read.
        let size = content.len() as u64 + u64::from(description == "a wrong checksum");
        let reader = client(&registry.url, None).blob(&digest(&content), size).unwrap();
        assert_eq!(read(reader).await.unwrap_err(), expected, "{description}");
        assert_eq!(registry.asked().len(), requests, "{description}");
    }
    let bomb = Recorder::start(|_| encoded("gzip", gzipped(&vec![b' '; 1 << 26]))).await;
    let error = client(&bomb.url, None).tagged_manifest(&tag()).await.unwrap_err();
    assert_eq!(error, Error::TooLarge(4 * 1024 * 1024));
}

/// A range would be one of the encoded bytes, so the client asks for all of them again.
#[tokio::test]
async fn an_encoded_blob_that_breaks_continues_where_it_broke() {
    let content = content();
    let bytes = gzipped(&content);
    let broken = std::sync::atomic::AtomicBool::new(false);
    let broken = std::sync::Arc::new(broken);
    let registry = Recorder::start(move |request| {
        assert!(!request.headers.contains_key("range"));
        match broken.swap(true, std::sync::atomic::Ordering::SeqCst) {
            false => {
                let response = Response::builder().header("content-encoding", "gzip");
                response.body(breaking(&bytes[..bytes.len() / 2])).unwrap()
            }
            true => encoded("gzip", bytes.clone()),
        }
    })
    .await;
    let reader = client(&registry.url, None).blob(&digest(&content), content.len() as u64);
    assert!(read(reader.unwrap()).await.unwrap() == content);
    assert_eq!(registry.asked().len(), 2);
}

/// docker would not decode what it downloads from there.
#[tokio::test]
async fn clients_are_not_sent_to_an_encoded_blob() {
    let (content, stored) = (content(), gzipped(&content()));
    type Encode = fn(Vec<u8>) -> Response;
    let cases: [(&str, &[u8], Encode, bool); 3] = [
        ("plain", &content, IntoResponse::into_response, true),
        ("encoded", &content, |bytes| encoded("gzip", gzipped(&bytes)), false),
        ("stored with the encoding", &stored, |bytes| encoded("gzip", bytes), true),
    ];
    for (description, blob, encode, is_redirect) in cases {
        let bytes = blob.to_vec();
        let cdn = Recorder::start(move |_| encode(bytes.clone())).await;
        let target = cdn.url.clone();
        let registry = Recorder::start(move |_| headed(307, "location", &target)).await;
        let mut reader =
            client(&registry.url, None).blob(&digest(blob), blob.len() as u64).unwrap();
        reader.open().await.unwrap();
        assert_eq!(reader.redirect().is_some(), is_redirect, "{description}");
        assert_eq!(sha256(&read(reader).await.unwrap()), sha256(blob), "{description}");
    }
}
