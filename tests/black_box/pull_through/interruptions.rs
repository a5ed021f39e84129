//! The pull-through cache beside what else happens to a registry: killed workers, deletions,
//! cleaning and publishing.

use std::collections::HashSet;
use std::time::Duration;

use axum::response::IntoResponse;

use layergate_core::role::Puller;
use layergate_core::types::{
    Digest, ImageId, ImageTag, RegistryId, Repository, RepositoryName, Wanted,
};
use layergate_local::ACCOUNT;
use serde_json::json;

use support::{
    CLEAN, Gate, Layout, Recorder, RuntimeApi, Stack, age_cleaners_and_intents, assert_consistent,
    at_each_step, cached, image_digest, rows, sha256, steps, waiting_at_both, worker,
};

const REPOSITORY: &str = "hub/team/app";

/// A layout of one image or of an index of two, with layers of their own.
fn layout(is_index: bool, name: &str) -> Layout {
    let layout = Layout::empty();
    let [one, another] = [format!("{name}, one"), format!("{name}, another")];
    let image = layout.add_image(&[one.as_bytes()]);
    let root = match is_index {
        true => layout.add_index(&[image, layout.add_image(&[one.as_bytes(), another.as_bytes()])]),
        false => image,
    };
    layout.set_index(&[root]);
    layout
}

#[tokio::test]
async fn a_worker_killed_at_any_request_leaves_nothing_that_does_not_heal() {
    let stack = &Stack::start().await;
    let kinds = [("image", 0, 9), ("index", 1, 9), ("layer", 2, 5)];
    let killed = kinds.map(|(kind, case, least)| {
        Box::pin(at_each_step(case, least, async |step| kill_worker(stack, kind, step).await))
    });
    futures_util::future::join_all(killed).await;

    // What the killed ones have announced and never ended does not keep a cleaner from its work for
    // ever, and it takes nothing that is needed.
    age_cleaners_and_intents(stack).await;
    stack.json(&CLEAN).await;
    for (kind, case, _) in kinds {
        let repository = format!("{kind}{}/team/app", steps(case, 2).next().unwrap());
        stack.pull_image(&repository, "1").await;
        assert_consistent(stack, &repository).await;
    }
}

/// Has a worker fetch something, kills it when its `step`th request has arrived, and pulls the
/// image. `false` if it has no such step.
async fn kill_worker(stack: &Stack, kind: &str, step: usize) -> bool {
    let prefix = format!("{kind}{step}");
    let repository = format!("{prefix}/team/app");
    let layout = layout(kind == "index", &prefix);
    let registry = Recorder::registry(&layout, |_| None).await;
    stack.rule(&prefix, &registry.url, &[]).await;
    let layer = sha256(format!("{prefix}, one").as_bytes());
    let (wanted, name, value) = match kind {
        "layer" => {
            assert_eq!(
                stack.pull("GET", &format!("/v2/{repository}/manifests/1")).await.status,
                200
            );
            (Wanted::Layer(Digest::parse(&layer).unwrap()), "layerDigest", layer.as_str())
        }
        _ => (Wanted::Image(ImageId::Tag(ImageTag::parse("1").unwrap())), "imageTag", "1"),
    };
    let of = Repository {
        registry: RegistryId::parse(ACCOUNT).unwrap(),
        name: RepositoryName::parse(&repository).unwrap(),
    };
    let lease_id = stack.catalog::<Puller>().lease(&of, &wanted).await.unwrap().unwrap();
    let event = json!({"fill": {
        "registryId": ACCOUNT, "repositoryName": repository, "leaseId": lease_id.to_string(), name: value,
    }});

    let (environment, arrived, _let_go) = waiting_at_both(step, stack).await;
    let mut api = RuntimeApi::with_timeout(Duration::from_secs(900)).await;
    let mut process = worker(stack, &api).envs(environment).spawn().unwrap();
    let is_killed = tokio::select! {
        answer = api.invoke(event) => {
            assert_eq!(answer.0, "response", "{prefix}");
            false
        }
        () = arrived.notified() => true,
    };
    process.kill().await.unwrap();

    stack.let_fills_pass(&repository).await;
    let pulled: HashSet<_> = stack.pull_image(&repository, "1").await.into_iter().collect();
    assert_eq!(pulled, layout.contents().into_keys().collect(), "{prefix}");
    assert!(!stack.is_filling(&repository).await, "{prefix}");
    assert_consistent(stack, &repository).await;
    is_killed
}

#[tokio::test]
async fn an_image_that_is_deleted_while_its_layer_is_fetched_stays_deleted() {
    for cleans_meanwhile in [false, true] {
        let (layout, gate) = (Layout::of_layers(&[b"layer"]), Gate::closed());
        let body = gate.clone();
        let registry = Recorder::registry(&layout, move |request| {
            request.uri.path().contains("/blobs/").then(|| body.body(b"layer").into_response())
        });
        let (registry, stack) = (registry.await, Stack::start().await);
        stack.rule("hub", &registry.url, &[]).await;
        stack.batch_get(REPOSITORY, "1").await;
        let digest = sha256(b"layer");
        let deleting = async {
            while registry.count(&["/blobs/"]) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stack.json(&["image", "delete", "hub/team/app:1"]).await;
            if cleans_meanwhile {
                stack.json(&CLEAN).await;
            }
            gate.open();
            stack.filled(REPOSITORY).await;
        };
        let (asked, ()) = tokio::join!(stack.ask(REPOSITORY, &digest), deleting);
        assert_ne!(asked.status, 200, "{asked:?}");
        let gone = stack.ask(REPOSITORY, &digest).await;
        let errors = ["LayerInaccessibleException", "LayersNotFoundException"];
        assert!(errors.contains(&gone.error()), "{gone:?}");
        assert_consistent(&stack, REPOSITORY).await;
        stack.json(&CLEAN).await;
        assert_eq!(stack.ask(REPOSITORY, &digest).await.error(), "LayersNotFoundException");
        assert_eq!(registry.count(&["/blobs/"]), 1);
        let left = rows(&stack, REPOSITORY).await.into_keys().map(|(pk, _)| pk);
        assert_eq!(left.collect::<Vec<_>>(), [format!("repository#{ACCOUNT}/{REPOSITORY}")]);
    }
}

#[tokio::test]
async fn cleaning_keeps_what_images_name_and_nobody_has_pulled() {
    let layout = layout(true, "index");
    let (registry, stack) = cached(&layout).await;
    // An index, one of its images, and no layer.
    stack.batch_get(REPOSITORY, "1").await;
    let contents = layout.contents();
    let index: serde_json::Value =
        serde_json::from_slice(&contents[&image_digest(&layout)]).unwrap();
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(stack.pull("GET", &format!("/v2/{REPOSITORY}/manifests/{image}")).await.status, 200);
    let before = rows(&stack, REPOSITORY).await;
    let cleaned = stack.json(&CLEAN).await;
    assert_eq!(
        (&cleaned["layers"], &cleaned["images"], &cleaned["objects"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(rows(&stack, REPOSITORY).await, before);
    assert_consistent(&stack, REPOSITORY).await;

    let pulled: HashSet<_> = stack.pull_image(REPOSITORY, "1").await.into_iter().collect();
    assert_eq!(pulled, contents.into_keys().collect());
    stack.json(&CLEAN).await;
    let asked = registry.asked();
    stack.pull_image(REPOSITORY, "1").await;
    assert_eq!(registry.asked(), asked);
}

#[tokio::test]
async fn deleting_what_was_never_pulled_whole_leaves_nothing() {
    let stack = Stack::start().await;
    let layout = layout(true, "index");
    let registry = Recorder::registry(&layout, |_| None).await;
    stack.rule("hub", &registry.url, &[]).await;
    let contents = layout.contents();
    let index: serde_json::Value =
        serde_json::from_slice(&contents[&image_digest(&layout)]).unwrap();
    let image = index["manifests"][1]["digest"].as_str().unwrap();
    for pulls_one in [false, true] {
        for deletes_repository in [false, true] {
            let context =
                format!("one is here: {pulls_one}, the repository goes: {deletes_repository}");
            stack.batch_get(REPOSITORY, "1").await;
            if pulls_one {
                let answer =
                    stack.pull("GET", &format!("/v2/{REPOSITORY}/manifests/{image}")).await;
                assert_eq!(answer.status, 200, "{context}: {answer:?}");
            }
            assert_consistent(&stack, REPOSITORY).await;
            match deletes_repository {
                true => stack.json(&["repository", "delete", "--force", REPOSITORY]).await,
                false => stack.json(&["image", "delete", "hub/team/app:1"]).await,
            };
            stack.json(&CLEAN).await;
            let left: Vec<_> =
                rows(&stack, REPOSITORY).await.into_keys().map(|(pk, _)| pk).collect();
            let repository =
                (!deletes_repository).then(|| format!("repository#{ACCOUNT}/{REPOSITORY}"));
            assert_eq!(left, Vec::from_iter(repository), "{context}");
        }
    }
    // And it can be pulled again.
    stack.pull_image(REPOSITORY, "1").await;
    assert_consistent(&stack, REPOSITORY).await;
}

#[tokio::test]
async fn what_is_published_is_stored_whatever_came_from_an_upstream() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"shared", b"upstream's"]);
    let registry = Recorder::registry(&layout, |_| None).await;
    stack.rule("hub", &registry.url, &[]).await;
    stack.batch_get(REPOSITORY, "1").await;
    stack.publish(&Layout::of_layers(&[b"shared", b"own"]), "hub/team/app:own").await;
    stack.ask_and_download(REPOSITORY, b"shared", "published").await;
    assert_eq!(registry.count(&["/blobs/"]), 0);

    // It stays so when the upstream's image goes, and comes again.
    for _ in 0..2 {
        stack.json(&["image", "delete", "hub/team/app:1"]).await;
        stack.ask_and_download(REPOSITORY, b"shared", "without the other").await;
        stack.batch_get(REPOSITORY, "1").await;
        stack.ask_and_download(REPOSITORY, b"shared", "imported again").await;
        assert_consistent(&stack, REPOSITORY).await;
    }
    assert_eq!(registry.count(&["/blobs/"]), 0);
    stack.ask_and_download(REPOSITORY, b"upstream's", "the other layer").await;
    assert_eq!(registry.count(&["/blobs/"]), 1);

    // A tag that was given here is not the upstream's.
    stack.publish(&Layout::of_layers(&[b"own"]), "hub/team/app:1").await;
    let asked = registry.asked();
    stack.pull_image(REPOSITORY, "1").await;
    assert_eq!(registry.asked(), asked);
}
