//! What can be published, and what is refused with a sentence. Nothing refused is ever visible.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::Builder;

use support::{Layout, Stack, assert_refused, sample, sha256};

pub const LAYER: &[u8] = b"a layer's bytes";

/// Publishes what must be refused; afterwards nothing of [`LAYER`] may be there.
pub async fn refused(stack: &Stack, source: &Path, options: &[&str], words: &[&str]) {
    let arguments =
        [&["publish", "--create-repository", source.to_str().unwrap(), "app:1"], options].concat();
    assert_refused(&stack.layergate(&arguments).await, 3, words);
    assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 400, "{words:?}");
}

#[tokio::test]
async fn broken_layouts_are_refused() {
    type Break = fn(&Layout);
    let cases: [(&str, Break, &[&str]); 16] = [
        (
            "a corrupt layer",
            |layout| fs::write(layout.blob(&sha256(LAYER)), b"a layer's bytez").unwrap(),
            &["corrupt"],
        ),
        (
            "a layer too short",
            |layout| fs::write(layout.blob(&sha256(LAYER)), b"a layer").unwrap(),
            &["has 7 bytes", "says 15"],
        ),
        (
            "a layer too long",
            |layout| fs::write(layout.blob(&sha256(LAYER)), b"a layer's bytes and more").unwrap(),
            &["has 24 bytes"],
        ),
        (
            "a layer of two sizes",
            |layout| {
                let image = layout.add_image(&[LAYER]);
                let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
                let wrong = json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(LAYER), "size": 16,
                });
                let other = layout.add_manifest(&config, &[wrong]);
                layout.set_index(&[layout.add_index(&[image, other])]);
            },
            &["has 15 bytes", "says 16"],
        ),
        (
            "a missing layer",
            |layout| fs::remove_file(layout.blob(&sha256(LAYER))).unwrap(),
            &["lacks the blob"],
        ),
        ("no image", |layout| layout.set_index(&[]), &["index.json is empty"]),
        (
            "an index that is no JSON",
            |layout| fs::write(Path::new(&layout.path()).join("index.json"), "{").unwrap(),
            &["index.json"],
        ),
        (
            "a digest that is a path",
            |layout| {
                layout.set_index(&[json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../etc/passwd", "size": 1})]);
            },
            &["index.json"],
        ),
        (
            "a digest of an algorithm nobody checks",
            |layout| {
                layout.set_index(&[json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "md5:d41d8cd98f00b204e9800998ecf8427e", "size": 0})]);
                let file = layout.blob("md5:d41d8cd98f00b204e9800998ecf8427e");
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            },
            &["md5:", "sha256 or sha512"],
        ),
        (
            "a manifest of an unknown type",
            |layout| {
                let mut image = layout.add_image(&[LAYER]);
                image["mediaType"] = "application/vnd.docker.distribution.manifest.v1+json".into();
                layout.set_index(&[image]);
            },
            &["media type", "manifest.v1+json"],
        ),
        (
            "a manifest that calls itself something else",
            |layout| {
                let mut image = layout.add_image(&[LAYER]);
                image["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
                layout.set_index(&[image]);
            },
            &["says that it is"],
        ),
        (
            "a manifest of the wrong size",
            |layout| {
                let mut image = layout.add_image(&[LAYER]);
                image["size"] = 1.into();
                layout.set_index(&[image]);
            },
            &["manifest", "corrupt"],
        ),
        (
            "a manifest that is an index, too",
            |layout| {
                let image = layout.add_image(&[LAYER]);
                let blob = fs::read(layout.blob(image["digest"].as_str().unwrap())).unwrap();
                let mut manifest: Value = serde_json::from_slice(&blob).unwrap();
                manifest["manifests"] = json!([image]);
                let media_type = manifest["mediaType"].as_str().unwrap();
                layout.set_index(&[layout.add_blob(media_type, manifest.to_string().as_bytes())]);
            },
            &["has the member 'manifests'"],
        ),
        (
            "a config of other layers than the manifest's",
            |layout| {
                let image = layout.add_image(&[LAYER]);
                let blob = fs::read(layout.blob(image["digest"].as_str().unwrap())).unwrap();
                let mut manifest: Value = serde_json::from_slice(&blob).unwrap();
                manifest["layers"] = json!([]);
                let media_type = manifest["mediaType"].as_str().unwrap();
                layout.set_index(&[layout.add_blob(media_type, manifest.to_string().as_bytes())]);
            },
            &["descriptions disagree", "has 0 layers, and its config 1"],
        ),
        (
            "an index without one of its images",
            |layout| {
                let child = layout.add_image(&[b"other"]);
                fs::remove_file(layout.blob(child["digest"].as_str().unwrap())).unwrap();
                layout.set_index(&[layout.add_index(&[layout.add_image(&[LAYER]), child])]);
            },
            &["has only some images of the index", "lacks sha256:", "--image sha256:"],
        ),
        (
            "indexes in indexes without end",
            |layout| {
                let mut index = layout.add_index(&[layout.add_image(&[LAYER])]);
                for _ in 0..5 {
                    index = layout.add_index(&[index]);
                }
                layout.set_index(&[index]);
            },
            &["nested"],
        ),
    ];
    let stack = Stack::start().await;
    for (description, break_it, words) in cases {
        eprintln!("{description}");
        let layout = Layout::of_layers(&[LAYER]);
        break_it(&layout);
        refused(&stack, Path::new(&layout.path()), &[], words).await;
    }
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let cases: [(&str, PathBuf, &[&str]); 9] = [
        ("nothing there", folder.path().join("absent"), &["cannot read", "No such file"]),
        ("an empty directory", empty, &["holds no image", "oci-layout"]),
        (
            "a text file",
            file("text", b"hello, this is no archive at all\n"),
            &["not an intact tar archive"],
        ),
        ("an empty file", file("nil", b""), &["holds no image"]),
        (
            "a broken gzip file",
            file("gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
            &["not an intact gzip file"],
        ),
        (
            "a broken zstd file",
            file("zst", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]),
            &["not an intact zstd file"],
        ),
        ("an xz archive", file("xz", b"\xfd7zXZ\0"), &["compressed with xz", "'xz -d'"]),
        ("a bzip2 archive", file("bz", b"BZh91AY&SY"), &["compressed with bzip2", "'bzip2 -d'"]),
        ("a device", PathBuf::from("/dev/null"), &["holds no image"]),
    ];
    for (description, path, words) in cases {
        eprintln!("{description}");
        refused(&stack, &path, &[], words).await;
    }
}

#[tokio::test]
async fn directories_that_point_outside_of_themselves_are_refused() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [sha256(LAYER)]}}).to_string();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let cases = [
        ("an absolute layer", "config.json", "/dev/zero", "points outside"),
        ("a config further up", "../config.json", "layer.tar", "points outside"),
        ("a layer that is a folder", "config.json", "folder", "has no file 'folder'"),
    ];
    fs::create_dir(folder.path().join("folder")).unwrap();
    for (description, config, layer, words) in cases {
        eprintln!("{description}");
        let manifest = json!([{"Config": config, "RepoTags": null, "Layers": [layer]}]);
        fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
        refused(&stack, folder.path(), &[], &[words]).await;
    }
}

#[tokio::test]
async fn layers_of_any_type_are_published() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let config = layout.add_blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = layout.add_blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"a chart");
    let foreign = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": sha256(b"not redistributed"), "size": 17, "urls": ["https://example.com/layer"],
    });
    layout.set_index(&[layout.add_manifest(&config, &[chart, foreign])]);
    stack.publish(&layout, "charts/app:1").await;
    assert_eq!(stack.ask("charts/app", &sha256(b"a chart")).await.status, 200);
    let absent = stack.ask("charts/app", &sha256(b"not redistributed")).await;
    assert_eq!(absent.error(), "LayersNotFoundException", "it may be elsewhere; it is not here");

    // Whoever has its bytes publishes it; deleting the image takes it away, even if it was
    // published without since.
    layout.add_blob("", b"not redistributed");
    stack.publish(&layout, "charts/app:1").await;
    assert_eq!(stack.ask("charts/app", &sha256(b"not redistributed")).await.status, 200);
    fs::remove_file(layout.blob(&sha256(b"not redistributed"))).unwrap();
    stack.publish(&layout, "charts/app:1").await;
    stack.json(&["image", "delete", "charts/app:1"]).await;
    let deleted = stack.ask("charts/app", &sha256(b"not redistributed")).await;
    assert_eq!(deleted.error(), "LayerInaccessibleException");
}

#[tokio::test]
async fn a_layout_and_its_archive_are_the_same_image() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let mut builder = Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all("", sample()).unwrap();
    builder.finish().unwrap();
    let from_folder =
        stack.json(&["publish", "--create-repository", sample().to_str().unwrap(), "app:1"]).await;
    let from_archive = stack.json(&["publish", archive.to_str().unwrap(), "app:1"]).await;
    assert_eq!(from_folder["imageDigest"], from_archive["imageDigest"]);
}

#[tokio::test]
async fn what_may_be_left_out_is_not_missed() {
    let stack = Stack::start().await;
    let cases = [
        ("no layers", json!({"layers": []}), json!({})),
        ("layers that are null", json!({"layers": null}), json!({})),
        ("annotations that are null", json!({"annotations": null}), json!({"annotations": null})),
        ("an annotation that is null", json!({}), json!({"annotations": {"a": null}})),
        ("a platform without members", json!({}), json!({"platform": {}})),
        ("a platform that is null", json!({}), json!({"platform": null})),
        ("a platform of nulls", json!({}), json!({"platform": {"os": null, "architecture": null}})),
    ];
    for (description, of_manifest, of_descriptor) in cases {
        let layout = Layout::empty();
        let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = json!({"schemaVersion": 2, "config": config});
        manifest.as_object_mut().unwrap().extend(of_manifest.as_object().unwrap().clone());
        let mut image = layout.add_blob(media_type, manifest.to_string().as_bytes());
        image.as_object_mut().unwrap().extend(of_descriptor.as_object().unwrap().clone());
        layout.set_index(std::slice::from_ref(&image));
        assert_eq!(
            stack.publish(&layout, "app:1").await["imageDigest"],
            image["digest"],
            "{description}"
        );
        let index = layout.add_index(&[image]);
        layout.set_index(std::slice::from_ref(&index));
        assert_eq!(
            stack.publish(&layout, "app:2").await["imageDigest"],
            index["digest"],
            "{description}"
        );
    }
    let layout = Layout::empty();
    for manifests in [json!({}), json!({"manifests": null})] {
        let path = Path::new(&layout.path()).join("index.json");
        let mut index = json!({"schemaVersion": 2});
        index.as_object_mut().unwrap().extend(manifests.as_object().unwrap().clone());
        fs::write(path, index.to_string()).unwrap();
        refused(&stack, Path::new(&layout.path()), &[], &["index.json is empty"]).await;
    }
}
