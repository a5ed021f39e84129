//! What the operations that tell what there is refuse: parameters that break their constraints, and
//! outsiders.

use std::sync::atomic::Ordering;

use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Layout, OUTSIDER, SHAPES, Shape, Stack, TARGET, call, count_requests, sha256};

const OPERATIONS: [&str; 5] = [
    "BatchCheckLayerAvailability",
    "BatchGetImage",
    "DescribeImages",
    "DescribeRepositories",
    "ListImages",
];

/// The smallest good request.
fn request(operation: &str, repository: &str) -> Value {
    let mut request = match operation {
        "BatchCheckLayerAvailability" => json!({"layerDigests": [sha256(b"layer")]}),
        "BatchGetImage" => json!({"imageIds": [{"imageTag": "1"}]}),
        "DescribeRepositories" => {
            return json!({"registryId": ACCOUNT, "repositoryNames": [repository]});
        }
        _ => json!({}),
    };
    request["registryId"] = ACCOUNT.into();
    request["repositoryName"] = repository.into();
    request
}

struct Refusal {
    description: &'static str,
    operations: &'static [&'static str],
    changes: Value,
    error: &'static str,
    message: &'static str,
}

fn refusals() -> Vec<Refusal> {
    const PAGED: &[&str] = &["DescribeImages", "DescribeRepositories", "ListImages"];
    const OF_A_REPOSITORY: &[&str] =
        &["BatchCheckLayerAvailability", "BatchGetImage", "DescribeImages", "ListImages"];
    const WITH_IDS: &[&str] = &["BatchGetImage", "DescribeImages"];
    let case = |description, operations, changes, error, message| Refusal {
        description,
        operations,
        changes,
        error,
        message,
    };
    let invalid = |description, operations, changes, message| {
        case(description, operations, changes, "InvalidParameterException", message)
    };
    let wrong_type = |description, operations, changes, message| {
        case(description, operations, changes, "SerializationException", message)
    };
    let tag = json!({"imageTag": "1"});
    vec![
        invalid(
            "no repository",
            OF_A_REPOSITORY,
            json!({"repositoryName": null}),
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must not be null'",
        ),
        invalid(
            "a registry that is no account",
            &OPERATIONS,
            json!({"registryId": "x"}),
            "Invalid parameter at 'registryId' failed to satisfy constraint: 'must satisfy regular expression \
             '[0-9]{12}''",
        ),
        invalid(
            "a page without results",
            PAGED,
            json!({"maxResults": 0, "repositoryNames": null}),
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value greater than or \
             equal to 1'",
        ),
        invalid(
            "fewer results than none",
            PAGED,
            json!({"maxResults": -1, "repositoryNames": null}),
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value greater than or \
             equal to 1'",
        ),
        invalid(
            "a page that is too long",
            PAGED,
            json!({"maxResults": 1001, "repositoryNames": null}),
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or \
             equal to 1000'",
        ),
        wrong_type(
            "a fraction of a result",
            PAGED,
            json!({"maxResults": 1.5}),
            "The member 'maxResults' must be an integer, and is 1.5",
        ),
        wrong_type(
            "a number of results in letters",
            PAGED,
            json!({"maxResults": "1"}),
            "The member 'maxResults' must be an integer, and is a string",
        ),
        invalid(
            "a page of images that are named",
            &["DescribeImages"],
            json!({"imageIds": [tag], "maxResults": 1}),
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'must be null if 'imageIds' is given'",
        ),
        invalid(
            "the next of images that are named",
            &["DescribeImages"],
            json!({"imageIds": [tag], "nextToken": "eA"}),
            "Invalid parameter at 'nextToken' failed to satisfy constraint: 'must be null if 'imageIds' is given'",
        ),
        invalid(
            "a page of repositories that are named",
            &["DescribeRepositories"],
            json!({"maxResults": 1}),
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'must be null if 'repositoryNames' is \
             given'",
        ),
        invalid(
            "no layer",
            &["BatchCheckLayerAvailability"],
            json!({"layerDigests": null}),
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'must not be null'",
        ),
        invalid(
            "an empty list of layers",
            &["BatchCheckLayerAvailability"],
            json!({"layerDigests": []}),
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length greater than \
             or equal to 1'",
        ),
        invalid(
            "too many layers",
            &["BatchCheckLayerAvailability"],
            json!({"layerDigests": vec!["sha256:00"; 101]}),
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length less than or \
             equal to 100'",
        ),
        invalid(
            "a digest that is too long",
            &["BatchCheckLayerAvailability"],
            json!({"layerDigests": [format!("sha256:{}", "0".repeat(1000))]}),
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length less than or \
             equal to 1000'",
        ),
        wrong_type(
            "a layer that is a number",
            &["BatchCheckLayerAvailability"],
            json!({"layerDigests": ["sha256:00", 7]}),
            "Each element of 'layerDigests' must be a string, and is a number",
        ),
        invalid(
            "no image",
            &["BatchGetImage"],
            json!({"imageIds": null}),
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'must not be null'",
        ),
        invalid(
            "an empty list of images",
            WITH_IDS,
            json!({"imageIds": []}),
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length greater than or \
             equal to 1'",
        ),
        invalid(
            "too many images",
            WITH_IDS,
            json!({"imageIds": vec![tag.clone(); 101]}),
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length less than or \
             equal to 100'",
        ),
        wrong_type(
            "an image that is a string",
            WITH_IDS,
            json!({"imageIds": ["1"]}),
            "Each element of 'imageIds' must be an object, and is a string",
        ),
        wrong_type(
            "an image that is null, after one whose tag is a number",
            WITH_IDS,
            json!({"imageIds": [{"imageTag": 1}, null]}),
            "Each element of 'imageIds' must be an object, and is null",
        ),
        wrong_type(
            "one image and no list",
            WITH_IDS,
            json!({"imageIds": tag}),
            "The member 'imageIds' must be an array, and is an object",
        ),
        wrong_type(
            "a tag that is a number",
            WITH_IDS,
            json!({"imageIds": [{"imageTag": 1}]}),
            "The member 'imageTag' must be a string, and is a number",
        ),
        invalid(
            "accepted media types, and none of them",
            &["BatchGetImage"],
            json!({"acceptedMediaTypes": []}),
            "Invalid parameter at 'acceptedMediaTypes' failed to satisfy constraint: 'Member must have length greater \
             than or equal to 1'",
        ),
        invalid(
            "an image without a name",
            &["DescribeImages"],
            json!({"imageIds": [{}]}),
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'both tag and digest cannot be null'",
        ),
        invalid(
            "a digest that is none",
            &["DescribeImages"],
            json!({"imageIds": [{"imageDigest": "latest"}]}),
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'must satisfy regular expression \
             '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+''",
        ),
        invalid(
            "a tag status that there is not",
            &["DescribeImages", "ListImages"],
            json!({"filter": {"tagStatus": "tagged"}}),
            "Invalid parameter at 'filter.tagStatus' failed to satisfy constraint: 'Member must satisfy enum value \
             set: [TAGGED, UNTAGGED, ANY]'",
        ),
        invalid(
            "an image status that there is not",
            &["DescribeImages", "ListImages"],
            json!({"filter": {"imageStatus": "GONE"}}),
            "Invalid parameter at 'filter.imageStatus' failed to satisfy constraint: 'Member must satisfy enum value \
             set: [ACTIVE, ARCHIVED, ACTIVATING, ANY]'",
        ),
        wrong_type(
            "a filter that is a string",
            &["DescribeImages", "ListImages"],
            json!({"filter": "TAGGED"}),
            "The member 'filter' must be an object, and is a string",
        ),
        invalid(
            "an empty list of repositories",
            &["DescribeRepositories"],
            json!({"repositoryNames": []}),
            "Invalid parameter at 'repositoryNames' failed to satisfy constraint: 'Member must have length greater \
             than or equal to 1'",
        ),
        invalid(
            "too many repositories",
            &["DescribeRepositories"],
            json!({"repositoryNames": vec!["app"; 101]}),
            "Invalid parameter at 'repositoryNames' failed to satisfy constraint: 'Member must have length less than \
             or equal to 100'",
        ),
        invalid(
            "a repository whose name is too short",
            &["DescribeRepositories"],
            json!({"repositoryNames": ["app", "a"]}),
            "Invalid parameter at 'repositoryNames' failed to satisfy constraint: 'must have length greater than or \
             equal to 2'",
        ),
        case(
            "no such repository",
            OF_A_REPOSITORY,
            json!({"repositoryName": "other"}),
            "RepositoryNotFoundException",
            "The repository with name 'other' does not exist in the registry with id '000000000000'",
        ),
        case(
            "one of the repositories is not there",
            &["DescribeRepositories"],
            json!({"repositoryNames": ["app", "other"]}),
            "RepositoryNotFoundException",
            "The repository with name 'other' does not exist in the registry with id '000000000000'",
        ),
    ]
}

#[tokio::test]
async fn refusals_have_their_names_and_sentences() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    for operation in OPERATIONS {
        stack.ok(operation, request(operation, "app")).await;
    }
    for case in refusals() {
        for operation in case.operations {
            let mut members = request(operation, "app");
            for (member, value) in case.changes.as_object().unwrap() {
                members[member] = value.clone();
            }
            for shape in SHAPES {
                let answer = stack.call(shape, operation, &members, ACCOUNT).await;
                answer.assert_well_formed();
                let got = (answer.error(), answer.message());
                assert_eq!(
                    got,
                    (case.error, case.message),
                    "{operation}: {} ({shape:?})",
                    case.description
                );
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_was_not_given_is_refused() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let long = "A".repeat(5_000_000);
    let cases = [
        ("an empty one", ""),
        ("not base64", "?"),
        ("base64 with padding", "YWI="),
        ("bytes that are no text", "_w"),
        ("a text that is neither a digest nor a name", "IQ"),
        ("a tag that is none: sha256:00#a b", "c2hhMjU2OjAwI2EgYg"),
        ("megabytes", &long),
    ];
    for operation in ["DescribeImages", "DescribeRepositories", "ListImages"] {
        for (description, token) in cases {
            let members = json!({"repositoryName": "app", "nextToken": token});
            let answer = stack.call(Shape::Rest, operation, &members, ACCOUNT).await;
            answer.assert_well_formed();
            assert_eq!(answer.error(), "InvalidParameterException", "{operation}: {description}");
            let wanted = "Invalid parameter at 'nextToken' failed to satisfy constraint: 'must be a token that this \
                          operation has given'";
            assert_eq!(answer.message(), wanted, "{operation}: {description}");
        }
    }
}

#[tokio::test]
async fn an_outsider_cannot_tell_what_exists() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "exists:1").await;
    let (dynamodb, count) = count_requests(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(dynamodb));
    for operation in OPERATIONS {
        let target = TARGET.replace("GetDownloadUrlForLayer", operation);
        for shape in SHAPES {
            let mut seen = Vec::new();
            for name in ["exists", "absent"] {
                let body = request(operation, name).to_string();
                let before = count.load(Ordering::SeqCst);
                let answer =
                    call(&handler, shape, Some(&target), body.as_bytes(), Some(OUTSIDER)).await;
                answer.assert_well_formed();
                let message = format!(
                    "User: arn:aws:iam::{OUTSIDER}:user/puller is not authorized to perform: ecr:{operation} on \
                     resource: arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name} because no resource-based policy \
                     allows the ecr:{operation} action"
                );
                assert_eq!(
                    (answer.error(), answer.message()),
                    ("AccessDeniedException", message.as_str())
                );
                seen.push((answer.headers, count.load(Ordering::SeqCst) - before));
            }
            assert_eq!(seen[0], seen[1], "{operation} ({shape:?})");
            // Images may come from another registry, if a rule says so.
            let requests = if operation == "BatchGetImage" { 2 } else { 1 };
            assert_eq!(seen[0].1, requests, "{operation}: requests to DynamoDB");
        }
    }

    stack.json(&["repository", "grant", "exists", OUTSIDER]).await;
    for operation in OPERATIONS {
        let answer =
            stack.call(Shape::Rest, operation, &request(operation, "exists"), OUTSIDER).await;
        assert_eq!(answer.status, 200, "{operation}: {answer:?}");
    }
    let both = json!({"registryId": ACCOUNT, "repositoryNames": ["exists", "absent"]});
    let answer = stack.call(Shape::Rest, "DescribeRepositories", &both, OUTSIDER).await;
    assert_eq!(answer.error(), "AccessDeniedException", "a grant is for one repository");
    assert!(answer.message().contains("repository/absent because"), "{answer:?}");
}

#[tokio::test]
async fn only_the_owner_of_a_registry_lists_its_repositories() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    let all = json!({"registryId": ACCOUNT});
    let answer = stack.call(Shape::Rest, "DescribeRepositories", &all, OUTSIDER).await;
    answer.assert_well_formed();
    assert_eq!(answer.error(), "AccessDeniedException", "not even those that it may read");
    assert!(
        answer.message().contains(&format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/* ")),
        "{answer:?}"
    );

    let own = json!({"registryId": OUTSIDER});
    let answer = stack.call(Shape::Rest, "DescribeRepositories", &own, OUTSIDER).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({"repositories": []})),
        "its own, which is empty"
    );
}

#[tokio::test]
async fn each_call_costs_what_the_architecture_says() {
    let stack = Stack::start().await;
    let published = stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let (dynamodb, dynamodb_requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let (s3, s3_requests) = count_requests(&stack.local.engines.s3_url).await;
    let handler = stack.handler_with(|config| {
        config.dynamodb_endpoint = Some(dynamodb);
        config.s3_endpoint = Some(s3);
    });
    let tag = json!([{"imageTag": "1"}]);
    let digest = json!([{"imageDigest": published["imageDigest"]}]);
    let layers = json!([sha256(b"layer"), sha256(b"unknown")]);
    let cases = [
        ("the first call: the layout too", "ListImages", json!({}), (3, 0)),
        ("a page of tags", "ListImages", json!({}), (2, 0)),
        ("a page of images", "DescribeImages", json!({}), (2, 0)),
        ("an image by its tag", "DescribeImages", json!({"imageIds": tag}), (4, 0)),
        ("an image by its digest", "DescribeImages", json!({"imageIds": digest}), (3, 0)),
        ("a manifest by its tag", "BatchGetImage", json!({"imageIds": tag}), (3, 1)),
        ("a manifest that was read before", "BatchGetImage", json!({"imageIds": digest}), (2, 0)),
        ("no manifest", "BatchGetImage", json!({"imageIds": [{"imageTag": "none"}, {}]}), (3, 0)),
        ("two layers", "BatchCheckLayerAvailability", json!({"layerDigests": layers}), (3, 0)),
        ("a repository", "DescribeRepositories", json!({"repositoryNames": ["app"]}), (1, 0)),
        ("all repositories", "DescribeRepositories", json!({}), (1, 0)),
        ("a bad parameter", "ListImages", json!({"maxResults": 0}), (0, 0)),
    ];
    for (description, operation, mut members, requests) in cases {
        members["repositoryName"] = "app".into();
        dynamodb_requests.store(0, Ordering::SeqCst);
        s3_requests.store(0, Ordering::SeqCst);
        let target = TARGET.replace("GetDownloadUrlForLayer", operation);
        call(&handler, Shape::Rest, Some(&target), members.to_string().as_bytes(), Some(ACCOUNT))
            .await;
        let counted =
            (dynamodb_requests.load(Ordering::SeqCst), s3_requests.load(Ordering::SeqCst));
        assert_eq!(counted, requests, "{operation}: {description}");
    }
}
