//! What the bucket holds, and cleaning it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use layergate_local::ACCOUNT;
use serde_json::Value;

use super::{Stack, assert_consistent, sha256};

/// Takes whatever nobody needs, however young.
pub const CLEAN: [&str; 3] = ["clean", "--older-than", "0s"];

/// The bucket's objects of one kind, `layers` or `manifests`.
pub fn objects(stack: &Stack, kind: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder(stack, kind)).into_iter().flatten();
    names
        .map(|file| format!("sha256:{}", file.unwrap().file_name().into_string().unwrap()))
        .collect()
}

pub fn folder(stack: &Stack, kind: &str) -> PathBuf {
    stack.folder.path().join(format!("s3/layergate/{kind}/{ACCOUNT}/sha256"))
}

/// Asserts that each blob of an image, as `publish` has told them, is given and has its digest, and
/// that the manifest is there.
pub async fn assert_intact(stack: &Stack, published: &Value, context: &str) {
    let repository = published["repositoryName"].as_str().unwrap();
    for layer in published["layers"].as_array().unwrap() {
        let digest = layer["layerDigest"].as_str().unwrap();
        let answer = stack.ask(repository, digest).await;
        assert_eq!(answer.status, 200, "{context}: {digest}: {answer:?}");
        assert_pulled(answer.url(), digest, context).await;
    }
    let manifest = published["imageDigest"].as_str().unwrap();
    assert!(objects(stack, "manifests").contains(manifest), "{context}: {manifest} is gone");
    assert_consistent(stack, repository).await;
}

pub async fn assert_pulled(url: &str, digest: &str, context: &str) {
    let bytes = reqwest::get(url).await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
    assert_eq!(sha256(&bytes), digest, "{context}");
}
