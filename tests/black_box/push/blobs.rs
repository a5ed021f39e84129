//! Uploads in every form that the protocol has, and what is wrong with them.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::{Layout, Registry, Stack, sha256};

const BLOB: &[u8] = b"a blob that is sent in several ways";

#[tokio::test]
async fn a_blob_can_be_read_as_soon_as_it_is_pushed_in_whatever_form() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    // What comes between POST and PUT: chunks, each with its range or without; what the PUT has.
    type Form<'a> = (&'a str, &'a [(&'a [u8], Option<&'a str>)], &'a [u8], Option<&'a str>);
    let (head, middle, tail) = (&BLOB[..10], &BLOB[10..20], &BLOB[20..]);
    let forms: [Form; 7] = [
        ("post-and-put", &[], BLOB, None),
        ("a-stream", &[(BLOB, None)], b"", None),
        ("a-stream-and-the-rest", &[(head, None)], &BLOB[10..], None),
        ("chunks", &[(head, Some("0-9")), (middle, Some("10-19")), (tail, Some("20-34"))], b"", {
            None
        }),
        ("chunks-and-the-last-in-put", &[(head, Some("0-9"))], &BLOB[10..], Some("10-34")),
        ("a-chunk-with-a-unit", &[(BLOB, Some("bytes 0-34/35"))], b"", None),
        ("put-with-its-range", &[], BLOB, Some("0-34")),
    ];
    for (form, chunks, last, range) in forms {
        // In bytes of its own, so that no form finds the blob of another one.
        let name = form;
        let blob = BLOB;
        let mut location = registry.start_upload(name).await;
        let mut sent = 0;
        for (chunk, range) in chunks {
            let range: Vec<_> = range.iter().map(|range| ("content-range", *range)).collect();
            let patched = registry.send("PATCH", &location, &range, chunk.to_vec()).await;
            assert_eq!(patched.status, 202, "{form}: {patched:?}");
            sent += chunk.len();
            assert_eq!(patched.header("range"), format!("0-{}", sent - 1), "{form}");
            location = patched.header("location").to_owned();
        }
        let range: Vec<_> = range.iter().map(|range| ("content-range", *range)).collect();
        let digest = sha256(blob);
        let end = format!("{location}?digest={digest}");
        let put = registry.send("PUT", &end, &range, last.to_vec()).await;
        assert_eq!(put.status, 201, "{form}: {put:?}");
        assert_eq!(put.header("docker-content-digest"), digest, "{form}");
        assert_readable(&registry, put.header("location"), blob).await;
        let again = registry.send("PUT", &end, &[], "").await;
        assert_eq!(again.outcome(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()), "{form}");
    }
}

#[tokio::test]
async fn a_blob_is_pushed_in_one_request_or_mounted() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let digest = sha256(BLOB);
    let mount = |from: &str| format!("/v2/app/blobs/uploads/?mount={digest}{from}");
    let missing = registry.send("POST", &mount("&from=other"), &[], "").await;
    assert_eq!(missing.status, 202, "no repository has it, so an upload starts: {missing:?}");

    let post = format!("/v2/other/blobs/uploads/?digest={digest}");
    let posted = registry.send("POST", &post, &[], BLOB).await;
    assert_eq!(posted.status, 201, "{posted:?}");
    assert_readable(&registry, posted.header("location"), BLOB).await;

    for from in ["&from=other", "", "&from=nowhere"] {
        let mounted = registry.send("POST", &mount(from), &[], "").await;
        assert_eq!(mounted.status, 201, "{from}: {mounted:?}");
        assert_eq!(mounted.header("location"), format!("/v2/app/blobs/{digest}"));
        assert_readable(&registry, mounted.header("location"), BLOB).await;
    }
}

#[tokio::test]
async fn blobs_may_be_empty_or_have_a_sha512_digest() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let empty = registry.push_blob("app", b"").await;
    assert_readable(&registry, &format!("/v2/app/blobs/{empty}"), b"").await;

    let digest = "sha512:ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f8819a5d4940e0db2\
                  7ac185f8a0e1d5f84f88bc887fd67b143732c304cc5fa9ad8e6f57f50028a8ff";
    let location = registry.start_upload("app").await;
    let end = format!("{location}?digest={digest}");
    let put = registry.send("PUT", &end, &[], "test").await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_readable(&registry, put.header("location"), b"test").await;
    let location = registry.start_upload("app").await;
    let put = registry.send("PUT", &format!("{location}?digest={digest}"), &[], "tesT").await;
    assert_eq!(put.outcome(), (400, "DIGEST_INVALID".to_owned()), "the bucket has that digest");
}

/// HEAD says how long the blob is, and GET leads to its bytes.
async fn assert_readable(registry: &Registry, path: &str, bytes: &[u8]) {
    let head = registry.send("HEAD", path, &[], "").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, bytes.len().to_string().as_str())
    );
    let got = registry.get(path).await;
    assert_eq!((got.status, got.body.as_slice()), (200, bytes), "{path}");
}

#[tokio::test]
async fn an_upload_goes_on_where_its_last_chunk_ended() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let location = registry.start_upload("app").await;
    let chunk = |range: &'static str, bytes: &'static [u8]| {
        let (registry, location) = (registry.clone(), location.clone());
        async move { registry.send("PATCH", &location, &[("content-range", range)], bytes).await }
    };
    assert_eq!(chunk("0-9", &BLOB[..10]).await.status, 202);
    let cases = [
        ("a gap", "12-21", 416),
        ("a chunk once more", "0-9", 416),
        ("a range that is not as long as the body", "10-20", 400),
        ("a range that ends before it begins", "10-3", 400),
        ("no range", "ten to twenty", 400),
    ];
    for (description, range, status) in cases {
        let refused = chunk(range, &BLOB[10..20]).await;
        assert_eq!(refused.outcome(), (status, "BLOB_UPLOAD_INVALID".to_owned()), "{description}");
        let where_it_is = registry.send("GET", &location, &[], "").await;
        assert_eq!((where_it_is.status, where_it_is.header("range")), (204, "0-9"));
        if status == 416 {
            assert_eq!(refused.header("range"), "0-9", "{description}");
            assert_eq!(refused.header("location"), location, "{description}");
        }
    }
    assert_eq!(chunk("10-34", &BLOB[10..]).await.status, 202);
    let end = format!("{location}?digest={}", sha256(BLOB));
    assert_eq!(registry.send("PUT", &end, &[], "").await.status, 201);
}

#[tokio::test]
async fn an_upload_goes_on_after_its_connection_broke() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let location = registry.start_upload("app").await;
    let address = stack.local.url.trim_start_matches("http://").to_owned();
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 35\r\n\r\n");
    let mut connection = TcpStream::connect(&address).await.unwrap();
    connection.write_all(&[head.as_bytes(), &BLOB[..10]].concat()).await.unwrap();
    drop(connection);
    // The registry notices the end of the connection on its own time.
    let mut arrived = String::new();
    for _ in 0..500 {
        let status = registry.send("GET", &location, &[], "").await;
        if status.status == 204 && status.header("range") == "0-9" {
            arrived = status.header("range").to_owned();
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(arrived, "0-9");
    let range = [("content-range", "10-34")];
    assert_eq!(registry.send("PATCH", &location, &range, &BLOB[10..]).await.status, 202);
    let end = format!("{location}?digest={}", sha256(BLOB));
    assert_eq!(registry.send("PUT", &end, &[], "").await.status, 201);
}

#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let location = registry.start_upload("app").await;
    assert_eq!(registry.send("PATCH", &location, &[], BLOB).await.status, 202);
    assert_eq!(registry.send("DELETE", &location, &[], "").await.status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        let gone = registry.send(method, &location, &[], "").await;
        assert_eq!(gone.outcome(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()), "{method}");
    }
}

#[tokio::test]
async fn a_wrong_upload_is_refused_and_leaves_nothing() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let other = sha256(b"other bytes");
    let short = "sha256:abc";
    let cases = [
        ("other bytes", format!("?digest={other}"), "DIGEST_INVALID"),
        ("no digest", String::new(), "DIGEST_INVALID"),
        ("a short digest", format!("?digest={short}"), "DIGEST_INVALID"),
        ("an algorithm that nobody computes", format!("?digest=md5:{}", "0".repeat(32)), {
            "DIGEST_INVALID"
        }),
        ("no digest at all", "?digest=latest".to_owned(), "DIGEST_INVALID"),
    ];
    for (description, query, code) in cases {
        let location = registry.start_upload("app").await;
        let refused = registry.send("PUT", &format!("{location}{query}"), &[], BLOB).await;
        assert_eq!(refused.outcome(), (400, code.to_owned()), "{description}: {refused:?}");
        assert!(!refused.sentence().is_empty(), "{description}");
    }
    let blob = format!("/v2/app/blobs/{other}");
    assert_eq!(registry.send("HEAD", &blob, &[], "").await.status, 404);
    assert!(stack.unfinished_uploads().is_empty());

    let paths = [
        ("an upload that nobody started", "PATCH", "/v2/app/blobs/uploads/1", 404),
        ("an upload of another repository", "GET", "/v2/other{upload}", 404),
        ("a name that is none", "POST", "/v2/App/blobs/uploads/", 400),
        ("a blob to delete", "DELETE", blob.as_str(), 405),
    ];
    let upload = registry.start_upload("app").await;
    let upload = upload.trim_start_matches("/v2/app");
    for (description, method, path, status) in paths {
        let path = path.replace("{upload}", upload);
        let refused = registry.send(method, &path, &[], "").await;
        assert_eq!(refused.status, status, "{description}: {refused:?}");
    }
}

#[tokio::test]
async fn a_large_blob_goes_to_the_bucket_in_parts_and_is_not_sent_twice() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let blob: Vec<u8> = (0..20 * 1024 * 1024_u32).map(|n| (n / 1024) as u8).collect();
    let digest = registry.push_blob("app", &blob).await;
    let got = registry.get(&format!("/v2/app/blobs/{digest}")).await;
    assert!(got.body == blob, "the bytes are others");
    assert!(stack.unfinished_uploads().is_empty());
    let before = std::fs::metadata(stack.object_of(&digest)).unwrap().modified().unwrap();
    registry.push_blob("other", &blob).await;
    let after = std::fs::metadata(stack.object_of(&digest)).unwrap().modified().unwrap();
    assert_eq!(before, after, "the object was written again");
}

#[tokio::test]
async fn what_arrived_of_a_blob_never_outlives_the_process() {
    let (data, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = [("TMPDIR", spool.path().to_str().unwrap())];
    let (mut process, environment) =
        support::start_local_with(0, data.path(), Stdio::null(), &folder).await;
    let registry = Registry::at(&environment["API_URL"]);
    let location = registry.start_upload("app").await;
    assert_eq!(registry.send("PATCH", &location, &[], BLOB).await.status, 202);
    let names: Vec<_> = std::fs::read_dir(spool.path()).unwrap().collect();
    assert!(names.is_empty(), "the upload has a name: {names:?}");
    process.kill().await.unwrap();
    assert!(std::fs::read_dir(spool.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_body_that_breaks_off_publishes_nothing() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let layout = Layout::of_layers(&[b"layer"]);
    let address = stack.local.url.trim_start_matches("http://").to_owned();
    let manifest = std::fs::read(layout.blob(layout.root()["digest"].as_str().unwrap())).unwrap();
    for (path, bytes) in [
        (format!("/v2/app/blobs/uploads/?digest={}", sha256(BLOB)), BLOB),
        ("/v2/app/manifests/1".to_owned(), &manifest),
    ] {
        let method = if path.contains("uploads") { "POST" } else { "PUT" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        let mut connection = TcpStream::connect(&address).await.unwrap();
        connection.write_all(&[head.as_bytes(), &bytes[..5]].concat()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer).await; // there may be none
        assert!(!answer.contains("HTTP/1.1 201"), "{answer}");
    }
    let blob = format!("/v2/app/blobs/{}", sha256(BLOB));
    assert_eq!(registry.send("HEAD", &blob, &[], "").await.status, 404);
    assert_eq!(registry.send("HEAD", "/v2/app/manifests/1", &[], "").await.status, 404);
}
