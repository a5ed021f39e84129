//! The AWS SDK's ECR client against the HTTP front: what it makes of each answer.

#[path = "../../../examples/execute_api/signing.rs"]
mod signing;

use std::sync::Arc;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId;
use aws_sdk_ecr::operation::get_download_url_for_layer::{
    GetDownloadUrlForLayerError as Modelled, GetDownloadUrlForLayerOutput,
};
use aws_sdk_ecr::types::{ImageFailureCode, ImageIdentifier, LayerAvailability};
use aws_smithy_http_client::Builder;
use axum::body::Body;
use axum::response::Response;
use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;
use signing::SignForExecuteApi;

use support::{Layout, OUTSIDER, Shape, Stack, TARGET, call, serve, sha256};

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"));
    Client::from_conf(config.build())
}

async fn ask(
    client: &Client,
    repository: &str,
    digest: &str,
) -> Result<GetDownloadUrlForLayerOutput, Modelled> {
    let call = client.get_download_url_for_layer().repository_name(repository).layer_digest(digest);
    call.send().await.map_err(SdkError::into_service_error)
}

#[tokio::test]
async fn the_sdk_understands_every_answer() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"kept"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"deleted"]), "app:2").await;
    stack.json(&["image", "delete", "app:2"]).await;
    let (kept, deleted) = (sha256(b"kept"), sha256(b"deleted"));
    // With a stage's path, as an API of API Gateway's has it.
    let client = client(&format!("{}/Prod", stack.local.url));

    let output = ask(&client, "app", &kept).await.unwrap();
    assert_eq!(output.layer_digest(), Some(kept.as_str()));
    assert_eq!(output.request_id().map(str::len), Some(36), "a UUID");
    let bytes = reqwest::get(output.download_url().unwrap()).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, "kept");

    type Check = fn(&Modelled) -> bool;
    let cases: [(&str, &str, &str, Check); 4] = [
        ("a bad name", "App", &kept, Modelled::is_invalid_parameter_exception),
        ("no repository", "other", &kept, Modelled::is_repository_not_found_exception),
        ("no layer", "app", &sha256(b"unknown"), Modelled::is_layers_not_found_exception),
        ("no image", "app", &deleted, Modelled::is_layer_inaccessible_exception),
    ];
    for (description, repository, digest, is_expected) in cases {
        let error = ask(&client, repository, digest).await.unwrap_err();
        assert!(is_expected(&error), "{description}: {error:?}");
        assert!(!error.message().unwrap_or_default().is_empty(), "{description}");
        assert!(error.request_id().is_some(), "{description}");
    }
}

#[tokio::test]
async fn the_sdk_calls_the_other_operations_too() {
    let stack = Stack::start().await;
    let published = stack.publish(&Layout::of_layers(&[b"one"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"two"]), "app:2").await;
    let digest = published["imageDigest"].as_str().unwrap();
    let client = client(&format!("{}/Prod", stack.local.url));
    let image = |tag: &str| ImageIdentifier::builder().image_tag(tag).build();

    let repositories = client
        .describe_repositories()
        .into_paginator()
        .items()
        .send()
        .collect::<Result<Vec<_>, _>>();
    let repositories = repositories.await.unwrap();
    assert_eq!(
        repositories.iter().map(|found| found.repository_name()).collect::<Vec<_>>(),
        [Some("app")]
    );
    assert!(repositories[0].created_at().unwrap().secs() > 0);

    let pages = client.list_images().repository_name("app").into_paginator().page_size(1);
    let ids = pages.items().send().collect::<Result<Vec<_>, _>>().await.unwrap();
    let mut tags: Vec<_> = ids.iter().filter_map(|id| id.image_tag()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);

    let described =
        client.describe_images().repository_name("app").image_ids(image("1")).send().await.unwrap();
    assert_eq!(described.image_details()[0].image_digest(), Some(digest));
    assert!(described.image_details()[0].image_size_in_bytes().unwrap() > 0);
    let error = client
        .describe_images()
        .repository_name("app")
        .image_ids(image("none"))
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_image_not_found_exception());

    let both = client
        .batch_get_image()
        .repository_name("app")
        .image_ids(image("1"))
        .image_ids(image("none"));
    let both = both.send().await.unwrap();
    assert_eq!(sha256(both.images()[0].image_manifest().unwrap().as_bytes()), digest);
    assert_eq!(both.failures()[0].failure_code(), Some(&ImageFailureCode::ImageNotFound));

    let layers = client
        .batch_check_layer_availability()
        .repository_name("app")
        .layer_digests(sha256(b"one"));
    let layers = layers.send().await.unwrap();
    assert_eq!(layers.layers()[0].layer_availability(), Some(&LayerAvailability::Available));

    let token = client.get_authorization_token().send().await.unwrap();
    assert!(token.authorization_data()[0].authorization_token().is_some());
}

#[tokio::test]
async fn what_the_sdk_has_no_type_for_has_its_code() {
    let stack = Stack::start_as(Some(OUTSIDER)).await;
    let client = client(&stack.local.url);
    let error = ask(&client, "app", &sha256(b"layer")).await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDeniedException"));
    let error = client.describe_registry().send().await.unwrap_err();
    assert_eq!(error.code(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn the_sdk_understands_a_fault() {
    let stack = Stack::start().await;
    let handler = Arc::new(stack.handler_with_patience(Patience::CLIENT, |config| {
        config.table_name = "no-such-table".to_owned()
    }));
    let endpoint = serve(move |_| {
        let handler = handler.clone();
        async move {
            let body = br#"{"repositoryName":"app","layerDigest":"sha256:00"}"#;
            let fault = call(&handler, Shape::Rest, Some(TARGET), body, Some(ACCOUNT)).await;
            let mut response = Response::builder().status(u16::try_from(fault.status).unwrap());
            for (name, value) in &fault.headers {
                response = response.header(name, value);
            }
            response.body(Body::from(fault.body.to_string())).unwrap()
        }
    })
    .await;
    let error = ask(&client(&endpoint), "app", "sha256:00").await.unwrap_err();
    assert!(error.is_server_exception(), "{error:?}");
}

/// A deployed API, called with the credentials of the environment: `make test-deployed`.
#[tokio::test]
#[ignore = "needs a deployed API: make test-deployed API_URL=https://..."]
async fn a_deployed_api_answers_as_the_local_one() {
    let url = std::env::var("API_URL").unwrap();
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(layergate_core::aws::http_client())
        .load()
        .await;
    let config =
        aws_sdk_ecr::config::Builder::from(&sdk).endpoint_url(url).interceptor(SignForExecuteApi);
    let client = Client::from_conf(config.build());

    let error = ask(&client, "App", "sha256:00").await.unwrap_err();
    assert!(error.is_invalid_parameter_exception(), "{error:?}");
    let error =
        ask(&client, "layergate/there-is-no-such-repository", "sha256:00").await.unwrap_err();
    assert!(error.is_repository_not_found_exception(), "{error:?}");
}
