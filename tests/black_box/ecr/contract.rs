//! Every row of the contract, in every shape of event.

use std::time::Duration;

use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{
    Answer, Layout, OUTSIDER, SHAPES, Shape, Stack, TARGET, call, event, nobody_listens, send,
    send_with_deadline, serve, sha256,
};

const LAYER: &[u8] = b"the layer of the contract's image";
const DELETED: &[u8] = b"a layer whose only image is deleted";

/// A stack with the image that the cases are about.
async fn stack() -> Stack {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
    stack.publish(&Layout::of_layers(&[DELETED]), "app:2").await;
    stack.json(&["image", "delete", "app:2"]).await;
    stack
}

/// The request of most cases, changed in some members.
fn request(changes: Value) -> String {
    let mut request = json!({"repositoryName": "app", "layerDigest": sha256(LAYER)});
    for (member, value) in changes.as_object().unwrap() {
        request[member] = value.clone();
    }
    request.to_string()
}

/// What is refused before anything is looked up, and what looking up refuses.
struct Refusal {
    description: &'static str,
    target: Option<&'static str>,
    body: String,
    caller: Option<&'static str>,
    error: &'static str,
    message: String,
}

fn refusals() -> Vec<Refusal> {
    const NAME_PATTERN: &str =
        r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*";
    let invalid = |description, changes, member: &str, rule: &str| Refusal {
        description,
        target: Some(TARGET),
        body: request(changes),
        caller: Some(ACCOUNT),
        error: "InvalidParameterException",
        message: format!("Invalid parameter at '{member}' failed to satisfy constraint: '{rule}'"),
    };
    let matches = |pattern: &str| format!("must satisfy regular expression '{pattern}'");
    let name_pattern = matches(NAME_PATTERN);
    let bad_name = |description, name: &str| {
        invalid(description, json!({"repositoryName": name}), "repositoryName", &name_pattern)
    };
    let bad_digest = |description, digest: &str| {
        let rule = matches("[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+");
        invalid(description, json!({"layerDigest": digest}), "layerDigest", &rule)
    };
    let bad_registry = |description, id: &str| {
        invalid(description, json!({"registryId": id}), "registryId", &matches("[0-9]{12}"))
    };
    let serialization = |description, body: &str, message: &str| Refusal {
        description,
        target: Some(TARGET),
        body: body.to_owned(),
        caller: Some(ACCOUNT),
        error: "SerializationException",
        message: message.to_owned(),
    };
    let lookup = |description, changes, caller, error, message: String| Refusal {
        description,
        target: Some(TARGET),
        body: request(changes),
        caller,
        error,
        message,
    };
    let unknown = sha256(b"nobody has this");
    let denied = |arn: &str, registry: &str, name: &str| {
        format!(
            "User: {arn} is not authorized to perform: ecr:GetDownloadUrlForLayer on resource: \
             arn:aws:ecr:us-east-1:{registry}:repository/{name} because no resource-based policy allows the \
             ecr:GetDownloadUrlForLayer action"
        )
    };
    vec![
        Refusal {
            description: "no target",
            target: None,
            body: request(json!({})),
            caller: Some(ACCOUNT),
            error: "UnknownOperationException",
            message: "The request has no X-Amz-Target header, which names the operation".to_owned(),
        },
        Refusal {
            description: "an operation of ECR's that is not here",
            target: Some("AmazonEC2ContainerRegistry_V20150921.StartImageScan"),
            body: "not even JSON".to_owned(),
            caller: None,
            error: "UnknownOperationException",
            message: "The operation in X-Amz-Target is not one of this service's: \
                      'AmazonEC2ContainerRegistry_V20150921.StartImageScan'"
                .to_owned(),
        },
        Refusal {
            description: "an operation of ECR's that pushes",
            target: Some("AmazonEC2ContainerRegistry_V20150921.PutImage"),
            body: "not even JSON".to_owned(),
            caller: None,
            error: "UnknownOperationException",
            message: "This API has no operation PutImage; use the command 'layergate publish'"
                .to_owned(),
        },
        Refusal {
            description: "an operation of ECR's that deletes",
            target: Some("AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage"),
            body: request(json!({})),
            caller: Some(ACCOUNT),
            error: "UnknownOperationException",
            message: "This API has no operation BatchDeleteImage; use the command \
                      'layergate image delete'"
                .to_owned(),
        },
        Refusal {
            description: "the operation's name under another service",
            target: Some("DynamoDB_20120810.GetDownloadUrlForLayer"),
            body: request(json!({})),
            caller: Some(ACCOUNT),
            error: "UnknownOperationException",
            message: "The operation in X-Amz-Target is not one of this service's: \
                      'DynamoDB_20120810.GetDownloadUrlForLayer'"
                .to_owned(),
        },
        serialization(
            "a body that is no JSON",
            "{",
            "The body is not valid JSON (line 1, column 1)",
        ),
        serialization(
            "JSON and then some",
            "{} {}",
            "The body is not valid JSON (line 1, column 4)",
        ),
        serialization(
            "half of a surrogate pair",
            r#"{"a":"\ud800"}"#,
            "The body is not valid JSON (line 1, column 13)",
        ),
        serialization("an array", "[]", "The body must be a JSON object, and is an array"),
        serialization("a string", r#""app""#, "The body must be a JSON object, and is a string"),
        serialization("null", "null", "The body must be a JSON object, and is null"),
        serialization(
            "a number where a string belongs",
            &request(json!({"repositoryName": 7})),
            "The member 'repositoryName' must be a string, and is a number",
        ),
        serialization(
            "an object where a string belongs",
            &request(json!({"layerDigest": {}})),
            "The member 'layerDigest' must be a string, and is an object",
        ),
        serialization(
            "a wrong type is told before a broken constraint",
            &request(json!({"repositoryName": "", "registryId": true})),
            "The member 'registryId' must be a string, and is a boolean",
        ),
        invalid(
            "an empty name",
            json!({"repositoryName": ""}),
            "repositoryName",
            "must have length greater than or equal to 2",
        ),
        invalid(
            "a name too short",
            json!({"repositoryName": "a"}),
            "repositoryName",
            "must have length greater than or equal to 2",
        ),
        invalid(
            "a name too long",
            json!({"repositoryName": "a".repeat(257)}),
            "repositoryName",
            "must have length less than or equal to 256",
        ),
        invalid("no name", json!({"repositoryName": null}), "repositoryName", "must not be null"),
        invalid("no digest", json!({"layerDigest": null}), "layerDigest", "must not be null"),
        Refusal {
            description: "an empty body has no members",
            body: String::new(),
            ..invalid("", json!({}), "repositoryName", "must not be null")
        },
        bad_name("upper case", "App"),
        bad_name("a slash at the end", "app/"),
        bad_name("a slash at the start", "/app"),
        bad_name("two slashes", "a//b"),
        bad_name("a path trick", "../app"),
        bad_name("two dots", "a..b"),
        bad_name("three underscores", "a___b"),
        bad_name("a line's end", "app\n"),
        bad_name("a tag", "app:1"),
        bad_name("a separator of keys", "app@sha256"),
        bad_name("not ASCII", "äpp"),
        bad_digest("an empty digest", ""),
        bad_digest("no algorithm", ":00"),
        bad_digest("no digits", "sha256:"),
        bad_digest("digits that are not hexadecimal", "sha256:xyz"),
        bad_digest("two colons", "sha256:00:00"),
        bad_digest("a slash in the algorithm", "../sha256:00"),
        bad_registry("an empty registry", ""),
        bad_registry("eleven digits", "00000000000"),
        bad_registry("thirteen digits", "0000000000000"),
        bad_registry("letters", "00000000000a"),
        bad_registry("digits of another script", "٠٠٠٠٠٠٠٠٠٠٠٠"),
        Refusal {
            description: "constraints are told in the order name, digest, registry",
            body: json!({"registryId": "x", "layerDigest": "x", "repositoryName": "X!"})
                .to_string(),
            ..bad_name("", "X!")
        },
        Refusal {
            description: "a broken constraint is told before the caller is looked at",
            caller: None,
            ..bad_name("", "X!")
        },
        lookup(
            "a caller without an identity",
            json!({}),
            None,
            "AccessDeniedException",
            denied("anonymous", ACCOUNT, "app"),
        ),
        lookup(
            "a caller of another account",
            json!({}),
            Some(OUTSIDER),
            "AccessDeniedException",
            denied("arn:aws:iam::111111111111:user/puller", ACCOUNT, "app"),
        ),
        lookup(
            "a registry of another account",
            json!({"registryId": OUTSIDER}),
            Some(ACCOUNT),
            "AccessDeniedException",
            denied("arn:aws:iam::000000000000:user/puller", OUTSIDER, "app"),
        ),
        lookup(
            "no such repository",
            json!({"repositoryName": "other"}),
            Some(ACCOUNT),
            "RepositoryNotFoundException",
            format!(
                "The repository with name 'other' does not exist in the registry with id '{ACCOUNT}'"
            ),
        ),
        lookup(
            "no such repository, of a registry that is the caller's own",
            json!({"registryId": OUTSIDER}),
            Some(OUTSIDER),
            "RepositoryNotFoundException",
            format!(
                "The repository with name 'app' does not exist in the registry with id '{OUTSIDER}'"
            ),
        ),
        lookup(
            "no such layer",
            json!({"layerDigest": unknown}),
            Some(ACCOUNT),
            "LayersNotFoundException",
            format!(
                "The layer with digest '{unknown}' does not exist within the repository with name 'app' in the \
                 registry with id '{ACCOUNT}'"
            ),
        ),
        lookup(
            "a digest longer than any key of the table",
            json!({"layerDigest": format!("sha256:{}", "0".repeat(3000))}),
            Some(ACCOUNT),
            "LayersNotFoundException",
            format!(
                "The layer with digest 'sha256:{}' does not exist within the repository with name 'app' in the \
                 registry with id '{ACCOUNT}'",
                "0".repeat(3000)
            ),
        ),
        lookup(
            "a layer that no image references any more",
            json!({"layerDigest": sha256(DELETED)}),
            Some(ACCOUNT),
            "LayerInaccessibleException",
            format!(
                "The layer with digest '{}' in the repository with name 'app' in the registry with id \
                 '{ACCOUNT}' is not associated with an image",
                sha256(DELETED)
            ),
        ),
    ]
}

#[tokio::test]
async fn refusals_have_their_names_and_sentences() {
    let stack = stack().await;
    for case in refusals() {
        for shape in SHAPES {
            let answer =
                call(&stack.handler, shape, case.target, case.body.as_bytes(), case.caller).await;
            answer.assert_well_formed();
            let got = (answer.error(), answer.message());
            assert_eq!(
                got,
                (case.error, case.message.as_str()),
                "{} ({shape:?})",
                case.description
            );
        }
    }
}

#[tokio::test]
async fn a_url_is_given_for_every_form_of_a_good_request() {
    let stack = stack().await;
    let upper = format!("sha256:{}", sha256(LAYER)["sha256:".len()..].to_uppercase());
    let cases = [
        ("the plain request", request(json!({}))),
        ("with the registry", request(json!({"registryId": ACCOUNT}))),
        ("with a null registry", request(json!({"registryId": null}))),
        ("with members nobody knows", request(json!({"acceptedMediaTypes": [1, {"a": null}]}))),
        ("with space around", format!(" \n{}\t", request(json!({})))),
        ("with the digest in upper case", request(json!({"layerDigest": upper}))),
    ];
    for (description, body) in cases {
        for shape in SHAPES {
            let answer =
                call(&stack.handler, shape, Some(TARGET), body.as_bytes(), Some(ACCOUNT)).await;
            answer.assert_well_formed();
            assert_eq!(answer.status, 200, "{description} ({shape:?}): {answer:?}");
            let asked: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                answer.body["layerDigest"], asked["layerDigest"],
                "{description}: echoed as sent"
            );
            let bytes = reqwest::get(answer.url()).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, LAYER, "{description}");
        }
    }
}

#[tokio::test]
async fn the_event_may_be_in_any_form_that_gateways_give_it() {
    let stack = stack().await;
    let body = request(json!({}));
    type Change = fn(&mut Value);
    let cases: [(&str, Shape, Change); 9] = [
        ("a target in lower case", Shape::Rest, |event| {
            event["headers"] = json!({"x-amz-target": TARGET});
        }),
        ("a target in upper case", Shape::Http, |event| {
            event["headers"] = json!({"X-AMZ-TARGET": TARGET})
        }),
        ("a base64 body from a REST API", Shape::Rest, |event| {
            use base64::Engine;
            let body = event["body"].as_str().unwrap();
            event["body"] = base64::prelude::BASE64_STANDARD.encode(body).into();
            event["isBase64Encoded"] = true.into();
        }),
        ("a plain body from an HTTP API", Shape::Http, |event| {
            use base64::Engine;
            let body =
                base64::prelude::BASE64_STANDARD.decode(event["body"].as_str().unwrap()).unwrap();
            event["body"] = String::from_utf8(body).unwrap().into();
            event["isBase64Encoded"] = false.into();
        }),
        ("a stage's path", Shape::Rest, |event| event["path"] = "/Prod".into()),
        ("a base path mapping", Shape::Http, |event| event["rawPath"] = "/a/b/".into()),
        ("a content type with parameters", Shape::Rest, |event| {
            event["headers"]["Content-Type"] = "application/x-amz-json-1.1; charset=utf-8".into();
        }),
        ("plain JSON's content type", Shape::Url, |event| {
            event["headers"]["content-type"] = "application/json".into();
        }),
        ("an HTTP API's event in format 1.0", Shape::Rest, |event| event["version"] = "1.0".into()),
    ];
    for (description, shape, change) in cases {
        let mut event = event(shape, Some(TARGET), body.as_bytes(), Some(ACCOUNT));
        change(&mut event);
        let answer = send(&stack.handler, &event).await;
        assert_eq!(answer.status, 200, "{description}: {answer:?}");
    }
}

#[tokio::test]
async fn an_event_that_no_gateway_sends_is_answered_too() {
    let stack = stack().await;
    let too_many_headers: serde_json::Map<_, _> =
        (0..40_000).map(|n| (format!("header-{n}"), json!("x"))).collect();
    let mut panics = event(Shape::Rest, Some(TARGET), b"{}", Some(ACCOUNT));
    panics["headers"] = Value::Object(too_many_headers);
    let mut not_base64 = event(Shape::Http, Some(TARGET), b"{}", Some(ACCOUNT));
    not_base64["body"] = "?".into();
    let mut no_target = not_base64.clone();
    no_target["headers"] = json!({});
    let cases = [
        ("an empty object", json!({}), "SerializationException"),
        (
            "no target, and a body that is not base64: the target is looked at first",
            no_target,
            "UnknownOperationException",
        ),
        ("not an object", json!([1]), "SerializationException"),
        ("another service's event", json!({"Records": []}), "SerializationException"),
        ("a body that is not base64", not_base64, "SerializationException"),
        ("more headers than the library can hold, which panics", panics, "ServerException"),
    ];
    for (description, event, error) in cases {
        let answer: Answer = send(&stack.handler, &event).await;
        answer.assert_well_formed();
        assert_eq!(answer.error(), error, "{description}");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_reached_is_a_fault_and_not_a_missing_layer() {
    let stack = stack().await;
    let (nobody_listens, _reserved) = nobody_listens();
    let (at_nobody, other_table) = (
        stack.handler_with_patience(Patience::CLIENT, |config| {
            config.dynamodb_endpoint = Some(nobody_listens)
        }),
        stack.handler_with_patience(Patience::CLIENT, |config| {
            config.table_name = "other".to_owned()
        }),
    );
    let handlers = [("nobody listens", at_nobody), ("there is no such table", other_table)];
    for (description, handler) in handlers {
        for shape in SHAPES {
            let body = request(json!({}));
            let answer = call(&handler, shape, Some(TARGET), body.as_bytes(), Some(ACCOUNT)).await;
            answer.assert_well_formed();
            assert_eq!(answer.error(), "ServerException", "{description}");
            assert_eq!(
                answer.message(),
                "The service could not answer this request because of an internal fault; try again"
            );
        }
    }
}

#[tokio::test]
async fn the_answer_comes_before_the_deadline() {
    let stack = stack().await;
    // Takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(silent));
    let event = event(Shape::Rest, Some(TARGET), request(json!({})).as_bytes(), Some(ACCOUNT));
    let deadline = Duration::from_secs(2);
    let started = std::time::Instant::now();
    let answer = send_with_deadline(&handler, &event, deadline).await;
    assert_eq!(answer.error(), "ServerException");
    assert!(started.elapsed() < deadline, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_throttling_index_is_told_by_the_name_that_clients_retry() {
    use axum::body::Body;
    use axum::response::Response;

    let stack = stack().await;
    // DynamoDB's own answer, in its place: the embedded one never throttles.
    let throttling = serve(|_| async {
        let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = axum::http::StatusCode::BAD_REQUEST;
        response
    })
    .await;
    let handler = stack.handler_with_patience(Patience::CLIENT, |config| {
        config.dynamodb_endpoint = Some(throttling)
    });
    for shape in SHAPES {
        let answer =
            call(&handler, shape, Some(TARGET), request(json!({})).as_bytes(), Some(ACCOUNT)).await;
        answer.assert_well_formed();
        assert_eq!((answer.error(), answer.message()), ("ThrottlingException", "Rate exceeded"));
    }
}
