//! Pushing and deleting manifests: an image is visible only whole.

use serde_json::{Value, json};

use support::{Layout, Registry, Stack, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[tokio::test]
async fn what_was_pushed_is_pulled_byte_for_byte_by_both_apis() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"amd64"]), layout.add_image(&[b"arm64", b"amd64"])];
    layout.set_index(&[layout.add_index(&images)]);
    let pushed = registry.push(&layout, "team/app", "1.0").await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let digest = layout.root()["digest"].as_str().unwrap().to_owned();
    assert_eq!(pushed.header("docker-content-digest"), digest);
    assert_eq!(pushed.header("location"), format!("/v2/team/app/manifests/{digest}"));

    for (digest, bytes) in layout.contents() {
        let is_manifest = bytes.starts_with(b"{") && !bytes.starts_with(br#"{"architecture"#);
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let got = registry.get(&format!("/v2/team/app/{kind}/{digest}")).await;
        assert_eq!((got.status, &got.body), (200, &bytes), "{digest}");
    }
    for reference in ["1.0", digest.as_str()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let got = registry.send("GET", &path, &[], "").await;
        let head = registry.send("HEAD", &path, &[], "").await;
        for answer in [&got, &head] {
            assert_eq!(answer.status, 200, "a manifest is answered, not redirected: {answer:?}");
            assert_eq!(answer.header("content-type"), INDEX);
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
        assert_eq!(head.header("content-length"), got.body.len().to_string());
        assert!(head.body.is_empty());
    }
    let answer = stack.ask("team/app", &sha256(b"amd64")).await;
    assert_eq!(answer.status, 200, "ECR's API: {answer:?}");
}

/// Pushes the blobs of an image of two layers; gives the config's and the layers' descriptors.
async fn parts(registry: &Registry) -> (Value, [Value; 2]) {
    let layout = Layout::empty();
    let blobs = [&b"{}"[..], b"one", b"two"].map(|bytes| (bytes, layout.add_blob("a/b", bytes)));
    for (bytes, _) in &blobs {
        registry.push_blob("app", bytes).await;
    }
    let [config, one, two] = blobs.map(|(_, descriptor)| descriptor);
    (config, [one, two])
}

#[tokio::test]
async fn an_image_without_all_its_parts_is_refused_and_stays_invisible() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let (config, [one, two]) = parts(&registry).await;
    let absent = json!({"mediaType": "a/b", "digest": sha256(b"absent"), "size": 6});
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": sha256(b"foreign"), "size": 7, "urls": ["https://example.com/layer"],
    });
    let with = |name: &str, value: Value| {
        let mut changed = one.clone();
        changed[name] = value;
        changed
    };
    let image = |layers: &[&Value]| json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let index = |digest: &str| {
        let image = json!({"mediaType": MANIFEST, "digest": digest, "size": 3});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]})
    };
    let mut both = image(&[&one]);
    both["manifests"] = json!([]);
    let cases = [
        ("all layers", MANIFEST, image(&[&one, &two]), 201, ""),
        ("a layer twice", MANIFEST, image(&[&one, &one]), 201, ""),
        ("no layers", MANIFEST, image(&[]), 201, ""),
        ("a foreign layer that is elsewhere", MANIFEST, image(&[&one, &foreign]), 201, ""),
        ("a layer that is missing", MANIFEST, image(&[&one, &absent]), 404, {
            "MANIFEST_BLOB_UNKNOWN"
        }),
        ("a layer of another size", MANIFEST, image(&[&with("size", 4.into())]), 400, {
            "SIZE_INVALID"
        }),
        ("a digest that is none", MANIFEST, image(&[&with("digest", "sha256:1".into())]), 400, {
            "MANIFEST_INVALID"
        }),
        ("an index of an image that is missing", INDEX, index(&sha256(b"absent")), 404, {
            "MANIFEST_BLOB_UNKNOWN"
        }),
        ("an index without images", INDEX, json!({"schemaVersion": 2, "manifests": []}), 201, ""),
        ("another media type than its own", INDEX, image(&[&one]), 400, "MANIFEST_INVALID"),
        ("neither an image nor an index", "text/plain", image(&[&one]), 400, "MANIFEST_INVALID"),
        ("no JSON", MANIFEST, json!("manifest"), 400, "MANIFEST_INVALID"),
    ];
    for (description, media_type, manifest, status, code) in cases {
        let bytes = manifest.to_string();
        let pushed = registry.push_manifest("app", "tag", media_type, bytes.as_bytes()).await;
        assert_eq!(pushed.outcome(), (status, code.to_owned()), "{description}: {pushed:?}");
        assert_eq!(pushed.sentence().is_empty(), status == 201, "{description}");
        let path = format!("/v2/app/manifests/{}", sha256(bytes.as_bytes()));
        let got = registry.send("GET", &path, &[], "").await;
        assert_eq!(got.status == 200, status == 201, "{description}: {got:?}");
    }
}

#[tokio::test]
async fn a_manifest_has_the_digest_that_it_is_pushed_by_and_a_bounded_size() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let (config, [one, _]) = parts(&registry).await;
    let manifest = |padding: usize| {
        let annotations = json!({"padding": "x".repeat(padding)});
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [one],
            "annotations": annotations,
        })
        .to_string()
    };
    let large = manifest(4 * 1024 * 1024 - 1000);
    let cases = [
        ("its digest", sha256(manifest(1).as_bytes()), manifest(1), 201, ""),
        ("another digest", sha256(b"other"), manifest(1), 400, "DIGEST_INVALID"),
        ("a digest that is none", "sha256:1".to_owned(), manifest(1), 400, "DIGEST_INVALID"),
        ("a tag that is none", "-tag".to_owned(), manifest(1), 400, "MANIFEST_INVALID"),
        ("4 MiB", "large".to_owned(), large.clone(), 201, ""),
        ("more", "larger".to_owned(), manifest(4 * 1024 * 1024), 413, "MANIFEST_INVALID"),
    ];
    for (description, reference, manifest, status, code) in cases {
        let pushed = registry.push_manifest("app", &reference, MANIFEST, manifest.as_bytes()).await;
        assert_eq!(pushed.outcome(), (status, code.to_owned()), "{description}: {pushed:?}");
    }
    let got = registry.get("/v2/app/manifests/large").await;
    assert!(got.body == large.as_bytes(), "too large for an answer of Lambda, so redirected to");

    let digest = sha256(manifest(1).as_bytes());
    let by_tags = format!("{digest}?tag=1&tag=1.2");
    let pushed = registry.push_manifest("app", &by_tags, MANIFEST, manifest(1).as_bytes()).await;
    let tags = pushed.headers.get_all("oci-tag").iter();
    let tags: Vec<_> = tags.map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!((pushed.status, tags), (201, vec!["1", "1.2"]));
    let listed = registry.get("/v2/app/tags/list").await;
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(listed["tags"], json!(["1", "1.2", "large"]));
}

#[tokio::test]
async fn a_tag_that_is_pushed_again_moves() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let (old, new) = (Layout::of_layers(&[b"old"]), Layout::of_layers(&[b"new"]));
    for layout in [&old, &new, &new] {
        assert_eq!(registry.push(layout, "app", "latest").await.status, 201);
        let got = registry.send("HEAD", "/v2/app/manifests/latest", &[], "").await;
        assert_eq!(got.header("docker-content-digest"), layout.root()["digest"]);
    }
    let old = format!("/v2/app/manifests/{}", old.root()["digest"].as_str().unwrap());
    assert_eq!(registry.send("HEAD", &old, &[], "").await.status, 200, "the image stays");
}

#[tokio::test]
async fn images_and_tags_are_deleted() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"one"]), layout.add_image(&[b"two"])];
    layout.set_index(&[layout.add_index(&images)]);
    for tag in ["1", "2"] {
        assert_eq!(registry.push(&layout, "app", tag).await.status, 201);
    }
    let part = images[0]["digest"].as_str().unwrap();
    let bytes = std::fs::read(layout.blob(part)).unwrap();
    assert_eq!(registry.push_manifest("app", "part", MANIFEST, &bytes).await.status, 201);
    let index = layout.root()["digest"].as_str().unwrap().to_owned();
    let cases = [
        ("an image of an index", part, 409, "DENIED"),
        ("one of two tags", "1", 202, ""),
        ("the same tag", "1", 404, "MANIFEST_UNKNOWN"),
        ("the only tag of an image of an index", "part", 202, ""),
        ("the last tag of the index", "2", 202, ""),
        ("the index", index.as_str(), 202, ""),
        ("the same index", index.as_str(), 404, "MANIFEST_UNKNOWN"),
        ("an image that went with it", part, 404, "MANIFEST_UNKNOWN"),
        ("a digest that nothing has", "sha256:1", 404, "MANIFEST_UNKNOWN"),
    ];
    for (description, reference, status, code) in cases {
        let path = format!("/v2/app/manifests/{reference}");
        let deleted = registry.send("DELETE", &path, &[], "").await;
        assert_eq!(deleted.outcome(), (status, code.to_owned()), "{description}: {deleted:?}");
        if status == 202 {
            let gone = registry.send("HEAD", &path, &[], "").await;
            assert_eq!(gone.status, 404, "{description}");
        }
    }
    let nowhere = registry.send("DELETE", "/v2/nowhere/manifests/1", &[], "").await;
    assert_eq!(nowhere.outcome(), (404, "NAME_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_push_beside_a_clean_is_whole_or_is_told_so() {
    let stack = Stack::start().await;
    let registry = stack.registry();
    let layout = Layout::of_layers(&[b"layer"]);
    let digest = sha256(b"layer");
    registry.push_blob("app", b"layer").await;
    // What no image names yet is old enough for this clean, and goes.
    stack.json(&["clean", "--older-than", "0s"]).await;
    let root = layout.root();
    let bytes = std::fs::read(layout.blob(root["digest"].as_str().unwrap())).unwrap();
    let config = serde_json::from_slice::<Value>(&bytes).unwrap()["config"]["digest"].clone();
    registry.push_blob("app", &std::fs::read(layout.blob(config.as_str().unwrap())).unwrap()).await;
    let refused = registry.push_manifest("app", "1", MANIFEST, &bytes).await;
    assert_eq!(refused.outcome(), (404, "MANIFEST_BLOB_UNKNOWN".to_owned()), "{refused:?}");
    assert!(refused.sentence().contains(&digest), "{}", refused.sentence());
    // The client pushes again, and is not told that the layer is there.
    assert_eq!(registry.push(&layout, "app", "1").await.status, 201);
    stack.json(&["clean", "--older-than", "0s"]).await;
    let got = registry.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(got.body, b"layer");
}
