//! The cases of Smithy's protocol tests for awsJson1_1 that apply to a server of this operation,
//! told in this operation's own members. Each is named as there, with the file that it is in.
//!
//! Source:
//! <https://github.com/smithy-lang/smithy/tree/main/smithy-aws-protocol-tests/model/awsJson1_1>.
//! What the protocol says without a case has the section of its specification:
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>.

use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Layout, Shape, Stack, TARGET, event, send, sha256};

struct Case {
    id: &'static str,
    link: &'static str,
    content_type: &'static str,
    body: String,
    /// `OK`, or the error's name.
    outcome: &'static str,
}

fn cases() -> Vec<Case> {
    const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
    let good = json!({"repositoryName": "app", "layerDigest": sha256(b"layer")});
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body.to_string()
    };
    let case = |id, link, body: String, outcome| Case {
        id,
        link,
        content_type: CONTENT_TYPE,
        body,
        outcome,
    };
    vec![
        Case {
            id: "AwsJson11MustSupportParametersInContentType",
            link: "content-type.smithy",
            content_type: "application/x-amz-json-1.1; charset=utf-8",
            body: good.to_string(),
            outcome: "OK",
        },
        case(
            "includes_x_amz_target_and_content_type",
            "empty-operation.smithy",
            good.to_string(),
            "OK",
        ),
        case(
            "can_call_operation_with_optional_input",
            "optional-input.smithy",
            with("registryId", ACCOUNT.into()),
            "OK",
        ),
        case(
            "AwsJson11ServersDontDeserializeNullStructureValues",
            "null.smithy",
            with("registryId", Value::Null),
            "OK",
        ),
        case(
            "serializes_string_shapes",
            "kitchen-sink.smithy",
            with("repositoryName", "app".into()),
            "OK",
        ),
        case(
            "serializes_string_shapes, escaped",
            "kitchen-sink.smithy",
            good.to_string().replace("app", r"\u0061pp"),
            "OK",
        ),
        // A structure, list, map, number or boolean in place of a string: the kitchen sink's other
        // shapes.
        case(
            "serializes_structure_shapes",
            "kitchen-sink.smithy",
            with("layerDigest", json!({"Value": "abc"})),
            "SerializationException",
        ),
        case(
            "serializes_list_shapes",
            "kitchen-sink.smithy",
            with("layerDigest", json!(["abc"])),
            "SerializationException",
        ),
        case(
            "serializes_empty_map_shapes",
            "kitchen-sink.smithy",
            with("registryId", json!({})),
            "SerializationException",
        ),
        case(
            "serializes_integer_shapes",
            "kitchen-sink.smithy",
            with("repositoryName", 1234.into()),
            "SerializationException",
        ),
        case(
            "serializes_boolean_shapes_false",
            "kitchen-sink.smithy",
            with("registryId", false.into()),
            "SerializationException",
        ),
        // Of no case.
        case(
            "no members",
            "can_call_operation_with_no_input_or_output in optional-input.smithy",
            "{}".to_owned(),
            "InvalidParameterException",
        ),
        case(
            "an empty body is {}",
            "#protocol-behaviors",
            String::new(),
            "InvalidParameterException",
        ),
        case(
            "unknown members are ignored",
            "#protocol-behaviors",
            with("unknown", json!({"a": [1, null]})),
            "OK",
        ),
        case(
            "a member's name is case-sensitive",
            "#protocol-behaviors",
            with("RegistryId", "x".into()),
            "OK",
        ),
        case(
            "a body that is no JSON",
            "#operation-error-serialization",
            "<xml/>".to_owned(),
            "SerializationException",
        ),
    ]
}

#[tokio::test]
async fn requests_are_read_as_the_protocol_has_it() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    for case in cases() {
        let mut event = event(Shape::Rest, Some(TARGET), case.body.as_bytes(), Some(ACCOUNT));
        event["headers"]["Content-Type"] = case.content_type.into();
        let answer = send(&stack.handler, &event).await;
        let outcome = if answer.status == 200 { "OK" } else { answer.error() };
        assert_eq!(outcome, case.outcome, "{} ({}): {}", case.id, case.link, case.body);
    }
}

#[tokio::test]
async fn answers_are_written_as_the_protocol_has_it() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    // parses_string_shapes in kitchen-sink.smithy: the members of the output and no others.
    let answer = stack.ask("app", &sha256(b"layer")).await;
    let mut members: Vec<_> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["downloadUrl", "layerDigest"]);
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_str()),
        (200, "application/x-amz-json-1.1")
    );

    // AwsJson11InvalidGreetingError in errors.smithy: the type's bare name, without namespace or
    // URI.
    let answer = stack.ask("absent", &sha256(b"layer")).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body["__type"], "RepositoryNotFoundException");
    // AwsJson11FooErrorUsingXAmznErrorType in errors.smithy: the same name in the header.
    assert_eq!(answer.headers["x-amzn-errortype"], "RepositoryNotFoundException");
    assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.1");
}
