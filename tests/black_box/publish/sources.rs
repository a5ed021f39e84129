//! What can be published, and what is refused with a sentence. Nothing refused is ever visible.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use support::{Layout, Stack, assert_refused, sample, sha256, stderr};

const LAYER: &[u8] = b"a layer's bytes";

/// Publishes what must be refused; afterwards nothing of it may be there.
async fn refused(stack: &Stack, source: &Path, options: &[&str], words: &[&str]) {
    let arguments =
        [&["publish", "--create-repository", source.to_str().unwrap(), "app:1"], options].concat();
    assert_refused(&stack.layergate(&arguments).await, 3, words);
    assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 400, "{words:?}");
}

#[tokio::test]
async fn broken_layouts_are_refused() {
    type Break = fn(&Layout);
    let cases: [(&str, Break, &[&str]); 14] = [
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
            "an index without one of its images",
            |layout| {
                let child = layout.add_image(&[b"other"]);
                fs::remove_file(layout.blob(child["digest"].as_str().unwrap())).unwrap();
                layout.set_index(&[layout.add_index(&[layout.add_image(&[LAYER]), child])]);
            },
            &["lacks the manifest", "--image"],
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
    let cases: [(&str, PathBuf, &[&str]); 8] = [
        ("nothing there", folder.path().join("absent"), &["cannot read", "No such file"]),
        ("an empty directory", empty, &["holds no image", "oci-layout"]),
        (
            "a text file",
            file("text", b"hello, this is no archive at all\n"),
            &["not an intact tar archive"],
        ),
        ("an empty file", file("nil", b""), &["holds no image"]),
        (
            "a gzipped archive",
            file("gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
            &["compressed", "gunzip"],
        ),
        ("a zstd archive", file("zst", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]), &["compressed", "unzstd"]),
        ("an xz archive", file("xz", b"\xfd7zXZ\0"), &["compressed", "unxz"]),
        ("a device", PathBuf::from("/dev/null"), &["holds no image"]),
    ];
    for (description, path, words) in cases {
        eprintln!("{description}");
        refused(&stack, &path, &[], words).await;
    }
}

/// Writes an archive of a good layout, with one more entry.
fn archive_with(folder: &TempDir, name: &str, kind: EntryType, link: Option<&str>) -> PathBuf {
    let layout = Layout::of_layers(&[LAYER]);
    let path = folder.path().join("image.tar");
    let mut archive = Builder::new(File::create(&path).unwrap());
    let mut header = Header::new_gnu();
    // Not set_path: it refuses what these tests are about.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    if let Some(link) = link {
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    archive.append(&header, std::io::empty()).unwrap();
    archive.append_dir_all(".", layout.path()).unwrap();
    archive.finish().unwrap();
    path
}

#[tokio::test]
async fn archives_that_point_outside_of_themselves_are_refused() {
    let cases = [
        ("a parent folder", "../evil", EntryType::Regular, None),
        ("a parent folder further down", "blobs/../../evil", EntryType::Regular, None),
        ("an absolute path", "/etc/evil", EntryType::Regular, None),
        ("a symbolic link out", "blobs/link", EntryType::Symlink, Some("../../etc/passwd")),
        ("an absolute symbolic link", "link", EntryType::Symlink, Some("/etc/passwd")),
        ("a hard link out", "link", EntryType::Link, Some("../passwd")),
    ];
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (description, name, kind, link) in cases {
        eprintln!("{description}");
        let archive = archive_with(&folder, name, kind, link);
        refused(&stack, &archive, &[], &["points outside"]).await;
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
async fn an_archive_with_endless_headers_is_refused() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 30);
    header.set_cksum();
    let mut file = File::create(&archive).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(2 << 30).unwrap();
    refused(&stack, &archive, &[], &["header of 1073741824 bytes"]).await;
}

#[tokio::test]
async fn archives_with_other_oddities_are_read() {
    let cases = [
        ("an empty folder", "blobs/x/", EntryType::Directory, None),
        ("a link within", "blobs/link", EntryType::Symlink, Some("../index.json")),
        ("a link to nowhere", "blobs/link", EntryType::Symlink, Some("nowhere")),
        ("a link to itself", "loop", EntryType::Symlink, Some("loop")),
        ("a pipe", "pipe", EntryType::Fifo, None),
    ];
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (description, name, kind, link) in cases {
        let archive = archive_with(&folder, name, kind, link);
        let output = stack
            .layergate(&["publish", "--create-repository", archive.to_str().unwrap(), "app:1"])
            .await;
        assert!(output.status.success(), "{description}: {}", stderr(&output));
    }
    assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 200);
}

#[tokio::test]
async fn a_truncated_archive_is_refused_wherever_it_ends() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.tar");
    Layout::of_layers(&[LAYER]).archive(&whole);
    let bytes = fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.tar");
    // What follows the last file's bytes is padding: without it the image is still all there.
    let mut archive = tar::Archive::new(&bytes[..]);
    let end_of = |entry: tar::Entry<'_, _>| entry.raw_file_position() + entry.size();
    let end = archive.entries().unwrap().map(|entry| end_of(entry.unwrap())).max().unwrap();
    for length in (0..usize::try_from(end).unwrap()).step_by(500) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let output = stack
            .layergate(&["publish", "--create-repository", cut.to_str().unwrap(), "app:1"])
            .await;
        assert_refused(&output, 3, &["cut.tar"]);
        assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 400);
    }
    let output = stack
        .layergate(&["publish", "--create-repository", whole.to_str().unwrap(), "app:1"])
        .await;
    assert!(output.status.success());
}

#[tokio::test]
async fn a_source_of_many_images_needs_a_choice() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let named = |mut image: Value, name: &str| {
        image["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        image
    };
    let (one, two) = (layout.add_image(&[b"one"]), layout.add_image(&[b"two"]));
    layout.set_index(&[named(one.clone(), "v1"), named(two.clone(), "v2")]);
    let path = layout.path();
    refused(&stack, Path::new(&path), &[], &["more than one image", "v1", "v2", "--image"]).await;
    refused(&stack, Path::new(&path), &["--image", "v3"], &["no image 'v3'", "v1", "v2"]).await;

    let chosen =
        stack.json(&["publish", "--create-repository", &path, "app:1", "--image", "v2"]).await;
    assert_eq!(chosen["imageDigest"], two["digest"]);
    let digest = one["digest"].as_str().unwrap();
    let chosen = stack.json(&["publish", &path, "app:1", "--image", digest]).await;
    assert_eq!(chosen["imageDigest"], one["digest"]);

    layout.set_index(&[named(one.clone(), "v1"), named(one, "latest")]);
    stack.json(&["publish", &path, "app:1"]).await; // two names of one image leave nothing to choose
}

#[tokio::test]
async fn one_platform_of_an_index_can_be_chosen() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let (amd, arm) = (layout.add_image(&[b"amd"]), layout.add_image(&[b"arm"]));
    layout.set_index(&[layout.add_index(&[amd.clone(), arm])]);
    let digest = amd["digest"].as_str().unwrap();
    let arguments = ["publish", "--create-repository", &layout.path(), "app:1", "--image", digest];
    assert_eq!(stack.json(&arguments).await["imageDigest"], amd["digest"]);
    assert_eq!(stack.ask("app", &sha256(b"arm")).await.error(), "LayersNotFoundException");
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

/// The older form of `docker save`.
struct Saved {
    layers: Vec<Vec<u8>>,
    diff_ids: Vec<String>,
    config_name: Option<String>,
    tags: Vec<&'static str>,
    /// Write the second layer as docker does when it equals the first.
    link_second: bool,
}

impl Saved {
    fn of_layers(layers: &[&[u8]]) -> Self {
        Self {
            layers: layers.iter().map(|layer| layer.to_vec()).collect(),
            diff_ids: layers.iter().map(|layer| sha256(layer)).collect(),
            config_name: None,
            tags: vec!["app:latest"],
            link_second: false,
        }
    }

    fn write(&self, path: &Path) {
        let mut archive = Builder::new(File::create(path).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        let config = json!({"rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).to_string();
        let name = format!("{}.json", &sha256(config.as_bytes())["sha256:".len()..]);
        let name = self.config_name.clone().unwrap_or(name);
        if !name.contains("..") {
            add(&name, config.as_bytes());
        }
        let mut files = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let file = format!("{number:064}/layer.tar");
            if number != 1 || !self.link_second {
                add(&file, layer);
            }
            files.push(file);
        }
        let manifest = json!([{"Config": name, "RepoTags": self.tags, "Layers": files}]);
        add("manifest.json", manifest.to_string().as_bytes());
        if self.link_second {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, &files[1], format!("../{:064}/layer.tar", 0)).unwrap();
        }
        archive.finish().unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn older_docker_archives_are_published() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("saved.tar");
    let publish = ["publish", "--create-repository", archive.to_str().unwrap(), "app:1"];

    Saved::of_layers(&[LAYER, b"second"]).write(&archive);
    let first = stack.json(&publish).await;
    for layer in [LAYER, b"second"] {
        assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200);
    }
    assert_eq!(
        stack.json(&publish).await["imageDigest"],
        first["imageDigest"],
        "the same every time"
    );

    Saved::of_layers(&[]).write(&archive);
    assert_eq!(
        stack.json(&publish).await["layers"].as_array().unwrap().len(),
        1,
        "a config and no layer"
    );

    Saved { link_second: true, ..Saved::of_layers(&[b"linked", b"linked"]) }.write(&archive);
    stack.json(&publish).await;
    assert_eq!(stack.ask("app", &sha256(b"linked")).await.status, 200, "equal layers are links");

    let gzipped = gzip(b"packed");
    let saved = Saved { diff_ids: vec![sha256(b"packed")], ..Saved::of_layers(&[&gzipped]) };
    saved.write(&archive);
    let published = stack.json(&publish).await;
    assert_eq!(stack.ask("app", &sha256(&gzipped)).await.status, 200);
    assert_eq!(published["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[tokio::test]
async fn broken_docker_archives_are_refused() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("saved.tar");
    let good = || Saved::of_layers(&[LAYER]);
    let cases: [(&str, Saved, &[&str]); 5] = [
        (
            "a layer that is not the config's",
            Saved { diff_ids: vec![sha256(b"other")], ..good() },
            &["layer.tar", "corrupt"],
        ),
        (
            "a config of another name",
            Saved { config_name: Some(format!("{}.json", "0".repeat(64))), ..good() },
            &[".json", "corrupt"],
        ),
        (
            "fewer layers than the config has",
            Saved { layers: vec![], ..good() },
            &["has 0 layers", "names 1"],
        ),
        (
            "a gzipped layer that does not unpack",
            Saved { layers: vec![gzip(LAYER)[..12].to_vec()], ..good() },
            &["corrupt"],
        ),
        (
            "a config that points outside",
            Saved { config_name: Some("../../etc/passwd".into()), ..good() },
            &["points outside"],
        ),
    ];
    for (description, saved, words) in cases {
        eprintln!("{description}");
        saved.write(&archive);
        refused(&stack, &archive, &[], words).await;
    }
    good().write(&archive);
    refused(&stack, &archive, &["--image", "other:1"], &["no image 'other:1'", "app:latest"]).await;
}
