//! ListImages, DescribeImages and DescribeRepositories: what they tell, page by page.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Layout, SHAPES, Shape, Stack, TARGET, call, count_requests, sha256};

/// A stack with an index of two images, and single images with two tags, one tag and none.
async fn stack() -> Stack {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"one"]), layout.add_image(&[b"two"])];
    layout.set_index(&[layout.add_index(&images)]);
    stack.publish(&layout, "app:multi").await;
    stack.publish(&Layout::of_layers(&[b"a"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"a"]), "app:latest").await;
    stack.publish(&Layout::of_layers(&[b"b"]), "app:2").await;
    stack.publish(&Layout::of_layers(&[b"c"]), "app:moves").await;
    stack.publish(&Layout::of_layers(&[b"d"]), "app:moves").await;
    stack.publish(&Layout::of_layers(&[b"deleted"]), "app:gone").await;
    stack.json(&["image", "delete", "app:gone"]).await;
    stack
}

/// The tool's own list, which reads the same rows in one go: digest and tags of each image.
async fn all_images(stack: &Stack) -> Vec<(Value, Vec<Value>)> {
    let listed = stack.json(&["image", "list", "app"]).await;
    let images = listed["images"].as_array().unwrap();
    images
        .iter()
        .map(|image| (image["imageDigest"].clone(), image["imageTags"].as_array().unwrap().clone()))
        .collect()
}

/// All pages of a list: the entries of each.
async fn pages(
    stack: &Stack,
    operation: &str,
    entries: &str,
    mut members: Value,
) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    loop {
        let answer = stack.ok(operation, members.clone()).await;
        pages.push(answer[entries].as_array().unwrap().clone());
        assert!(pages.len() < 100, "the pages of {operation} {members} have no end");
        if answer["nextToken"].is_null() {
            return pages;
        }
        members["nextToken"] = answer["nextToken"].clone();
    }
}

#[tokio::test]
async fn images_are_listed_by_each_tag_or_by_their_digest_alone() {
    let stack = stack().await;
    let images = all_images(&stack).await;
    assert_eq!(images.len(), 7);
    let (mut tagged, mut untagged, mut any) = (Vec::new(), Vec::new(), Vec::new());
    for (digest, tags) in &images {
        let ids: Vec<_> = match &tags[..] {
            [] => vec![json!({"imageDigest": digest})],
            tags => {
                tags.iter().map(|tag| json!({"imageDigest": digest, "imageTag": tag})).collect()
            }
        };
        if tags.is_empty() { &mut untagged } else { &mut tagged }.extend(ids.clone());
        any.extend(ids);
    }
    assert_eq!((tagged.len(), untagged.len()), (5, 3), "{images:?}");
    let cases = [
        ("all", json!({}), &any),
        ("a filter of nothing", json!({"filter": {}}), &any),
        ("any", json!({"filter": {"tagStatus": "ANY", "imageStatus": "ANY"}}), &any),
        ("tagged", json!({"filter": {"tagStatus": "TAGGED"}}), &tagged),
        (
            "untagged",
            json!({"filter": {"tagStatus": "UNTAGGED", "imageStatus": "ACTIVE"}}),
            &untagged,
        ),
        (
            "archived, which no image is",
            json!({"filter": {"imageStatus": "ARCHIVED"}}),
            &Vec::new(),
        ),
    ];
    for (description, mut members, expected) in cases {
        members["repositoryName"] = "app".into();
        for shape in SHAPES {
            let answer = stack.call(shape, "ListImages", &members, ACCOUNT).await;
            answer.assert_well_formed();
            assert_eq!(answer.body, json!({"imageIds": expected}), "{description} ({shape:?})");
        }
        for most in 1..=any.len() + 1 {
            members["maxResults"] = most.into();
            let pages = pages(&stack, "ListImages", "imageIds", members.clone()).await;
            assert!(
                pages.iter().all(|page| page.len() <= most),
                "{description}, {most} a page: {pages:?}"
            );
            assert_eq!(pages.concat(), *expected, "{description}, {most} a page");
        }
    }
}

#[tokio::test]
async fn images_are_described() {
    let stack = stack().await;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
    let images = all_images(&stack).await;
    let described = stack.ok("DescribeImages", json!({"repositoryName": "app"})).await;
    let details = described["imageDetails"].as_array().unwrap();
    assert_eq!(details.len(), images.len());
    for (detail, (digest, tags)) in details.iter().zip(&images) {
        assert_eq!((&detail["imageDigest"], &detail["registryId"]), (digest, &json!(ACCOUNT)));
        let expected = if tags.is_empty() { Value::Null } else { json!(tags) };
        assert_eq!(detail["imageTags"], expected, "an image without tags has no such member");
        assert!(detail["imagePushedAt"].as_u64().unwrap() >= started, "{detail}");
        assert_eq!(
            (&detail["repositoryName"], &detail["imageStatus"]),
            (&json!("app"), &json!("ACTIVE"))
        );
        let is_index =
            detail["imageManifestMediaType"] == "application/vnd.oci.image.index.v1+json";
        assert_eq!(is_index, *tags == ["multi"], "{detail}");
        assert_eq!(detail["imageSizeInBytes"].is_null(), is_index, "an index has no layers");
        let config = (!is_index).then_some("application/vnd.oci.image.config.v1+json");
        assert_eq!(detail["artifactMediaType"], json!(config), "an index has no config");
    }
    // A layer of one byte, and the config.
    let blobs = stack.json(&["publish", &Layout::of_layers(&[b"a"]).path(), "app:1"]).await;
    let sizes = blobs["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["layerSize"].as_u64().unwrap());
    let by_tag = stack
        .ok("DescribeImages", json!({"repositoryName": "app", "imageIds": [{"imageTag": "1"}]}))
        .await;
    assert_eq!(by_tag["imageDetails"][0]["imageSizeInBytes"], json!(sizes.sum::<u64>()));

    for filter in ["TAGGED", "UNTAGGED", "ANY"] {
        for most in 1..=details.len() + 1 {
            let members = json!({"repositoryName": "app", "filter": {"tagStatus": filter}, "maxResults": most});
            let pages = pages(&stack, "DescribeImages", "imageDetails", members).await;
            assert!(
                pages.iter().all(|page| page.len() <= most),
                "{filter}, {most} a page: {pages:?}"
            );
            let is_wanted = |detail: &&Value| {
                filter == "ANY" || (filter == "TAGGED") == detail["imageTags"].is_array()
            };
            let expected: Vec<_> =
                details.iter().filter(is_wanted).map(|detail| &detail["imageDigest"]).collect();
            let pages = pages.concat();
            assert_eq!(
                pages.iter().map(|detail| &detail["imageDigest"]).collect::<Vec<_>>(),
                expected,
                "{filter}"
            );
        }
    }
}

#[tokio::test]
async fn images_are_described_by_their_names() {
    let stack = stack().await;
    let all = stack.ok("DescribeImages", json!({"repositoryName": "app"})).await;
    let detail = |tag: &str| {
        let has_tag = |detail: &&Value| {
            detail["imageTags"].as_array().is_some_and(|tags| tags.contains(&json!(tag)))
        };
        all["imageDetails"].as_array().unwrap().iter().find(has_tag).unwrap().clone()
    };
    let (one, two) = (detail("1"), detail("2"));
    let digest = &one["imageDigest"];
    let missing = sha256(b"missing");
    let found = [
        ("a tag", json!([{"imageTag": "1"}]), json!([one])),
        ("a digest", json!([{"imageDigest": digest}]), json!([one])),
        ("both", json!([{"imageDigest": digest, "imageTag": "latest"}]), json!([one])),
        (
            "two images, in their order",
            json!([{"imageTag": "2"}, {"imageTag": "1"}]),
            json!([two, one]),
        ),
        (
            "one image thrice",
            json!([{"imageTag": "1"}, {"imageTag": "latest"}, {"imageDigest": digest}]),
            json!([one]),
        ),
    ];
    for (description, ids, expected) in found {
        for shape in SHAPES {
            let members = json!({"repositoryName": "app", "imageIds": ids});
            let answer = stack.call(shape, "DescribeImages", &members, ACCOUNT).await;
            answer.assert_well_formed();
            assert_eq!(answer.body, json!({"imageDetails": expected}), "{description} ({shape:?})");
        }
    }
    let not_found = [
        ("no such tag", json!([{"imageTag": "none"}]), "null", "none"),
        ("no such digest", json!([{"imageDigest": missing}]), &missing, "null"),
        ("a deleted image", json!([{"imageTag": "gone"}]), "null", "gone"),
        (
            "a tag of another digest",
            json!([{"imageTag": "1", "imageDigest": missing}]),
            &missing,
            "1",
        ),
        ("the second of two", json!([{"imageTag": "1"}, {"imageTag": "none"}]), "null", "none"),
    ];
    for (description, ids, digest, tag) in not_found {
        for shape in SHAPES {
            let members = json!({"repositoryName": "app", "imageIds": ids});
            let answer = stack.call(shape, "DescribeImages", &members, ACCOUNT).await;
            answer.assert_well_formed();
            let message = format!(
                "The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the \
                 repository with name 'app' in the registry with id '{ACCOUNT}'"
            );
            let got = (answer.error(), answer.message());
            assert_eq!(
                got,
                ("ImageNotFoundException", message.as_str()),
                "{description} ({shape:?})"
            );
        }
    }
}

#[tokio::test]
async fn repositories_are_described() {
    let stack = Stack::start().await;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let empty = stack.ok("DescribeRepositories", json!({})).await;
    assert_eq!(empty, json!({"repositories": []}), "of a registry without any, in a new table");
    let names = ["app", "app-2", "app/a", "app/b", "team/x"];
    for name in ["team/x", "app/b", "app", "app-2", "app/a"] {
        stack.json(&["repository", "create", name]).await;
    }

    let all = stack.ok("DescribeRepositories", json!({})).await;
    let all = all["repositories"].as_array().unwrap();
    for (repository, name) in all.iter().zip(names) {
        assert!(repository["createdAt"].as_u64().unwrap() >= started, "{repository}");
        let expected = json!({
            "repositoryArn": format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}"),
            "registryId": ACCOUNT,
            "repositoryName": name,
            "createdAt": repository["createdAt"],
            "imageTagMutability": "MUTABLE",
            "imageScanningConfiguration": {"scanOnPush": false},
            "encryptionConfiguration": {"encryptionType": "AES256"},
        });
        assert_eq!(*repository, expected);
        for shape in SHAPES {
            let answer = stack
                .call(shape, "DescribeRepositories", &json!({"repositoryNames": [name]}), ACCOUNT)
                .await;
            answer.assert_well_formed();
            let mut expected = expected.clone();
            if matches!(shape, Shape::Url) {
                // This event has the name that the caller reached the API by.
                expected["repositoryUri"] =
                    format!("abc.lambda-url.us-east-1.on.aws/{name}").into();
            }
            assert_eq!(answer.body, json!({"repositories": [expected]}), "{name} ({shape:?})");
        }
    }
    for most in 1..=names.len() + 1 {
        let pages =
            pages(&stack, "DescribeRepositories", "repositories", json!({"maxResults": most}))
                .await;
        assert!(
            pages.iter().all(|page| (1..=most).contains(&page.len())),
            "{most} a page: {pages:?}"
        );
        assert_eq!(pages.concat(), *all, "{most} a page");
    }
    let members = json!({"repositoryNames": ["team/x", "app"]});
    let named = stack.ok("DescribeRepositories", members).await;
    assert_eq!(named["repositories"], json!([all[4], all[0]]), "in the order of the request");
}

/// Lists so many images that are published, each with so many tags, and with a padding in its row.
async fn list_images(stack: &Stack, images: usize, tags: usize, padding: &str) {
    let engines = &stack.local.engines;
    let config = aws_sdk_dynamodb::config::Builder::from(&engines.sdk_config());
    let client = Client::from_conf(config.endpoint_url(&engines.dynamodb_url).build());
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: &str| AttributeValue::N(value.to_owned());
    let row = |sk: String| {
        HashMap::from([("pk", text("repository#000000000000/app")), ("sk", AttributeValue::S(sk))])
    };
    let rows = (0..images).flat_map(|n| {
        let sk = format!("image#sha256:{n:064x}");
        let mut image = row(sk.clone());
        image.extend([
            ("media_type", text("m")),
            ("manifest_size", number("1")),
            ("pushed_at", number("1")),
            ("padding", text(padding)),
        ]);
        let tags = (0..tags).map(move |tag| row(format!("{sk}#tag#{n}-{tag:05}")));
        std::iter::once(image).chain(tags)
    });
    let rows: Vec<_> = rows
        .map(|row| {
            let row = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let put = PutRequest::builder().set_item(Some(row)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        })
        .collect();
    for rows in rows.chunks(25) {
        client.batch_write_item().request_items("layergate", rows.to_vec()).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_page_costs_no_more_however_much_there_is() {
    // Three rows of this size are as much as DynamoDB gives at once.
    let large = "a".repeat(340_000);
    let cases = [
        ("many images, none of which is wanted", 60, 0, "TAGGED", large.as_str()),
        ("many images with a tag, none of which is wanted", 300, 1, "UNTAGGED", ""),
        ("one image with more tags than ECR allows", 1, 1_100, "ANY", ""),
    ];
    for (description, images, tags, filter, padding) in cases {
        let stack = Stack::start().await;
        stack.json(&["repository", "create", "app"]).await;
        list_images(&stack, images, tags, padding).await;
        let (dynamodb, count) = count_requests(&stack.local.engines.dynamodb_url).await;
        let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(dynamodb));
        for (operation, entries) in [("ListImages", "imageIds"), ("DescribeImages", "imageDetails")]
        {
            let target = TARGET.replace("GetDownloadUrlForLayer", operation);
            let mut members = json!({"repositoryName": "app", "filter": {"tagStatus": filter}, "maxResults": 1000});
            let (mut found, mut pages) = (0, 0);
            loop {
                pages += 1;
                let before = count.load(Ordering::SeqCst);
                let answer = call(
                    &handler,
                    Shape::Rest,
                    Some(&target),
                    members.to_string().as_bytes(),
                    Some(ACCOUNT),
                )
                .await;
                let requests = count.load(Ordering::SeqCst) - before;
                // Eight pages, and the records of the repository, of the layout and of the image to
                // go on with.
                assert!(requests <= 11, "{description}, {operation}: {requests} requests");
                found += answer.body[entries].as_array().unwrap().len();
                if answer.body["nextToken"].is_null() {
                    break;
                }
                assert_ne!(
                    answer.body["nextToken"], members["nextToken"],
                    "{description}, {operation}: it goes on"
                );
                members["nextToken"] = answer.body["nextToken"].clone();
            }
            let wanted = match (operation, filter) {
                (_, "TAGGED" | "UNTAGGED") => 0,
                ("ListImages", _) => images * tags,
                (_, _) => images,
            };
            assert_eq!(found, wanted, "{description}, {operation}");
            assert_eq!(
                pages > 1,
                !padding.is_empty() || found > 1000,
                "{description}, {operation}: {pages} pages"
            );
        }
        if tags > 1000 {
            let described = stack.ok("DescribeImages", json!({"repositoryName": "app"})).await;
            let shown = described["imageDetails"][0]["imageTags"].as_array().unwrap().len();
            assert_eq!(shown, 1000, "as many as an image can have in ECR");
        }
    }
}
