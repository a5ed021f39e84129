//! Tags that come from another registry: when it is asked again which images they name.

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use support::{Layout, Recorder, Stack, assert_consistent, headed, image_digest, now};

/// Answers for the tag `1` with this image.
fn tagged(
    layout: &Layout,
    digest: &str,
) -> impl Fn(&Parts) -> Option<Response> + Send + Sync + 'static {
    let (digest, manifest) = (digest.to_owned(), layout.contents()[digest].clone());
    move |request| {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let headers =
            [("docker-content-digest", digest.clone()), ("content-type", media_type.to_owned())];
        request
            .uri
            .path()
            .ends_with("/manifests/1")
            .then(|| (headers, manifest.clone()).into_response())
    }
}

#[tokio::test]
async fn a_tag_is_looked_up_again_once_a_day() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"yesterday's"]);
    let (old, new) = (image_digest(&layout), layout.add_image(&[b"today's"]));
    let new = new["digest"].as_str().unwrap();
    let (registry, upstream) = Recorder::switched(&layout).await;
    stack.rule("hub", &registry.url, &[]).await;
    let repository = "hub/team/app";
    let current = async || {
        let answer = stack.pull("GET", "/v2/hub/team/app/manifests/1").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.headers["docker-content-digest"].clone()
    };
    assert_eq!(current().await, old);

    upstream.set(tagged(&layout, new));
    assert_eq!(current().await, old, "less than a day ago");
    assert_eq!(registry.count(&["HEAD"]), 1);

    stack.age_tag(repository, "1").await;
    upstream.set(|_| Some(headed(503, "x", "x")));
    let since = now();
    assert_eq!(current().await, old, "the upstream is down");
    stack.filled(repository).await; // it is not waited for longer than four seconds
    stack.assert_remembered((repository, "image"), "Unavailable", 15, since).await;
    stack.keep_failures(repository).await;
    let asked = registry.asked();
    assert_eq!(current().await, old);
    let batch = stack.batch_get(repository, "1").await;
    assert_eq!(batch.body["images"][0]["imageId"]["imageDigest"], old);
    assert_eq!(registry.asked(), asked, "a failure is remembered");

    upstream.set(tagged(&layout, new));
    stack.let_fills_pass(repository).await;
    let before = registry.asked().len();
    assert_eq!(current().await, new, "the tag has moved");
    let asked = registry.asked().split_off(before);
    assert_eq!(
        asked,
        ["HEAD /v2/team/app/manifests/1".to_owned(), format!("GET /v2/team/app/manifests/{new}")]
    );
    let by_digest = stack.pull("GET", &format!("/v2/hub/team/app/manifests/{old}")).await;
    assert_eq!(by_digest.status, 200, "the old one stays");
    assert_consistent(&stack, repository).await;

    stack.age_tag(repository, "1").await;
    let before = registry.asked().len();
    let batch = stack.batch_get(repository, "1").await;
    assert_eq!(batch.body["images"][0]["imageId"]["imageDigest"], new, "{batch:?}");
    current().await;
    let asked = registry.asked().split_off(before);
    assert_eq!(asked, ["HEAD /v2/team/app/manifests/1"], "nothing has changed");
}
