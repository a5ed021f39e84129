//! What holds for any input.

use layergate_local::ACCOUNT;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};

use support::{Layout, SHAPES, Stack, TARGET, call, send, sha256};

const LAYER: &[u8] = b"the one layer there is";

/// Runs `property` for values of `strategy`, each on a handler whose index holds one layer.
fn check<S: Strategy>(strategy: S, property: impl Fn(&tokio::runtime::Runtime, &Stack, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stack = runtime.block_on(async {
        let stack = Stack::start().await;
        stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
        stack
    });
    // The same cases in every run; what once failed belongs into a table of its own.
    let config = Config {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&strategy, |value| {
            property(&runtime, &stack, value);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_as_body_get_a_well_formed_answer_and_no_url() {
    check(
        (prop::collection::vec(any::<u8>(), 0..300), 0..3_usize),
        |runtime, stack, (body, shape)| {
            let answer = runtime.block_on(call(
                &stack.handler,
                SHAPES[shape],
                Some(TARGET),
                &body,
                Some(ACCOUNT),
            ));
            answer.assert_well_formed();
            assert_eq!(answer.status, 400);
        },
    );
}

#[test]
fn any_target_gets_a_well_formed_answer() {
    check(".*", |runtime, stack, target| {
        let answer =
            runtime.block_on(call(&stack.handler, SHAPES[0], Some(&target), b"{}", Some(ACCOUNT)));
        answer.assert_well_formed();
        assert_eq!(answer.status, 400);
    });
}

#[test]
fn any_values_of_members_get_a_well_formed_answer() {
    let value = prop_oneof![
        ".*".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({"a": 1})),
        Just(json!("app")),
        Just(json!(sha256(LAYER))),
        Just(json!(ACCOUNT)),
    ];
    let values = prop::collection::vec(value, 3);
    check(values, |runtime, stack, values| {
        let body = json!({
            "repositoryName": values[0], "layerDigest": values[1], "registryId": values[2],
        });
        let body = body.to_string();
        for shape in SHAPES {
            let answer = runtime.block_on(call(
                &stack.handler,
                shape,
                Some(TARGET),
                body.as_bytes(),
                Some(ACCOUNT),
            ));
            answer.assert_well_formed();
            assert_ne!(answer.status, 500, "as a panic would be: {body}");
        }
    });
}

#[test]
fn a_url_is_given_for_the_referenced_layer_and_for_nothing_else() {
    let repository = prop_oneof![Just("app".to_owned()), "[a-z0-9]{2,5}", "app[/._-][a-z]{1,3}"];
    let digest = prop_oneof![
        Just(sha256(LAYER)),
        Just(format!("sha256:{}", sha256(LAYER)[7..].to_uppercase())),
        "sha(256|512):[a-f0-9]{64}",
        Just(sha256(LAYER).replace("sha256", "sha512")),
        Just(format!("{}0", sha256(LAYER))),
    ];
    let registry = prop_oneof![Just(ACCOUNT.to_owned()), "[0-9]{12}"];
    check((repository, digest, registry), |runtime, stack, (repository, digest, registry)| {
        let body =
            json!({"repositoryName": repository, "layerDigest": digest, "registryId": registry});
        let body = body.to_string();
        let answer = runtime.block_on(call(
            &stack.handler,
            SHAPES[0],
            Some(TARGET),
            body.as_bytes(),
            Some(&registry),
        ));
        answer.assert_well_formed();
        let is_the_layer =
            repository == "app" && digest.to_lowercase() == sha256(LAYER) && registry == ACCOUNT;
        assert_eq!(answer.status == 200, is_the_layer, "{body}: {answer:?}");
    });
}

#[test]
fn any_json_as_event_gets_a_well_formed_answer() {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!("2.0")),
        Just(json!("POST")),
    ];
    let names = [
        "version",
        "headers",
        "body",
        "isBase64Encoded",
        "requestContext",
        "httpMethod",
        "http",
        "method",
        "identity",
        "authorizer",
        "iam",
        "accountId",
        "x",
    ];
    let event = leaf.prop_recursive(4, 64, 12, move |inner| {
        prop::collection::hash_map(prop::sample::select(names.to_vec()), inner, 0..12).prop_map(
            |members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        )
    });
    check(event, |runtime, stack, event| {
        let answer = runtime.block_on(send(&stack.handler, &event));
        answer.assert_well_formed();
        assert_ne!(answer.status, 500, "as a panic would be: {event}");
    });
}
