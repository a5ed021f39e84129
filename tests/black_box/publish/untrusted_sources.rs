//! Sources that would do harm: what they may bring in, and what an error may tell of them.

use std::fs;

use serde_json::json;

use support::{Layout, Stack, assert_refused, stderr};

#[tokio::test]
async fn nothing_of_a_file_that_is_no_archive_is_repeated() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    fs::write(&path, "the password of the database is hunter2\n".repeat(100)).unwrap();
    let output =
        stack.layergate(&["publish", "--create-repository", path.to_str().unwrap(), "app:1"]).await;
    assert_refused(&output, 3, &["not an intact tar archive"]);
    assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_digest_that_nothing_can_have_is_refused_wherever_it_stands() {
    let stack = Stack::start().await;
    let hex = |length: usize| "a".repeat(length);
    let digests = [
        ("thousands of digits", format!("sha256:{}", hex(5000))),
        ("too few digits", format!("sha256:{}", hex(63))),
        ("another algorithm's length", format!("sha512:{}", hex(64))),
        ("an algorithm that is not registered", format!("md5:{}", hex(32))),
    ];
    type Place = fn(&Layout, &str);
    let places: [(&str, Place); 4] = [
        ("an absent foreign layer's", |layout, digest| {
            let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
            let media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
            let foreign = json!({"mediaType": media_type, "digest": digest, "size": 9});
            layout.set_index(&[layout.add_manifest(&config, &[foreign])]);
        }),
        ("a layer's", |layout, digest| {
            let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
            let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 9});
            layout.set_index(&[layout.add_manifest(&config, &[layer])]);
        }),
        ("an image's in an index", |layout, digest| {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let image = json!({"mediaType": media_type, "digest": digest, "size": 9});
            layout.set_index(&[layout.add_index(&[image])]);
        }),
        ("the image's own", |layout, digest| {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            layout.set_index(&[json!({"mediaType": media_type, "digest": digest, "size": 9})]);
        }),
    ];
    for (place, put) in places {
        for (description, digest) in &digests {
            let layout = Layout::empty();
            put(&layout, digest);
            let output =
                stack.layergate(&["publish", "--create-repository", &layout.path(), "app:1"]).await;
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(3), "{place} digest, {description}: {said}");
            assert!(
                said.contains("digest") && said.len() < 1000,
                "{place} digest, {description}: {said}"
            );
        }
    }
    assert_eq!(stack.json(&["repository", "list"]).await["repositories"], json!([]));
}
