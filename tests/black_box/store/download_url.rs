//! What the URL is, and what S3 makes of it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::PresigningConfig;
use reqwest::{Client, StatusCode, Url};

use support::{Layout, Stack, sha256};

const LAYER: &[u8] = b"0123456789";
const OTHER: &[u8] = b"another layer";

async fn stack_and_url() -> (Stack, String) {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[LAYER, OTHER]), "app:1").await;
    let url = stack.ask("app", &sha256(LAYER)).await.url().to_owned();
    (stack, url)
}

async fn status_of(url: &str) -> StatusCode {
    reqwest::get(url).await.unwrap().status()
}

#[tokio::test]
async fn it_is_signed_for_the_host_alone_and_for_an_hour() {
    let (_stack, url) = stack_and_url().await;
    let url = Url::parse(&url).unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["X-Amz-Algorithm"], "AWS4-HMAC-SHA256");
    assert_eq!(query["X-Amz-SignedHeaders"], "host");
    assert_eq!(query["X-Amz-Expires"], "3600");
    let layer = sha256(LAYER).replace(':', "/");
    assert_eq!(url.path(), format!("/layergate/layers/000000000000/{layer}"));
}

#[tokio::test]
async fn it_gives_the_bytes_and_any_range_of_them() {
    let (_stack, url) = stack_and_url().await;
    let whole = reqwest::get(&url).await.unwrap();
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.bytes().await.unwrap(), LAYER);

    let part = Client::new().get(&url).header("range", "bytes=3-5").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 3-5/10");
    assert_eq!(part.bytes().await.unwrap(), "345");
}

#[tokio::test]
async fn it_is_good_for_nothing_else() {
    let (_stack, url) = stack_and_url().await;
    assert_eq!(status_of(&url).await, 200);

    let head = Client::new().head(&url).send().await.unwrap();
    assert_eq!(head.status(), 403, "HEAD");
    let put = Client::new().put(&url).body("other bytes").send().await.unwrap();
    assert_eq!(put.status(), 403, "PUT");

    let hex = |bytes| sha256(bytes)["sha256:".len()..].to_owned();
    assert_eq!(status_of(&url.replace(&hex(LAYER), &hex(OTHER))).await, 403, "another layer");
    assert_eq!(
        status_of(&url.replace("X-Amz-Expires=3600", "X-Amz-Expires=604800")).await,
        403,
        "a longer life"
    );

    let last = url.chars().last().unwrap();
    let tampered = format!("{}{}", &url[..url.len() - 1], if last == '0' { '1' } else { '0' });
    assert_eq!(status_of(&tampered).await, 403, "another signature");
    let unsigned = url.split('?').next().unwrap();
    assert_eq!(status_of(unsigned).await, 403, "no signature");
}

#[tokio::test]
async fn it_dies_when_it_says() {
    let (stack, url) = stack_and_url().await;
    let key = format!("layers/000000000000/{}", sha256(LAYER).replace(':', "/"));
    // The same signer's URL of two hours ago.
    let s3 = aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::from(&stack.local.engines.sdk_config())
            .endpoint_url(&stack.local.engines.s3_url)
            .build(),
    );
    let signed_ago = async |ago: Duration| {
        let life = PresigningConfig::builder()
            .start_time(SystemTime::now() - ago)
            .expires_in(Duration::from_secs(3600))
            .build()
            .unwrap();
        let request = s3.get_object().bucket("layergate").key(&key).presigned(life).await.unwrap();
        request.uri().to_owned()
    };
    let fresh = signed_ago(Duration::ZERO).await;
    assert_eq!(fresh.split('?').next(), url.split('?').next());
    assert_eq!(status_of(&fresh).await, 200);
    assert_eq!(status_of(&signed_ago(Duration::from_secs(3500)).await).await, 200);
    assert_eq!(status_of(&signed_ago(Duration::from_secs(3700)).await).await, 403);
}

#[tokio::test]
async fn its_life_is_a_setting() {
    let (stack, _) = stack_and_url().await;
    let handler = stack.handler_with(|config| config.url_expiry = Duration::from_secs(60));
    let body =
        serde_json::json!({"repositoryName": "app", "layerDigest": sha256(LAYER)}).to_string();
    let event = support::event(
        support::Shape::Rest,
        Some(support::TARGET),
        body.as_bytes(),
        Some(layergate_local::ACCOUNT),
    );
    let answer = support::send(&handler, &event).await;
    assert!(answer.url().contains("X-Amz-Expires=60&"));
}
