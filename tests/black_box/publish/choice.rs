//! Which image of a source is published: by its name, its digest or its platform.

use std::fs;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::sources::{LAYER, refused};
use support::{Layout, Recorder, Stack, assert_refused, sha256, stderr};

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

fn named(mut image: Value, annotations: Value) -> Value {
    image["annotations"] = annotations;
    image
}

/// An image as docker and containerd name it: the tag alone is where others write the name.
fn docker_named(image: &Value, name: &str) -> Value {
    let (_, tag) = name.rsplit_once(':').unwrap();
    named(
        image.clone(),
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}),
    )
}

#[tokio::test]
async fn a_name_need_not_be_unique() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let images = [b"one", b"two", b"six"].map(|layer| layout.add_image(&[layer]));
    let digest = |number: usize| images[number]["digest"].as_str().unwrap();
    layout.set_index(&[
        docker_named(&images[0], "docker.io/library/app:latest"),
        docker_named(&images[1], "docker.io/me/other:latest"),
        docker_named(&images[1], "registry.example.com/other:1"),
        named(
            images[2].clone(),
            json!({"org.opencontainers.image.ref.name": "localhost/app:latest"}),
        ),
        images[2].clone(),
    ]);
    let path = layout.path();
    let choices = [
        ("app:latest", 0),
        ("app", 0),
        ("docker.io/library/app:latest", 0),
        ("me/other:latest", 1),
        ("me/other", 1),
        ("registry.example.com/other:1", 1),
        ("1", 1),
        ("localhost/app:latest", 2),
        (digest(2), 2),
    ];
    for (choice, number) in choices {
        let publish = ["publish", "--create-repository", &path, "app:1", "--image", choice];
        assert_eq!(stack.json(&publish).await["imageDigest"], digest(number), "{choice}");
    }
    let all = ["app:latest", "me/other:latest", "localhost/app:latest"];
    let path = Path::new(&path);
    refused(&stack, path, &[], &[&["more than one image"], &all[..]].concat()).await;
    let several = [&["'latest' is the name of more than one image"], &all[..]].concat();
    refused(&stack, path, &["--image", "latest"], &several).await;
    layout.set_index(&images);
    refused(&stack, path, &[], &[digest(0), digest(1)]).await;
}

#[tokio::test]
async fn an_image_is_chosen_by_its_platform() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let on = |layer: &[u8], platform: Value| {
        let mut image = layout.add_image(&[layer]);
        image["platform"] = platform;
        image
    };
    let platform = |os: &str, cpu: &str| json!({"os": os, "architecture": cpu});
    let variant = |variant: &str| json!({"os": "linux", "architecture": "arm", "variant": variant});
    let images = [
        layout.add_image(&[b"by its config"]),
        on(b"arm64", json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
        on(b"arm/v6", variant("v6")),
        on(b"arm/v7", variant("v7")),
        on(b"s390x", platform("linux", "s390x")),
        on(b"windows 1", platform("windows", "amd64")),
        on(b"windows 2", platform("windows", "amd64")),
        on(b"attestation", platform("unknown", "unknown")),
    ];
    let index = layout.add_index(&[layout.add_index(&images[..4]), layout.add_index(&images[4..])]);
    layout.set_index(&[index]);
    let path = layout.path();
    let registry = Recorder::registry(&layout, |_| None).await;
    let choices = [
        ("linux/amd64", 0),
        ("linux/amd64/v1", 0),
        ("linux/x86_64", 0),
        ("linux/arm64", 1),
        ("linux/aarch64", 1),
        ("linux/arm64/v8", 1),
        ("linux/arm", 3),
        ("linux/arm/v6", 2),
        ("Linux/ARM/v7", 3),
        ("linux/s390x", 4),
    ];
    for source in [path.clone(), registry.docker()] {
        for (choice, number) in choices {
            let publish =
                ["publish", "--create-repository", &source, "app:1", "--platform", choice];
            let published = stack.json(&publish).await;
            assert_eq!(published["imageDigest"], images[number]["digest"], "{source} {choice}");
        }
    }
    let digest = images[5]["digest"].as_str().unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("windows/amd64", &["more than one image for windows/amd64", "--image", digest]),
        ("linux/arm/v5", &["no image for linux/arm/v5", "linux/arm/v6", "linux/s390x"]),
        ("linux/amd64/v3", &["no image for linux/amd64/v3"]),
        ("darwin/arm64", &["no image for darwin/arm64"]),
    ];
    for (choice, words) in cases {
        refused(&stack, Path::new(&path), &["--platform", choice], words).await;
    }
    for wrong in ["linux", "", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"] {
        let output = stack.layergate(&["publish", &path, "app:1", "--platform", wrong]).await;
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", stderr(&output));
        assert!(stderr(&output).contains("such as linux/arm64"), "{}", stderr(&output));
    }
    // An image that is alone is compared, too.
    layout.set_index(&images[1..2]);
    stack.json(&["publish", &path, "app:1", "--platform", "linux/arm64"]).await;
    refused(
        &stack,
        Path::new(&path),
        &["--platform", "linux/amd64"],
        &["no image for linux/amd64"],
    )
    .await;
}

/// `ctr images export` and `docker save --platform` write an index of which only some images are
/// there.
#[tokio::test]
async fn an_index_with_some_of_its_images_is_told_and_one_can_be_published() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let on = |layer: &[u8], os: &str, cpu: &str| {
        let mut image = layout.add_image(&[layer]);
        image["platform"] = json!({"os": os, "architecture": cpu});
        image
    };
    let (here, absent) = (on(b"here", "linux", "amd64"), on(b"absent", "linux", "arm64"));
    let (hollow, attestation) =
        (on(b"hollow", "linux", "s390x"), on(b"about", "unknown", "unknown"));
    layout.set_index(&[docker_named(
        &layout.add_index(&[attestation, here.clone(), absent.clone(), hollow]),
        "docker.io/library/app:1",
    )]);
    fs::remove_file(layout.blob(absent["digest"].as_str().unwrap())).unwrap();
    fs::remove_file(layout.blob(&sha256(b"hollow"))).unwrap();
    let path = layout.path();
    let digest = here["digest"].as_str().unwrap();
    let has = "it has unknown/unknown, linux/amd64, and lacks linux/arm64, linux/s390x;";
    let words = ["has only some images", has, "with --platform linux/amd64"];
    refused(&stack, Path::new(&path), &[], &words).await;
    for options in [["--platform", "linux/amd64"], ["--image", digest]] {
        let publish = [&["publish", "--create-repository", &path, "app:1"], &options[..]].concat();
        assert_eq!(stack.json(&publish).await["imageDigest"], here["digest"]);
    }
    refused(
        &stack,
        Path::new(&path),
        &["--platform", "linux/arm64"],
        &["lacks the manifest sha256:", "(linux/arm64)"],
    )
    .await;
    refused(&stack, Path::new(&path), &["--platform", "linux/s390x"], &["lacks the blob"]).await;
    fs::remove_file(layout.blob(digest)).unwrap();
    fs::remove_file(layout.blob(&sha256(b"about"))).unwrap();
    refused(&stack, Path::new(&path), &[], &["none of its images", "linux/amd64", "get it whole"])
        .await;
}

#[tokio::test]
async fn sources_are_named_as_skopeo_names_them() {
    let stack = Stack::start().await;
    let (layout, folder) = (Layout::empty(), tempfile::tempdir().unwrap());
    let images = [b"one", b"two"].map(|layer| layout.add_image(&[layer]));
    layout.set_index(&[
        named(images[0].clone(), json!({"org.opencontainers.image.ref.name": "v1"})),
        docker_named(&images[1], "docker.io/library/app:2"),
    ]);
    let archive = folder.path().join("image.tar");
    layout.archive(&archive);
    let (directory, archive) = (layout.path(), archive.to_str().unwrap().to_owned());
    let good = [
        (format!("oci:{directory}:v1"), 0),
        (format!("oci:{directory}:docker.io/library/app:2"), 1),
        (format!("oci-archive:{archive}:v1"), 0),
        (format!("docker-archive:{archive}:app:2"), 1),
    ];
    for (source, number) in good {
        let publish = ["publish", "--create-repository", &source, "app:1"];
        assert_eq!(stack.json(&publish).await["imageDigest"], images[number]["digest"], "{source}");
    }
    layout.set_index(&images[..1]);
    layout.archive(Path::new(&archive));
    for source in [format!("oci:{directory}"), format!("oci-archive:{archive}")] {
        let publish = ["publish", &source, "app:1"];
        assert_eq!(stack.json(&publish).await["imageDigest"], images[0]["digest"], "{source}");
    }
    let bad: [(String, &str); 9] = [
        (format!("oci:{directory}:"), "oci:PATH:IMAGE"),
        ("oci:".to_owned(), "oci:PATH"),
        (format!("docker-archive:{archive}:@0"), "--image DIGEST"),
        (format!("dir:{directory}"), "skopeo copy dir:"),
        ("containers-storage:app:1".to_owned(), "skopeo copy containers-storage:app:1"),
        ("docker-daemon:".to_owned(), "docker-daemon:NAME:TAG"),
        ("docker-daemon:app".to_owned(), "docker-daemon:NAME:TAG"),
        ("docker-daemon:../../version?x:1".to_owned(), "docker-daemon:NAME:TAG"),
        ("docker-daemon:../app:1".to_owned(), "docker-daemon:NAME:TAG"),
    ];
    for (source, words) in bad {
        let output = stack.layergate(&["publish", &source, "app:1"]).await;
        assert_eq!(output.status.code(), Some(2), "{source}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{source}: {}", stderr(&output));
    }
    let twice = ["publish", &format!("oci:{directory}:v1"), "app:1", "--image", "v1"];
    assert_refused(&stack.layergate(&twice).await, 2, &["leave out --image"]);
}

#[tokio::test]
async fn an_image_of_the_docker_engine_is_published() {
    let (layout, folder) = (Layout::of_layers(&[LAYER]), tempfile::tempdir().unwrap());
    let archive = folder.path().join("image.tar");
    layout.archive(&archive);
    let bytes = Bytes::from(fs::read(&archive).unwrap());
    let engine = Router::new().fallback(move |request: Request| {
        let bytes = bytes.clone();
        async move {
            match request.uri().path() {
                "/images/team/app:1/get" | "/images/sha256:0123/get" => (StatusCode::OK, bytes),
                "/images/cut:1/get" => (StatusCode::OK, bytes.slice(..1000)),
                "/images/broken:1/get" => {
                    (StatusCode::INTERNAL_SERVER_ERROR, r#"{"message": "the disk is full"}"#.into())
                }
                _ => (StatusCode::NOT_FOUND, r#"{"message": "no such image"}"#.into()),
            }
        }
    });
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, engine).await });
    let host = format!("unix://{}", socket.display());
    let stack = Stack::start().await;
    let publish = async |image: &str, host: &str| {
        let source = format!("docker-daemon:{image}");
        let mut publish = stack.command(&["publish", "--create-repository", &source, "app:1"]);
        publish.env("DOCKER_HOST", host).output().await.unwrap()
    };
    let cases: [(&str, &str, i32, &[&str]); 6] = [
        ("absent:1", &host, 3, &["has no image 'absent:1'", "docker images"]),
        ("broken:1", &host, 1, &["answered 500", "the disk is full"]),
        ("cut:1", &host, 3, &["docker-daemon:cut:1"]),
        (
            "app:1",
            "unix:///nowhere/docker.sock",
            1,
            &["/nowhere/docker.sock", "check that it runs"],
        ),
        ("app:1", "tcp://127.0.0.1:1", 3, &["DOCKER_HOST", "docker save"]),
        ("app:1", "ssh://me:password@host", 3, &["DOCKER_HOST", "docker save"]),
    ];
    for (image, host, status, words) in cases {
        let output = publish(image, host).await;
        assert_refused(&output, status, words);
        assert!(!stderr(&output).contains("password"), "{}", stderr(&output));
        assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 400, "{image}");
    }
    for image in ["team/app:1", "sha256:0123"] {
        let output = publish(image, &host).await;
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 200);
}

#[tokio::test]
async fn of_a_tag_and_a_digest_the_digest_counts() {
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"tagged"]), layout.add_image(&[b"pinned"])];
    layout.set_index(&images);
    let registry = Recorder::registry(&layout, |_| None).await;
    let stack = Stack::start().await;
    let digest = images[1]["digest"].as_str().unwrap();
    for tag in ["", ":1", ":nobody-has-this"] {
        let source = format!("docker://{}/team/app{tag}@{digest}", registry.host());
        let published = stack.json(&["publish", "--create-repository", &source, "app:1"]).await;
        assert_eq!(published["imageDigest"], digest, "{source}");
    }
    for wrong in [format!("1@{digest}@{digest}"), "1@sha256:0".to_owned(), format!("@{digest}")] {
        let source = format!("docker://{}/team/app:{wrong}", registry.host());
        let output = stack.layergate(&["publish", &source, "app:1"]).await;
        assert_eq!(output.status.code(), Some(2), "{source}: {}", stderr(&output));
    }
}
