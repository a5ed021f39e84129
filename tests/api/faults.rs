//! An engine that breaks: what the client is told, how soon, and whether the next call works.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use layergate::local::ACCOUNT;
use serde_json::json;

use crate::support::{
    Answer, Fault, FaultProxy, Layout, OUTSIDER, SIGNED_TOO_EARLY, Shape, Stack, TARGET, assert_refused,
    event, send_with_deadline, sha256, stderr,
};

/// The function's timeout in the template.
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(6);

/// How many cases are tried at once: most of the time they wait.
const AT_ONCE: usize = 6;

const FAULTS: [(Fault, &str); 8] = [
    (Fault::Hang, "ServerException"),
    (Fault::Stall, "ServerException"),
    (Fault::Reset, "ServerException"),
    (Fault::Truncated, "ServerException"),
    (Fault::Nonsense, "ServerException"),
    (Fault::OtherJson, "ServerException"),
    (Fault::InternalError, "ServerException"),
    (Fault::Throttle, "ThrottlingException"),
];

#[tokio::test]
async fn a_broken_dynamodb_is_a_fault_in_time_and_the_next_call_works() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    stack.json(&["repository", "grant", "app", OUTSIDER]).await;
    for (fault, expected) in FAULTS {
        let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
        let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(proxy.url.clone()));
        let ask = async |caller: &str, layer: &[u8]| -> Answer {
            let body = json!({"registryId": ACCOUNT, "repositoryName": "app", "layerDigest": sha256(layer)});
            let event = event(Shape::Rest, Some(TARGET), body.to_string().as_bytes(), Some(caller));
            send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await
        };
        let cases: [(&str, &str, &[u8]); 3] = [
            ("a layer that is there", ACCOUNT, b"layer"),
            ("one that is not", ACCOUNT, b"unknown"),
            ("another account that may read it", OUTSIDER, b"layer"),
        ];
        for (description, caller, layer) in cases {
            proxy.set(fault);
            let started = Instant::now();
            let answer = ask(caller, layer).await;
            assert!(started.elapsed() < LAMBDA_TIMEOUT, "{fault:?}: {:?}", started.elapsed());
            answer.assert_well_formed();
            assert_eq!(answer.error(), expected, "{fault:?}, {description}");
        }
        proxy.set(Fault::None);
        for caller in [ACCOUNT, OUTSIDER] {
            let answer = ask(caller, b"layer").await;
            assert_eq!(answer.status, 200, "after {fault:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_dynamodb_is_waited_for() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    let handler = stack.handler_with(|config| config.dynamodb_endpoint = Some(proxy.url.clone()));
    proxy.set(Fault::Slow(Duration::from_millis(700)));
    for (digest, outcome) in [(sha256(b"layer"), "OK"), (sha256(b"unknown"), "LayersNotFoundException")] {
        let body = json!({"repositoryName": "app", "layerDigest": digest}).to_string();
        let event = event(Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT));
        let answer = send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await;
        assert_eq!(if answer.status == 200 { "OK" } else { answer.error() }, outcome);
    }
}

/// An S3 or a DynamoDB that breaks while an image is published.
const ENGINES: [(&str, &str); 2] = [("AWS_ENDPOINT_URL_DYNAMODB", "DynamoDB"), ("AWS_ENDPOINT_URL_S3", "S3")];

fn url<'a>(stack: &'a Stack, engine: &str) -> &'a str {
    match engine {
        "S3" => &stack.local.engines.s3_url,
        _ => &stack.local.engines.dynamodb_url,
    }
}

#[tokio::test]
async fn publishing_through_a_fault_completes_or_says_so_and_completes_when_run_again() {
    let faults = FAULTS.map(|(fault, _)| fault).into_iter().chain([Fault::Lost]);
    let cases = faults.flat_map(|fault| ENGINES.map(|engine| (fault, engine)));
    let tries = cases.map(|(fault, (variable, engine))| async move {
        let stack = Stack::start().await;
        let (small, large) = (b"small".to_vec(), vec![7; 9 * 1024 * 1024]);
        let layout = Layout::of_layers(&[&small, &large]);
        stack.json(&["repository", "create", "app"]).await;
        let proxy = FaultProxy::to(url(&stack, engine)).await;
        let publish = async || {
            let publish = ["publish", &layout.path(), "app:1"];
            stack.command(&publish).env(variable, &proxy.url).output().await.unwrap()
        };

        // It does not end.
        proxy.set(fault);
        assert_refused(&publish().await, 1, &[engine]);
        for layer in [&small, &large] {
            assert_eq!(stack.ask("app", &sha256(layer)).await.status, 400, "{engine}, {fault:?}");
        }
        // It ends while what it broke is tried again, or after that was given up.
        proxy.set_on("", fault, 2);
        let output = publish().await;
        if !output.status.success() {
            let is_an_answer =
                matches!(fault, Fault::Truncated | Fault::Nonsense | Fault::OtherJson | Fault::Stall);
            assert!(is_an_answer, "{engine}, {fault:?}: it was not tried again");
            assert_refused(&output, 1, &[engine]);
            proxy.set(Fault::None);
            let output = publish().await;
            assert!(output.status.success(), "{engine}, {fault:?}: {}", stderr(&output));
        }
        for layer in [&small, &large] {
            assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200, "{engine}, {fault:?}");
        }
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{engine}, {fault:?}");
    });
    stream::iter(tries).buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test]
async fn a_fault_in_the_midst_of_an_upload_leaves_no_part_of_it() {
    const START: &str = "?uploads";
    const SECOND_PART: &str = "partNumber=2";
    const END: &str = "?uploadId="; // the parts have it behind an '&'
    // What hangs is waited for too long at the end of an upload to be tried here.
    let cases = [
        (START, Fault::Hang),
        (START, Fault::Nonsense),
        (SECOND_PART, Fault::Hang),
        (SECOND_PART, Fault::Stall),
        (SECOND_PART, Fault::Reset),
        (SECOND_PART, Fault::Truncated),
        (SECOND_PART, Fault::Nonsense),
        (SECOND_PART, Fault::InternalError),
        (SECOND_PART, Fault::Throttle),
        (SECOND_PART, Fault::Lost),
        (END, Fault::Reset),
        (END, Fault::Truncated),
        (END, Fault::Nonsense),
        (END, Fault::InternalError),
        (END, Fault::Throttle),
    ];
    let tries = cases.map(|(request, fault)| async move {
        let stack = Stack::start().await;
        let layout = Layout::of_layers(&[&vec![7; 8 * 1024 * 1024 + 1]]);
        let proxy = FaultProxy::to(&stack.local.engines.s3_url).await;
        // So often is a request tried.
        proxy.set_on(request, fault, if fault == Fault::Nonsense { 1 } else { 4 });
        let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
        let output = stack.command(&publish).env("AWS_ENDPOINT_URL_S3", &proxy.url).output().await.unwrap();
        assert_refused(&output, 1, &["S3"]);
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{request}, {fault:?}");
        assert_eq!(
            stack.json(&["repository", "list"]).await["repositories"],
            json!([]),
            "{request}, {fault:?}"
        );
        stack.publish(&layout, "app:1").await;
    });
    stream::iter(tries).buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test]
async fn an_upload_whose_answers_are_lost_is_found_to_be_done() {
    for request in ["POST /layergate/layers/000000000000/sha256", "?uploadId="] {
        let stack = Stack::start().await;
        let large = vec![7; 9 * 1024 * 1024];
        let layout = Layout::of_layers(&[&large]);
        let proxy = FaultProxy::to(&stack.local.engines.s3_url).await;
        proxy.set_on(request, Fault::Lost, 3);
        let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
        let output = stack.command(&publish).env("AWS_ENDPOINT_URL_S3", &proxy.url).output().await.unwrap();
        assert!(output.status.success(), "{request}: {}", stderr(&output));
        assert!(!stderr(&output).contains("layergate: "), "no warning: {}", stderr(&output));
        assert_eq!(stack.ask("app", &sha256(&large)).await.status, 200);
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{request}");
    }
}

#[tokio::test]
async fn what_aws_says_of_clocks_and_credentials_is_told_with_what_to_do() {
    let cases: [(&str, &str, Fault, &[&str]); 5] = [
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            "",
            Fault::Answer(
                "400 Bad Request",
                r#"{"__type": "com.amazon.coral.service#ExpiredTokenException",
                    "message": "The security token included in the request is expired"}"#,
            ),
            &["DynamoDB", "ExpiredTokenException", "token included in the request is expired", "renew the"],
        ),
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            "",
            SIGNED_TOO_EARLY,
            &["DynamoDB", "Signature expired: 20260101T000000Z is now earlier", "this machine's clock"],
        ),
        (
            "AWS_ENDPOINT_URL_S3",
            "PUT ",
            Fault::Answer(
                "400 Bad Request",
                "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
            ),
            &["S3", "ExpiredToken", "provided token has expired", "renew the credentials"],
        ),
        (
            "AWS_ENDPOINT_URL_S3",
            "HEAD ",
            Fault::Answer("400 Bad Request", ""),
            &["S3 answered 400", "no reason", "have not expired", "this machine's clock"],
        ),
        (
            "AWS_ENDPOINT_URL_S3",
            "PUT ",
            Fault::Answer(
                "403 Forbidden",
                "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and \
                 the current time is too large.</Message></Error>",
            ),
            &["S3", "RequestTimeTooSkewed", "current time is too large", "this machine's clock"],
        ),
    ];
    for (variable, request, fault, words) in cases {
        let stack = Stack::start().await;
        let engine = if variable.ends_with("S3") { "S3" } else { "DynamoDB" };
        let proxy = FaultProxy::to(url(&stack, engine)).await;
        proxy.set_on(request, fault, usize::MAX);
        let layout = Layout::of_layers(&[b"layer"]);
        let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
        let output = stack.command(&publish).env(variable, &proxy.url).output().await.unwrap();
        assert_refused(&output, 1, words);
    }
}
