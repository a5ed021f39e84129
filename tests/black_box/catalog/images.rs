//! What the catalog makes of publishing and deleting, and what an answer costs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use serde_json::json;
use tokio::sync::Semaphore;

use layergate_local::ACCOUNT;
use support::{
    Layout, Shape, Stack, TARGET, all_rows, assert_refused, between_steps, call, count_requests,
    forward, pull, serve, sha256, stderr,
};

#[tokio::test]
async fn what_was_published_a_moment_ago_is_found_at_once() {
    let stack = Stack::start().await;
    let unknown = stack.ask("app", &sha256(b"layer")).await;
    assert_eq!(unknown.error(), "RepositoryNotFoundException");
    let published = stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    for layer in published["layers"].as_array().unwrap() {
        let digest = layer["layerDigest"].as_str().unwrap();
        assert_eq!(stack.ask("app", digest).await.status, 200, "the config blob is a layer too");
    }
    let manifest = published["imageDigest"].as_str().unwrap();
    assert_eq!(
        stack.ask("app", manifest).await.error(),
        "LayersNotFoundException",
        "a manifest is not"
    );
}

#[tokio::test]
async fn a_layer_lives_as_long_as_an_image_references_it() {
    let stack = Stack::start().await;
    let [shared, own] = [b"shared", b"owned!"];
    stack.publish(&Layout::of_layers(&[shared, own]), "app:1").await;
    stack.publish(&Layout::of_layers(&[shared]), "app:2").await;
    let ask = async |layer| {
        let answer = stack.ask("app", &sha256(layer)).await;
        if answer.status == 200 { "OK".to_owned() } else { answer.error().to_owned() }
    };
    assert_eq!((ask(shared).await, ask(own).await), ("OK".into(), "OK".into()));

    stack.json(&["image", "delete", "app:1"]).await;
    assert_eq!(ask(shared).await, "OK");
    assert_eq!(ask(own).await, "LayerInaccessibleException");

    stack.json(&["image", "delete", "app:2"]).await;
    assert_eq!(ask(shared).await, "LayerInaccessibleException");

    stack.publish(&Layout::of_layers(&[shared]), "app:3").await;
    assert_eq!(ask(shared).await, "OK", "published again");
}

#[tokio::test]
async fn a_layer_is_in_the_repository_it_was_published_into_and_in_no_other() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "create", "app/sub"]).await;
    let digest = sha256(b"layer");
    assert_eq!(stack.ask("app/sub", &digest).await.error(), "LayersNotFoundException");

    let body =
        json!({"registryId": "111111111111", "repositoryName": "app", "layerDigest": digest})
            .to_string();
    let caller = Some("111111111111");
    let answer = call(&stack.handler, Shape::Rest, Some(TARGET), body.as_bytes(), caller).await;
    assert_eq!(answer.error(), "RepositoryNotFoundException", "the same name in another registry");
}

#[tokio::test]
async fn an_image_goes_with_its_last_tag() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    stack.publish(&layout, "app:1").await;
    stack.publish(&layout, "app:latest").await;
    let deleted = stack.json(&["image", "delete", "app:latest"]).await;
    assert_eq!(deleted["imageDigests"], json!([]));
    assert_eq!(stack.ask("app", &sha256(b"layer")).await.status, 200);
    let deleted = stack.json(&["image", "delete", "app:1"]).await;
    assert_eq!(deleted["imageDigests"].as_array().unwrap().len(), 1);
    assert_eq!(stack.ask("app", &sha256(b"layer")).await.error(), "LayerInaccessibleException");
    assert_refused(&stack.layergate(&["image", "delete", "app:1"]).await, 4, &["'1'", "app"]);
}

#[tokio::test]
async fn a_moved_tag_leaves_the_older_image_without_one() {
    let stack = Stack::start().await;
    let first = stack.publish(&Layout::of_layers(&[b"first"]), "app:latest").await;
    let second = stack.publish(&Layout::of_layers(&[b"second"]), "app:latest").await;
    let listed = stack.json(&["image", "list", "app"]).await;
    let tags_of = |digest: &serde_json::Value| {
        let images = listed["images"].as_array().unwrap();
        images.iter().find(|image| image["imageDigest"] == *digest).unwrap()["imageTags"].clone()
    };
    assert_eq!(tags_of(&first["imageDigest"]), json!([]));
    assert_eq!(tags_of(&second["imageDigest"]), json!(["latest"]));

    let old = format!("app@{}", first["imageDigest"].as_str().unwrap());
    stack.json(&["image", "delete", &old]).await;
    assert_eq!(stack.ask("app", &sha256(b"first")).await.error(), "LayerInaccessibleException");
    assert_eq!(stack.ask("app", &sha256(b"second")).await.status, 200);
}

#[tokio::test]
async fn the_images_of_an_index_come_and_go_with_it() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let (amd, arm) = (layout.add_image(&[b"amd64"]), layout.add_image(&[b"arm64"]));
    layout.set_index(&[layout.add_index(&[amd.clone(), arm.clone()])]);
    let published = stack.publish(&layout, "app:1").await;
    assert_eq!(published["images"], json!([amd["digest"], arm["digest"]]));
    for layer in [b"amd64", b"arm64"] {
        assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200);
    }

    let child = format!("app@{}", amd["digest"].as_str().unwrap());
    let output = stack.layergate(&["image", "delete", &child]).await;
    assert_refused(
        &output,
        5,
        &["belongs to the index", published["imageDigest"].as_str().unwrap()],
    );

    layout.set_index(&[arm]);
    stack.publish(&layout, "app:arm").await;
    let deleted = stack.json(&["image", "delete", "app:1"]).await;
    assert_eq!(deleted["imageDigests"], json!([published["imageDigest"], amd["digest"]]));
    assert_eq!(stack.ask("app", &sha256(b"amd64")).await.error(), "LayerInaccessibleException");
    assert_eq!(stack.ask("app", &sha256(b"arm64")).await.status, 200, "it has a tag of its own");
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_behind() {
    let stack = Stack::start().await;
    let digest = sha256(b"layer");
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"gone"]), "app:2").await;
    stack.json(&["image", "delete", "app:2"]).await;

    let output = stack.layergate(&["repository", "delete", "app"]).await;
    assert_refused(&output, 5, &["app", "has images", "--force"]);
    assert_eq!(stack.ask("app", &digest).await.status, 200, "refused means untouched");

    stack.json(&["repository", "delete", "--force", "app"]).await;
    assert_eq!(stack.ask("app", &digest).await.error(), "RepositoryNotFoundException");
    let listed = stack.json(&["repository", "list"]).await;
    assert_eq!(listed["repositories"], json!([]));

    stack.json(&["repository", "create", "app"]).await;
    for layer in [&b"layer"[..], b"gone"] {
        let answer = stack.ask("app", &sha256(layer)).await;
        assert_eq!(
            answer.error(),
            "LayersNotFoundException",
            "a repository of the same name is another one"
        );
    }
    assert_refused(&stack.layergate(&["repository", "delete", "absent"]).await, 4, &["absent"]);
    assert_refused(&stack.layergate(&["repository", "create", "app"]).await, 5, &["app", "exists"]);
}

/// Writes or deletes the table's record of its layout, without a bucket.
async fn set_layout(stack: &Stack, version: Option<u64>) {
    let engines = &stack.local.engines;
    let config = aws_sdk_dynamodb::config::Builder::from(&engines.sdk_config());
    let client =
        aws_sdk_dynamodb::Client::from_conf(config.endpoint_url(&engines.dynamodb_url).build());
    let (pk, sk) = (AttributeValue::S("table".to_owned()), AttributeValue::S("layout".to_owned()));
    let table = engines.config().table_name;
    match version {
        Some(version) => {
            let put = client.put_item().table_name(table).item("pk", pk).item("sk", sk);
            put.item("version", AttributeValue::N(version.to_string()))
                .send()
                .await
                .map(drop)
                .unwrap();
        }
        None => {
            let delete = client.delete_item().table_name(table).key("pk", pk).key("sk", sk);
            delete.send().await.map(drop).unwrap();
        }
    }
}

#[tokio::test]
async fn a_table_of_another_layout_is_told() {
    let stack = Stack::start().await;
    assert_eq!(
        stack.json(&["repository", "list"]).await["repositories"],
        json!([]),
        "a new table has none yet"
    );
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let cases: [(&str, Option<u64>, &[&str]); 2] = [
        ("a later layout", Some(5), &["layout 5", "knows layout 4", "TABLE_NAME"]),
        ("records and no layout, as before there were layouts", None, &["no layout", "TABLE_NAME"]),
    ];
    for (description, version, words) in cases {
        set_layout(&stack, version).await;
        let layout = Layout::of_layers(&[b"other"]);
        for arguments in [vec!["repository", "list"], vec!["publish", &layout.path(), "app:2"]] {
            assert_refused(&stack.layergate(&arguments).await, 1, words);
        }
        // The function looks when it would say that there is no such layer.
        let handler = stack.handler_with(|_| {});
        let body = json!({"repositoryName": "app", "layerDigest": sha256(b"unknown")}).to_string();
        let answer =
            call(&handler, Shape::Rest, Some(TARGET), body.as_bytes(), Some("000000000000")).await;
        assert_eq!(answer.error(), "ServerException", "{description}");
    }
    set_layout(&stack, Some(4)).await;
    assert_eq!(stack.ask("app", &sha256(b"unknown")).await.error(), "LayersNotFoundException");
}

#[tokio::test]
async fn another_bucket_than_the_tables_is_refused() {
    let stack = Stack::start().await;
    let (layout, other) = (Layout::of_layers(&[b"layer"]), Layout::of_layers(&[b"other"]));
    stack.publish(&layout, "app:1").await;
    let commands: [&[&str]; 6] = [
        &["publish", &other.path(), "app:2"],
        &["image", "delete", "app:1"],
        &["repository", "create", "another"],
        &["repository", "delete", "--force", "app"],
        &["clean", "--older-than", "0s"],
        &["clean", "--older-than", "0s", "--dry-run"],
    ];
    let words = ["belongs to the bucket 'layergate'", "BUCKET_NAME is 'elsewhere'"];
    let before = all_rows(&stack).await;
    for command in commands {
        let output = stack.command(command).env("BUCKET_NAME", "elsewhere").output().await;
        assert_refused(&output.unwrap(), 1, &words);
        assert_eq!(all_rows(&stack).await, before, "{command:?}");
    }
    let handler = stack.handler_with(|config| config.bucket_name = "elsewhere".to_owned());
    let asked = [
        ("BatchGetImage", json!({"repositoryName": "app", "imageIds": [{"imageTag": "1"}]})),
        ("DescribeRepositories", json!({"repositoryNames": ["app"]})),
        (
            "GetDownloadUrlForLayer",
            json!({"repositoryName": "app", "layerDigest": sha256(b"unknown")}),
        ),
    ];
    for (operation, body) in asked {
        let target = TARGET.replace("GetDownloadUrlForLayer", operation);
        let body = body.to_string();
        let answer =
            call(&handler, Shape::Rest, Some(&target), body.as_bytes(), Some(ACCOUNT)).await;
        assert_eq!(answer.error(), "ServerException", "{operation}: {answer:?}");
    }
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let answer = pull(&handler, "GET", "/v2/app/manifests/1", Some(&authorization)).await;
    assert_eq!(answer.status, 500, "{answer:?}");
}

#[tokio::test]
async fn a_table_of_an_earlier_build_gets_its_bucket_at_the_next_publish() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    set_layout(&stack, Some(4)).await;
    assert_eq!(stack.ask("app", &sha256(b"layer")).await.status, 200, "pulls go on");
    assert_eq!(stack.json(&["image", "list", "app"]).await["images"].as_array().unwrap().len(), 1);
    let clean = ["clean", "--older-than", "0s"];
    let words = ["does not say that it belongs to the bucket 'layergate'", "publish an image"];
    assert_refused(&stack.layergate(&clean).await, 1, &words);
    stack.publish(&Layout::of_layers(&[b"other"]), "app:2").await;
    stack.json(&clean).await;
    let output = stack.command(&clean).env("BUCKET_NAME", "elsewhere").output().await.unwrap();
    assert_refused(&output, 1, &["belongs to the bucket 'layergate'"]);
}

/// The one has read that the table says no layout, and the other then writes it and the first
/// repository.
#[tokio::test]
async fn a_new_table_may_be_begun_by_two_at_once() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let path = layout.path();
    let commands: [&[&str]; 2] =
        [&["repository", "list"], &["publish", "--create-repository", &path, "app:1"]];
    let begin_anew = async || {
        for name in ["app", "another"] {
            stack.layergate(&["repository", "delete", "--force", name]).await;
        }
        set_layout(&stack, None).await;
    };
    for command in commands {
        for step in 1.. {
            begin_anew().await;
            let create = ["repository", "create", "another"];
            let Some((first, second)) = between_steps(&stack, step, command, &create).await else {
                break;
            };
            for output in [first, second] {
                assert!(
                    output.status.success(),
                    "{command:?}, stopped at {step}: {}",
                    stderr(&output)
                );
            }
        }
    }
    // The function reads the repository and the layout at once. Here it reads the layout first, and
    // the repository only when the other has written both.
    begin_anew().await;
    let engine = stack.local.engines.dynamodb_url.clone();
    let (create, is_created) =
        (stack.command(&["repository", "create", "another"]), Arc::new(Semaphore::new(0)));
    let create = Arc::new(Mutex::new(Some(create)));
    let dynamodb = serve(move |request: Request| {
        let (engine, create, is_created) = (engine.clone(), create.clone(), is_created.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let reads_repository = String::from_utf8_lossy(&body).contains("repository#");
            if reads_repository {
                let _ = is_created.acquire().await.unwrap();
            }
            let request = Request::from_parts(head, Body::from(body));
            let answer = forward(&reqwest::Client::new(), &engine, request).await;
            let create = create.lock().unwrap().take();
            if let Some(mut create) = create {
                assert!(create.status().await.unwrap().success());
                is_created.add_permits(1);
            }
            answer
        }
    });
    let dynamodb = dynamodb.await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(dynamodb));
    let body = json!({"repositoryNames": ["another"]}).to_string();
    let target = TARGET.replace("GetDownloadUrlForLayer", "DescribeRepositories");
    let answer =
        call(&handler, Shape::Rest, Some(&target), body.as_bytes(), Some("000000000000")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_url_costs_one_request_to_dynamodb_and_none_to_s3() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "grant", "app", "111111111111"]).await;
    let (dynamodb, dynamodb_requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let (s3, s3_requests) = count_requests(&stack.local.engines.s3_url).await;
    let handler = stack.handler_with(|config| {
        config.dynamodb_endpoint = Some(dynamodb);
        config.s3_endpoint = Some(s3);
    });
    let (known, unknown) = (sha256(b"layer"), sha256(b"unknown"));
    let cases = [
        ("a layer", "000000000000", "app", &known, 1),
        ("a layer, for another account: its grant too", "111111111111", "app", &known, 2),
        (
            "nobody's layer: both confirmed, and once that the table is ours",
            "000000000000",
            "app",
            &unknown,
            4,
        ),
        ("nobody's layer, again", "000000000000", "app", &unknown, 3),
        ("nobody's repository: both confirmed", "000000000000", "absent", &known, 3),
        ("an outsider: the grant, and nothing else", "222222222222", "app", &known, 1),
        ("an outsider, where there is nothing", "222222222222", "absent", &unknown, 1),
        ("a bad name", "000000000000", "App", &known, 0),
    ];
    for (description, caller, repository, digest, requests) in cases {
        dynamodb_requests.store(0, Ordering::SeqCst);
        let body = json!({
            "registryId": "000000000000", "repositoryName": repository, "layerDigest": digest,
        });
        call(&handler, Shape::Rest, Some(TARGET), body.to_string().as_bytes(), Some(caller)).await;
        assert_eq!(dynamodb_requests.load(Ordering::SeqCst), requests, "{description}");
        assert_eq!(s3_requests.load(Ordering::SeqCst), 0, "{description}");
    }
}
