//! What a pull costs in requests, and what it is told when an engine breaks or an image is not
//! whole.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;

use support::{
    Answer, Fault, FaultProxy, Layout, Stack, count_requests, pull, registry_event,
    send_with_deadline, sha256, waiting_at,
};

const LAYER: &[u8] = b"a layer that is pulled";

async fn stack() -> (Stack, String) {
    let stack = Stack::start().await;
    let published = stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
    let digest = published["imageDigest"].as_str().unwrap().to_owned();
    (stack, digest)
}

#[tokio::test]
async fn a_pull_asks_dynamodb_once_for_each_answer_s3_once_for_each_manifest_and_kms_once_a_day() {
    let (stack, digest) = stack().await;
    let (dynamodb_url, dynamodb) = count_requests(&stack.local.engines.dynamodb_url).await;
    let (s3_url, s3) = count_requests(&stack.local.engines.s3_url).await;
    let (kms_url, kms) = count_requests(&stack.local.engines.kms_url).await;
    let handler = stack.handler_with(|config| {
        config.dynamodb_endpoint = Some(dynamodb_url);
        config.s3_endpoint = Some(s3_url);
        config.kms_endpoint = Some(kms_url);
    });
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let cases = [
        ("whether this is a registry", "/v2/".to_owned(), 0),
        ("the first manifest: the layout too", "/v2/app/manifests/1".to_owned(), 3),
        ("a manifest by tag", "/v2/app/manifests/1".to_owned(), 2),
        ("a manifest by digest", format!("/v2/app/manifests/{digest}"), 1),
        ("a layer", format!("/v2/app/blobs/{}", sha256(LAYER)), 1),
        ("tags", "/v2/app/tags/list".to_owned(), 1),
        // One of them looks for a pull through cache rule.
        ("what is not there", "/v2/app/manifests/2".to_owned(), 4),
    ];
    for (description, path, requests) in cases {
        let before = dynamodb.load(Ordering::SeqCst);
        pull(&handler, "GET", &path, Some(&authorization)).await;
        assert_eq!(dynamodb.load(Ordering::SeqCst) - before, requests, "{description}");
    }
    assert_eq!(s3.load(Ordering::SeqCst), 1, "the manifest is remembered");
    assert_eq!(kms.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_broken_engine_is_a_fault_in_time_and_the_next_request_works() {
    let (stack, digest) = stack().await;
    const LAMBDA_TIMEOUT: Duration = Duration::from_secs(29); // the template's
    for (engine, url) in
        [("DynamoDB", &stack.local.engines.dynamodb_url), ("KMS", &stack.local.engines.kms_url)]
    {
        for (fault, status, code) in [
            (Fault::Hang, 500, "UNKNOWN"),
            (Fault::Reset, 500, "UNKNOWN"),
            (Fault::Nonsense, 500, "UNKNOWN"),
            (Fault::OtherJson, 500, "UNKNOWN"),
            (Fault::InternalError, 500, "UNKNOWN"),
            (Fault::Throttle, 429, "TOOMANYREQUESTS"),
        ] {
            let proxy = FaultProxy::to(url).await;
            let handler = stack.handler_with_patience(Patience::CLIENT, |config| match engine {
                "KMS" => config.kms_endpoint = Some(proxy.url.clone()),
                _ => config.dynamodb_endpoint = Some(proxy.url.clone()),
            });
            let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
            let ask = async |path: &str| -> Answer {
                let event = registry_event("GET", path, Some(&authorization));
                send_with_deadline(&handler, &event, LAMBDA_TIMEOUT).await
            };
            proxy.set(fault);
            for path in ["/v2/app/manifests/1".to_owned(), format!("/v2/app/manifests/{digest}")] {
                let started = Instant::now();
                let answer = ask(&path).await;
                assert!(
                    started.elapsed() < LAMBDA_TIMEOUT,
                    "{engine} {fault:?}: {:?}",
                    started.elapsed()
                );
                assert_eq!(
                    (answer.status, answer.code()),
                    (status, code),
                    "{engine} {fault:?} {path}"
                );
            }
            proxy.set(Fault::None);
            assert_eq!(ask("/v2/app/manifests/1").await.status, 200, "after {engine}'s {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_image_is_pulled_only_while_it_is_published() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"a layer"]);
    // What a command does to the answer when it waits at each of its requests to DynamoDB.
    for (kind, first, last) in [("publish", 404, 200), ("delete", 200, 404)] {
        let mut seen = Vec::new();
        for step in 1.. {
            let repository = format!("{kind}/{step}");
            let (path, tagged) = (layout.path(), format!("{repository}:1"));
            let publish = ["publish", &path, &tagged];
            stack.json(&["repository", "create", &repository]).await;
            if kind == "delete" {
                stack.json(&publish).await;
            }
            let (dynamodb, arrived, let_go) = waiting_at(step, &stack).await;
            let mut command = match kind {
                "delete" => stack.command(&["image", "delete", &tagged]),
                _ => stack.command(&publish),
            };
            let command = command.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb);
            let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let has_step = tokio::select! {
                _ = running.wait() => false,
                () = arrived.notified() => true,
            };
            seen.push(stack.pull("GET", &format!("/v2/{repository}/manifests/1")).await.status);
            let_go.send(true).unwrap();
            if !has_step {
                break;
            }
            assert!(running.wait().await.unwrap().success());
        }
        assert_eq!((seen[0], seen[seen.len() - 1]), (first, last), "{kind}: {seen:?}");
        let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes, 1, "{kind}: {seen:?}");
        assert!(seen.len() > 5, "{kind}: {seen:?}");
    }
}
