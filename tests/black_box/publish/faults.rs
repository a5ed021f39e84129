//! Publishing while DynamoDB or S3 breaks, and what the tool says of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::{
    FAULTS, Fault, FaultProxy, Layout, OUTSIDER, SIGNED_TOO_EARLY, Stack, assert_refused, forward,
    is_exhaustive, serve, sha256, stderr,
};

/// How many cases are tried at once: most of the time they wait.
const AT_ONCE: usize = 12;

fn url<'a>(stack: &'a Stack, engine: &str) -> &'a str {
    match engine {
        "S3" => &stack.local.engines.s3_url,
        _ => &stack.local.engines.dynamodb_url,
    }
}

fn variable(engine: &str) -> String {
    format!("AWS_ENDPOINT_URL_{}", engine.to_uppercase())
}

/// A request of a publishing: its engine, what its head has in it, and how many like it come
/// before.
type Step = (&'static str, &'static [&'static str], usize);

const START_OF_UPLOAD: Step = ("S3", &["POST ", "?uploads"], 0);
const END_OF_UPLOAD: Step = ("S3", &["POST ", "?uploadId="], 0);

/// The requests that publish an image of a small and a large layer into a new repository.
const STEPS: [Step; 12] = [
    ("DynamoDB", &["GetItem"], 0),
    ("S3", &["HEAD "], 0),
    ("S3", &["PUT ", "/layers/"], 0),
    START_OF_UPLOAD,
    ("S3", &["PUT ", "partNumber=2"], 0),
    END_OF_UPLOAD,
    ("S3", &["PUT ", "/manifests/"], 0),
    ("DynamoDB", &["TransactWriteItems"], 0), // the repository
    ("DynamoDB", &["TransactWriteItems"], 1), // the image, begun
    ("DynamoDB", &["TransactWriteItems"], 2), // its layers
    ("DynamoDB", &["TransactWriteItems"], 3), // the image, finished
    ("DynamoDB", &["TransactWriteItems"], 4), // the tag
];

/// DynamoDB's way to throttle a transaction.
const THROTTLED_TRANSACTION: Fault = Fault::Answer(
    "400 Bad Request",
    r#"{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled", "CancellationReasons": [{"Code": "None"}, {"Code": "ThrottlingError"}]}"#,
);

#[tokio::test]
async fn publishing_through_a_fault_completes_or_says_so_and_completes_when_run_again() {
    let slow = Fault::Slow(Duration::from_millis(300));
    let faults = [&FAULTS[..], &[Fault::Lost, slow, THROTTLED_TRANSACTION]].concat();
    let cases = STEPS.iter().flat_map(|step| faults.iter().map(move |fault| (*step, *fault)));
    let cases = cases.filter(|(step, fault)| match fault {
        // Waited for too long to be tried here, because S3 may be silent for minutes.
        Fault::Hang | Fault::Stall => *step != END_OF_UPLOAD,
        fault if *fault == THROTTLED_TRANSACTION => step.1 == ["TransactWriteItems"],
        _ => true,
    });
    // The tool waits for a minute until it gives up an engine that says nothing.
    let is_in_sample = |(case, (_, fault)): &(usize, (Step, Fault))| {
        case % 5 == 0 && !matches!(fault, Fault::Hang | Fault::Stall)
    };
    let cases = cases
        .enumerate()
        .filter(|case| is_exhaustive() || is_in_sample(case))
        .map(|(_, case)| case);
    let tries = cases.map(|(step, fault)| async move {
        let case = format!("{step:?}, {fault:?}");
        let (engine, words, passing) = step;
        let stack = Stack::start().await;
        let (small, large) = (b"small".to_vec(), vec![7; 8 * 1024 * 1024 + 1]);
        let layout = Layout::of_layers(&[&small, &large]);
        let proxy = FaultProxy::to(url(&stack, engine)).await;
        let publish = async || {
            let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
            stack.command(&publish).env(variable(engine), &proxy.url).output().await.unwrap()
        };

        // It does not end.
        proxy.set_on(words, passing, fault, usize::MAX);
        let output = publish().await;
        if output.status.success() {
            let is_no_fault = match fault {
                Fault::Lost => step == END_OF_UPLOAD, // what is stored is seen
                Fault::Stall | Fault::Truncated | Fault::Nonsense | Fault::OtherJson => {
                    words == ["HEAD "]
                }
                fault => fault == slow,
            };
            assert!(is_no_fault, "{case}: {}", stderr(&output));
        } else {
            let is_passing =
                [Fault::InternalError, Fault::Throttle, THROTTLED_TRANSACTION].contains(&fault);
            let advice = match fault {
                _ if is_passing => "run it again later",
                Fault::Hang | Fault::Stall => "did not answer in time; check the endpoint",
                _ => "check the endpoint",
            };
            assert_refused(&output, 1, &[engine, advice]);
            let is_unreached = !matches!(fault, Fault::Hang | Fault::Stall);
            assert!(
                is_unreached || !stderr(&output).contains("credentials"),
                "{case}: {}",
                stderr(&output)
            );
            if engine == "S3" {
                for layer in [&small, &large] {
                    assert_eq!(stack.ask("app", &sha256(layer)).await.status, 400, "{case}");
                }
            }
            // Nobody can end an upload whose id was never told; the next publishing finds it.
            if (step, fault) != (START_OF_UPLOAD, Fault::Lost) {
                assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{case}");
            }
        }
        // It passes: what it broke is tried again, or was given up because there was an answer.
        // There is a repository now, unless it is what failed.
        let passing =
            if passing > 0 && words == ["TransactWriteItems"] { passing - 1 } else { passing };
        proxy.set_on(words, passing, fault, 1);
        let output = publish().await;
        if !output.status.success() {
            let is_an_answer = matches!(
                fault,
                Fault::Truncated | Fault::Nonsense | Fault::OtherJson | Fault::Stall
            );
            assert!(is_an_answer, "{case}: not tried again: {}", stderr(&output));
            assert_refused(&output, 1, &[engine]);
            proxy.set(Fault::None);
            let output = publish().await;
            assert!(output.status.success(), "{case}: {}", stderr(&output));
        }
        for layer in [&small, &large] {
            assert_eq!(stack.ask("app", &sha256(layer)).await.status, 200, "{case}");
        }
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{case}");
    });
    stream::iter(tries).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// Sends a request whose body pauses in the middle, and waits for the answer.
async fn send_slowly(engine: &str, request: Request, pause: Duration) {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut text = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut connection = TcpStream::connect(engine.strip_prefix("http://").unwrap()).await.unwrap();
    let (first, rest) = body.split_at(body.len() / 2);
    connection.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    connection.write_all(first).await.unwrap();
    tokio::time::sleep(pause).await;
    // The engine may have ended the connection.
    let _ = connection.write_all(rest).await;
    let _ = connection.read_to_end(&mut Vec::new()).await;
}

/// The second part fails at once, while the first is still on its way. S3 would keep that if it
/// came after the upload was aborted.
#[tokio::test]
async fn an_upload_is_aborted_after_its_parts_have_arrived() {
    const LONGER_THAN_A_USER_WAITS: Duration = Duration::from_secs(6);
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[&vec![7; 9 * 1024 * 1024]]);
    let engine = stack.local.engines.s3_url.clone();
    let (arrived, mut has_arrived) = tokio::sync::watch::channel(false);
    let arrived = Arc::new(arrived);
    let s3 = serve(move |request: Request| {
        let (engine, arrived) = (engine.clone(), arrived.clone());
        async move {
            let client = reqwest::Client::new();
            let part = request.uri().query().and_then(|query| query.split("partNumber=").nth(1));
            match part.and_then(|number| number.chars().next()) {
                Some('1') => {
                    // Whatever becomes of the publisher meanwhile, as on a network.
                    let late = tokio::spawn(async move {
                        send_slowly(&engine, request, LONGER_THAN_A_USER_WAITS).await;
                        arrived.send_replace(true);
                    });
                    late.await.unwrap();
                    StatusCode::OK.into_response()
                }
                Some(_) => "<html>It works!</html>".into_response(),
                None => forward(&client, &engine, request).await,
            }
        }
    });
    let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
    let output =
        stack.command(&publish).env("AWS_ENDPOINT_URL_S3", s3.await).output().await.unwrap();
    assert_refused(&output, 1, &["S3"]);
    has_arrived.wait_for(|has_arrived| *has_arrived).await.unwrap();
    assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_upload_whose_answers_are_lost_is_found_to_be_done() {
    for (_, request, _) in [START_OF_UPLOAD, END_OF_UPLOAD] {
        let stack = Stack::start().await;
        let large = vec![7; 9 * 1024 * 1024];
        let layout = Layout::of_layers(&[&large]);
        let proxy = FaultProxy::to(&stack.local.engines.s3_url).await;
        proxy.set_on(request, 0, Fault::Lost, 3);
        let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
        let output =
            stack.command(&publish).env("AWS_ENDPOINT_URL_S3", &proxy.url).output().await.unwrap();
        assert!(output.status.success(), "{request:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("layergate: "), "no warning: {}", stderr(&output));
        assert_eq!(stack.ask("app", &sha256(&large)).await.status, 200);
        assert_eq!(stack.unfinished_uploads(), Vec::<PathBuf>::new(), "{request:?}");
    }
}

#[tokio::test]
async fn a_slow_line_is_no_fault_to_the_tool() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
    proxy.set(Fault::Slow(Duration::from_secs(2))); // longer than the function would wait
    let mut list = stack.command(&["image", "list", "app"]);
    let output = list.env("AWS_ENDPOINT_URL_DYNAMODB", &proxy.url).output().await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn a_cancelled_transaction_is_told_by_its_reason() {
    let cases: [(Fault, &[&str]); 3] = [
        (
            Fault::Answer(
                "400 Bad Request",
                r#"{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                    "Message": "Transaction cancelled", "CancellationReasons": [{"Code": "None"},
                    {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}]}"#,
            ),
            &[
                "TransactionConflict",
                "Transaction is ongoing for the item",
                "others kept changing the same records",
            ],
        ),
        (THROTTLED_TRANSACTION, &["ThrottlingError", "too much to do"]),
        (
            Fault::Answer(
                "400 Bad Request",
                r#"{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                    "Message": "Transaction cancelled", "CancellationReasons": [
                    {"Code": "ValidationError", "Message": "Item size has exceeded the maximum allowed size"}]}"#,
            ),
            &["ValidationError", "Item size has exceeded", "does not know this error"],
        ),
    ];
    for (fault, words) in cases {
        let stack = Stack::start().await;
        stack.json(&["repository", "create", "app"]).await;
        let proxy = FaultProxy::to(&stack.local.engines.dynamodb_url).await;
        proxy.set_on(&["TransactWriteItems"], 0, fault, usize::MAX);
        let grant = ["repository", "grant", "app", OUTSIDER];
        let output = stack
            .command(&grant)
            .env("AWS_ENDPOINT_URL_DYNAMODB", &proxy.url)
            .output()
            .await
            .unwrap();
        assert_refused(&output, 1, words);
    }
}

#[tokio::test]
async fn what_aws_says_of_clocks_and_credentials_is_told_with_what_to_do() {
    let cases: [(&str, &'static [&'static str], Fault, &[&str]); 5] = [
        (
            "DynamoDB",
            &[],
            Fault::Answer(
                "400 Bad Request",
                r#"{"__type": "com.amazon.coral.service#ExpiredTokenException",
                    "message": "The security token included in the request is expired"}"#,
            ),
            &[
                "DynamoDB",
                "ExpiredTokenException",
                "token included in the request is expired",
                "renew the",
            ],
        ),
        (
            "DynamoDB",
            &[],
            SIGNED_TOO_EARLY,
            &[
                "DynamoDB",
                "Signature expired: 20260101T000000Z is now earlier",
                "this machine's clock",
            ],
        ),
        (
            "S3",
            &["PUT "],
            Fault::Answer(
                "400 Bad Request",
                "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
            ),
            &["S3", "ExpiredToken", "provided token has expired", "renew the credentials"],
        ),
        (
            "S3",
            &["HEAD "],
            Fault::Answer("400 Bad Request", ""),
            &["S3 answered 400", "no reason", "have not expired", "this machine's clock"],
        ),
        (
            "S3",
            &["PUT "],
            Fault::Answer(
                "403 Forbidden",
                "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and \
                 the current time is too large.</Message></Error>",
            ),
            &["S3", "RequestTimeTooSkewed", "current time is too large", "this machine's clock"],
        ),
    ];
    for (engine, request, fault, words) in cases {
        let stack = Stack::start().await;
        let proxy = FaultProxy::to(url(&stack, engine)).await;
        proxy.set_on(request, 0, fault, usize::MAX);
        let layout = Layout::of_layers(&[b"layer"]);
        let publish = ["publish", "--create-repository", &layout.path(), "app:1"];
        let output =
            stack.command(&publish).env(variable(engine), &proxy.url).output().await.unwrap();
        assert_refused(&output, 1, words);
    }
}
