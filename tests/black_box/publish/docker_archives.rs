//! The older form of `docker save`, and what stands beside an OCI index in the newer one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::sources::{LAYER, refused};
use support::{Layout, Stack, sha256};

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

    let packed = b"packed";
    let compressed = [
        ("gzip", gzip(packed)),
        ("gzip", [gzip(b"pac"), gzip(b"ked")].concat()),
        ("zstd", zstd::encode_all(&packed[..], 3).unwrap()),
    ];
    for (compression, stored) in compressed {
        Saved { diff_ids: vec![sha256(packed)], ..Saved::of_layers(&[&stored]) }.write(&archive);
        let published = stack.json(&publish).await;
        assert_eq!(stack.ask("app", &sha256(&stored)).await.status, 200);
        let media_type = format!("application/vnd.oci.image.layer.v1.tar+{compression}");
        assert_eq!(published["layers"][1]["mediaType"], media_type);
    }
}

#[tokio::test]
async fn an_image_of_a_docker_archive_is_chosen_by_its_names_or_its_id() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = |layer: &[u8]| {
        json!({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": [sha256(layer)]}})
            .to_string()
    };
    let mut saved = Vec::new();
    let names = [
        json!(["app:1", "other:1"]),
        json!(["docker.io/me/app:latest", "app:twice"]),
        Value::Null,
        json!(["app:twice"]),
    ];
    for (number, names) in names.into_iter().enumerate() {
        let layer = format!("layer {number}");
        fs::write(folder.path().join(format!("{number}.tar")), &layer).unwrap();
        fs::write(folder.path().join(format!("{number}.json")), config(layer.as_bytes())).unwrap();
        saved.push(json!({"Config": format!("{number}.json"), "RepoTags": names, "Layers": [format!("{number}.tar")]}));
    }
    let id = |layer: &str| sha256(config(layer.as_bytes()).as_bytes());
    fs::write(folder.path().join("manifest.json"), json!(saved).to_string()).unwrap();
    let path = folder.path().to_str().unwrap();
    let choices = [
        ("app:1", 0),
        ("docker.io/library/app:1", 0),
        ("other:1", 0),
        ("me/app:latest", 1),
        ("me/app", 1),
        (&id("layer 1"), 1),
        (&id("layer 2"), 2),
        (&id("layer 3"), 3),
    ];
    for (choice, number) in choices {
        let publish = ["publish", "--create-repository", path, "app:1", "--image", choice];
        let published = stack.json(&publish).await;
        let digest = sha256(format!("layer {number}").as_bytes());
        assert_eq!(published["layers"][1]["layerDigest"], digest, "{choice}");
    }
    let all = ["app:1", "me/app:latest", &id("layer 2"), &id("layer 3")];
    refused(&stack, folder.path(), &[], &[&["more than one image"], &all[..]].concat()).await;
    let twice = [&["'app:twice' is the name of more than one image"], &all[..]].concat();
    refused(&stack, folder.path(), &["--image", "app:twice"], &twice).await;
    let options = ["--image", "app:1", "--platform", "linux/amd64"];
    refused(&stack, folder.path(), &options, &["no image for linux/amd64", "for linux/arm64"])
        .await;
    let publish = ["publish", path, "app:1", "--image", "app:1", "--platform", "linux/arm64"];
    stack.json(&publish).await;
    for empty in ["[]", "null"] {
        fs::write(folder.path().join("manifest.json"), empty).unwrap();
        refused(&stack, folder.path(), &[], &["holds 0 images, by its manifest.json"]).await;
    }
}

/// The newer form has two descriptions: an OCI index, and `manifest.json`.
#[tokio::test]
async fn two_descriptions_that_disagree_are_refused() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let file = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
    let manifest = |image: &Value| -> Value {
        let blob = fs::read(layout.blob(image["digest"].as_str().unwrap())).unwrap();
        serde_json::from_slice(&blob).unwrap()
    };
    let saved = |image: &Value, name: &str| {
        let manifest = manifest(image);
        let layers: Vec<_> = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| file(&layer["digest"]))
            .collect();
        json!({"Config": file(&manifest["config"]["digest"]), "RepoTags": [name], "Layers": layers})
    };
    let image = layout.add_image(&[LAYER, b"second", LAYER]);
    let other = layout.add_image(&[b"other"]);
    let mut named = image.clone();
    named["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1",
    });
    let with = |member: &str, value: Value| {
        let mut saved = saved(&image, "app:1");
        saved[member] = value;
        json!([saved])
    };
    let (first, second) = (file(&json!(sha256(LAYER))), file(&json!(sha256(b"second"))));
    let indexes = |named: &Value| [named.clone(), layout.add_index(std::slice::from_ref(&image))];
    let disagree = "the descriptions disagree";
    let bad = [
        ("no layer", with("Layers", json!([])), vec![named.clone()], "other layers"),
        ("layers that are null", with("Layers", Value::Null), vec![named.clone()], "other layers"),
        ("a layer less", with("Layers", json!([first])), vec![named.clone()], "other layers"),
        (
            "another order",
            with("Layers", json!([second, first])),
            vec![named.clone()],
            "other layers",
        ),
        (
            "of an index",
            with("Layers", json!([first])),
            vec![indexes(&named)[1].clone()],
            "other layers",
        ),
        (
            "another image of the name",
            json!([saved(&other, "app:1")]),
            vec![named.clone()],
            "'app:1' is one image",
        ),
        (
            "no image in index.json",
            with("RepoTags", Value::Null),
            vec![],
            "index.json names no image, and manifest.json names 1",
        ),
    ];
    let write = |manifest_json: &Value, index: &[Value]| {
        layout.set_index(index);
        let path = Path::new(&layout.path()).join("manifest.json");
        fs::write(path, manifest_json.to_string()).unwrap();
    };
    for (description, manifest_json, index, words) in bad {
        eprintln!("{description}");
        write(&manifest_json, &index);
        refused(&stack, Path::new(&layout.path()), &[], &[disagree, words]).await;
    }
    let good = [
        ("the same", json!([saved(&image, "app:1")])),
        ("each layer as often", with("Layers", json!([first, second, first]))),
        ("another image, too", json!([saved(&other, "other:1"), saved(&image, "app:1")])),
        ("a link to a layer", with("Layers", json!([first, "link", first]))),
        ("another tool's file", json!({"name": "a web page"})),
    ];
    std::os::unix::fs::symlink(&second, Path::new(&layout.path()).join("link")).unwrap();
    for (description, manifest_json) in good {
        for root in indexes(&named) {
            eprintln!("{description}");
            write(&manifest_json, std::slice::from_ref(&root));
            assert_eq!(stack.publish(&layout, "app:1").await["imageDigest"], root["digest"]);
        }
    }
}

#[tokio::test]
async fn broken_docker_archives_are_refused() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("saved.tar");
    let good = || Saved::of_layers(&[LAYER]);
    let cases: [(&str, Saved, &[&str]); 8] = [
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
            "a zstd layer that does not unpack",
            Saved { layers: vec![b"\x28\xb5\x2f\xfd\x04".to_vec()], ..good() },
            &["corrupt"],
        ),
        (
            "a layer in xz",
            Saved { layers: vec![b"\xfd7zXZ\0\0\x04".to_vec()], ..good() },
            &["layer.tar", "compressed with xz", "gzip or zstd"],
        ),
        (
            "a layer in bzip2",
            Saved { layers: vec![b"BZh91AY&SY".to_vec()], ..good() },
            &["layer.tar", "compressed with bzip2", "gzip or zstd"],
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
