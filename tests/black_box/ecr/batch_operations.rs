//! BatchGetImage and BatchCheckLayerAvailability.

use std::fs;

use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Fault, FaultProxy, Layout, SHAPES, Shape, Stack, TARGET, call, sha256, waiting_at};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout of one image whose manifest has these bytes, but for CONFIG, which becomes the config's
/// descriptor.
fn layout(manifest: &str) -> (Layout, String) {
    let layout = Layout::empty();
    let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = manifest.replace("CONFIG", &config.to_string());
    let image = layout.add_blob(MANIFEST, manifest.as_bytes());
    layout.set_index(&[image]);
    (layout, manifest)
}

#[tokio::test]
async fn a_manifest_is_given_byte_for_byte() {
    let stack = Stack::start().await;
    let manifests = [
        (
            "plain",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":CONFIG,"layers":[]}"#,
        ),
        (
            "spaces, lines and a tab",
            "{\n\t\"schemaVersion\": 2,\r\n  \"config\" : CONFIG , \"layers\": []\n}\n\n",
        ),
        (
            "escapes and other scripts",
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[],"annotations":{"a\u00e9\"\\":"é 層 \ud83d\udc33 🐳\u0000"}}"#,
        ),
    ];
    for (description, manifest) in manifests {
        let (layout, manifest) = layout(manifest);
        let published = stack.publish(&layout, "app:latest").await;
        let digest = published["imageDigest"].as_str().unwrap();
        let answer = stack.ok(
            "BatchGetImage",
            json!({"repositoryName": "app", "imageIds": [{"imageTag": "latest"}]}),
        );
        let answer = answer.await;
        let expected = json!({
            "registryId": ACCOUNT,
            "repositoryName": "app",
            "imageId": {"imageDigest": digest, "imageTag": "latest"},
            "imageManifest": manifest,
            "imageManifestMediaType": MANIFEST,
        });
        assert_eq!(answer, json!({"images": [expected], "failures": []}), "{description}");
        assert_eq!(
            sha256(answer["images"][0]["imageManifest"].as_str().unwrap().as_bytes()),
            digest
        );
    }
}

/// A stack with an index of two images, a single image with two tags, and one that is deleted.
async fn stack() -> (Stack, [String; 4]) {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"one"]), layout.add_image(&[b"two"])];
    layout.set_index(&[layout.add_index(&images)]);
    let index = stack.publish(&layout, "app:multi").await;
    let single = stack.publish(&Layout::of_layers(&[b"single"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"single"]), "app:2").await;
    let deleted = stack.publish(&Layout::of_layers(&[b"deleted"]), "app:3").await;
    stack.json(&["image", "delete", "app:3"]).await;
    let digest = |value: &Value| value.as_str().unwrap().to_owned();
    let one = digest(&images[0]["digest"]);
    let digests = [&index, &single, &deleted].map(|published| digest(&published["imageDigest"]));
    let [index, single, deleted] = digests;
    (stack, [index, one, single, deleted])
}

#[tokio::test]
async fn each_name_leads_to_an_image_or_a_failure() {
    let (stack, [index, one, single, deleted]) = stack().await;
    let upper = format!("sha256:{}", single["sha256:".len()..].to_uppercase());
    let not_found = ("ImageNotFound", "Requested image not found");
    let mismatch = (
        "ImageTagDoesNotMatchDigest",
        "Invalid request parameters: given tag does not map to the given digest",
    );
    let invalid_digest = (
        "InvalidImageDigest",
        "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
    );
    let invalid_tag = (
        "InvalidImageTag",
        "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'",
    );
    let missing =
        ("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null");
    let long = format!("sha256:{}", "0".repeat(3000));
    let found = [
        (
            "a tag",
            json!({"imageTag": "1"}),
            json!({"imageTag": "1", "imageDigest": single}),
            MANIFEST,
        ),
        (
            "another tag of it",
            json!({"imageTag": "2"}),
            json!({"imageTag": "2", "imageDigest": single}),
            MANIFEST,
        ),
        ("a digest", json!({"imageDigest": single}), json!({"imageDigest": single}), MANIFEST),
        (
            "a digest in upper case",
            json!({"imageDigest": upper}),
            json!({"imageDigest": single}),
            MANIFEST,
        ),
        (
            "a tag and its digest",
            json!({"imageTag": "1", "imageDigest": single}),
            json!({"imageTag": "1", "imageDigest": single}),
            MANIFEST,
        ),
        (
            "an index",
            json!({"imageTag": "multi"}),
            json!({"imageTag": "multi", "imageDigest": index}),
            INDEX,
        ),
        (
            "an image of an index",
            json!({"imageDigest": one}),
            json!({"imageDigest": one}),
            MANIFEST,
        ),
    ];
    let failing = [
        ("a tag that there is not", json!({"imageTag": "none"}), not_found),
        ("a digest that there is not", json!({"imageDigest": sha256(b"none")}), not_found),
        ("a digest longer than any key of the table", json!({"imageDigest": long}), not_found),
        ("the digest of a layer", json!({"imageDigest": sha256(b"single")}), not_found),
        ("a deleted image's tag", json!({"imageTag": "3"}), not_found),
        ("a deleted image's digest", json!({"imageDigest": deleted}), not_found),
        ("a tag of another digest", json!({"imageTag": "1", "imageDigest": index}), mismatch),
        (
            "a tag of a digest that there is not",
            json!({"imageTag": "1", "imageDigest": deleted}),
            mismatch,
        ),
        ("a digest without the tag", json!({"imageTag": "none", "imageDigest": single}), not_found),
        ("neither", json!({}), missing),
        ("a digest that is none", json!({"imageDigest": "latest"}), invalid_digest),
        (
            "an empty digest, with a tag",
            json!({"imageTag": "1", "imageDigest": ""}),
            invalid_digest,
        ),
        ("a tag that is none", json!({"imageTag": "a/b"}), invalid_tag),
        ("an empty tag", json!({"imageTag": ""}), invalid_tag),
    ];
    for (description, asked, id, media_type) in &found {
        for shape in SHAPES {
            let members = json!({"repositoryName": "app", "imageIds": [asked], "acceptedMediaTypes": ["text/plain"]});
            let answer = stack.call(shape, "BatchGetImage", &members, ACCOUNT).await;
            answer.assert_well_formed();
            assert_eq!(answer.body["failures"], json!([]), "{description} ({shape:?})");
            let image = &answer.body["images"][0];
            assert_eq!(image["imageId"], *id, "{description} ({shape:?})");
            assert_eq!(
                image["imageManifestMediaType"], *media_type,
                "{description}: whatever is accepted"
            );
            assert_eq!(
                sha256(image["imageManifest"].as_str().unwrap().as_bytes()),
                image["imageId"]["imageDigest"]
            );
        }
    }
    for (description, asked, (code, reason)) in &failing {
        let answer =
            stack.ok("BatchGetImage", json!({"repositoryName": "app", "imageIds": [asked]})).await;
        let failure = json!({"imageId": asked, "failureCode": code, "failureReason": reason});
        assert_eq!(answer, json!({"images": [], "failures": [failure]}), "{description}");
    }

    // All at once, and the same image many times.
    let mut all: Vec<_> = found.iter().map(|(_, asked, ..)| asked.clone()).collect();
    all.extend(failing.iter().map(|(_, asked, _)| asked.clone()));
    all.resize(100, json!({"imageTag": "1"}));
    let answer = stack.ok("BatchGetImage", json!({"repositoryName": "app", "imageIds": all})).await;
    let ids: Vec<_> =
        answer["images"].as_array().unwrap().iter().map(|image| &image["imageId"]).collect();
    assert_eq!(ids.len(), 100 - failing.len());
    assert_eq!(
        ids[..found.len()],
        found.iter().map(|(_, _, id, _)| id).collect::<Vec<_>>(),
        "in their order"
    );
    assert_eq!(answer["failures"].as_array().unwrap().len(), failing.len());
}

#[tokio::test]
async fn an_image_that_is_not_published_is_not_found() {
    let stack = Stack::start().await;
    stack.json(&["repository", "create", "app"]).await;
    let layout = Layout::of_layers(&[b"layer"]);
    // After the image's record is written.
    let (dynamodb, arrived, _let_go) = waiting_at(7, &stack).await;
    let path = layout.path();
    let mut publish = stack.command(&["publish", &path, "app:1"]);
    let publishing = publish.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).spawn().unwrap();
    arrived.notified().await;
    let listed = stack.json(&["image", "list", "app"]).await;
    let image = &listed["images"][0];
    assert!(image["imagePushedAt"].is_null(), "unfinished: {listed}");

    let id = json!({"imageDigest": image["imageDigest"]});
    let answer =
        stack.ok("BatchGetImage", json!({"repositoryName": "app", "imageIds": [id]})).await;
    assert_eq!(answer["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(
        stack.ok("ListImages", json!({"repositoryName": "app"})).await,
        json!({"imageIds": []})
    );
    assert_eq!(
        stack.ok("DescribeImages", json!({"repositoryName": "app"})).await,
        json!({"imageDetails": []})
    );
    drop(publishing);
}

#[tokio::test]
async fn more_than_a_response_can_hold_is_refused_as_a_whole() {
    let stack = Stack::start().await;
    let with_note = |note: &str| {
        let note = format!(
            r#"{{"schemaVersion":2,"config":CONFIG,"layers":[],"annotations":{{"note":"{note}"}}}}"#
        );
        layout(&note).0
    };
    stack.publish(&with_note(&"a".repeat(3_100_000)), "app:a").await;
    stack.publish(&with_note(&"b".repeat(3_100_000)), "app:b").await;
    // Each of these pairs is eight bytes in the function's answer.
    stack.publish(&with_note(&r#"\""#.repeat(800_000)), "app:quotes").await;
    let too_much =
        "The answer would be larger than the 6000000 bytes of a response; ask for less at a time";
    let cases = [
        ("one large manifest", vec!["a"], None),
        ("two, each of which fits", vec!["a", "b"], Some(too_much)),
        ("a small one that grows when it is escaped", vec!["quotes"], Some(too_much)),
    ];
    for (description, tags, refusal) in cases {
        let ids: Vec<_> = tags.iter().map(|tag| json!({"imageTag": tag})).collect();
        for shape in SHAPES {
            let members = json!({"repositoryName": "app", "imageIds": ids});
            let answer = stack.call(shape, "BatchGetImage", &members, ACCOUNT).await;
            answer.assert_well_formed();
            match refusal {
                None => {
                    assert_eq!(
                        answer.body["images"].as_array().unwrap().len(),
                        tags.len(),
                        "{description}"
                    )
                }
                Some(sentence) => {
                    let got = (answer.error(), answer.message());
                    assert_eq!(got, ("LimitExceededException", sentence), "{description}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_what_was_published_is_a_fault() {
    let (stack, [_, _, single, _]) = stack().await;
    let hex = &single["sha256:".len()..];
    let object =
        stack.folder.path().join("s3/layergate/manifests").join(ACCOUNT).join("sha256").join(hex);
    let target = TARGET.replace("GetDownloadUrlForLayer", "BatchGetImage");
    let body = json!({"repositoryName": "app", "imageIds": [{"imageTag": "1"}]}).to_string();
    let ask = || async {
        // A function instance that has not read the manifest yet.
        let handler = stack.handler_with(|_| {});
        call(&handler, SHAPES[0], Some(&target), body.as_bytes(), Some(ACCOUNT)).await
    };
    assert_eq!(ask().await.status, 200);
    fs::write(&object, b"something else").unwrap();
    assert_eq!(ask().await.error(), "ServerException", "of another length");
    fs::remove_file(&object).unwrap();
    assert_eq!(ask().await.error(), "ServerException", "missing");
}

#[tokio::test]
async fn a_store_that_fails_is_a_fault_and_not_a_missing_image() {
    let (stack, _) = stack().await;
    let s3 = FaultProxy::to(&stack.local.engines.s3_url).await;
    let target = TARGET.replace("GetDownloadUrlForLayer", "BatchGetImage");
    let body = json!({"repositoryName": "app", "imageIds": [{"imageTag": "1"}]}).to_string();
    let cases = [
        (Fault::None, "OK"),
        (Fault::Throttle, "ThrottlingException"),
        (Fault::Reset, "ServerException"),
        (Fault::Truncated, "ServerException"),
        (Fault::Nonsense, "ServerException"),
        (Fault::InternalError, "ServerException"),
    ];
    for (fault, outcome) in cases {
        s3.set(fault);
        // A function instance that has not read the manifest yet.
        let handler = stack.handler_with_patience(Patience::CLIENT, |config| {
            config.s3_endpoint = Some(s3.url.clone())
        });
        let answer =
            call(&handler, Shape::Rest, Some(&target), body.as_bytes(), Some(ACCOUNT)).await;
        answer.assert_well_formed();
        let got = if answer.status == 200 { "OK" } else { answer.error() };
        assert_eq!(got, outcome, "{fault:?}");
    }
}

#[tokio::test]
async fn layers_are_available_that_can_be_downloaded() {
    let (stack, [index, ..]) = stack().await;
    let upper = format!("sha256:{}", sha256(b"single")["sha256:".len()..].to_uppercase());
    let available = |digest: &str, size: usize| {
        json!({
            "layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size,
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
        })
    };
    let unavailable =
        |digest: &str| json!({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"});
    let failure = |digest: &str, code: &str, reason: &str| {
        let reason = format!("Invalid request parameters: layer digest {reason}");
        json!({"layerDigest": digest, "failureCode": code, "failureReason": reason})
    };
    let (single, deleted, unknown) = (sha256(b"single"), sha256(b"deleted"), sha256(b"unknown"));
    let regex = "should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
    let cases = [
        ("a layer of an image", single.as_str(), available(&single, 6), Value::Null),
        ("its digest in upper case", &upper, available(&upper, 6), Value::Null),
        ("a layer whose image is deleted", &deleted, unavailable(&deleted), Value::Null),
        ("a layer that there is not", &unknown, unavailable(&unknown), Value::Null),
        ("a manifest", &index, unavailable(&index), Value::Null),
        ("nothing", "", Value::Null, failure("", "MissingLayerDigest", "cannot be empty")),
        ("no digest", "latest", Value::Null, failure("latest", "InvalidLayerDigest", regex)),
    ];
    for (description, digest, layer, failure) in &cases {
        for shape in SHAPES {
            let members = json!({"repositoryName": "app", "layerDigests": [digest]});
            let answer = stack.call(shape, "BatchCheckLayerAvailability", &members, ACCOUNT).await;
            answer.assert_well_formed();
            let list = |entry: &Value| if entry.is_null() { json!([]) } else { json!([entry]) };
            let expected = json!({"layers": list(layer), "failures": list(failure)});
            assert_eq!(answer.body, expected, "{description} ({shape:?})");
        }
    }
    let digests: Vec<_> = cases.iter().map(|(_, digest, ..)| digest).collect();
    let answer = stack.ok(
        "BatchCheckLayerAvailability",
        json!({"repositoryName": "app", "layerDigests": digests}),
    );
    let answer = answer.await;
    assert_eq!(answer["layers"].as_array().unwrap().len(), 5);
    assert_eq!(answer["failures"].as_array().unwrap().len(), 2);
}
