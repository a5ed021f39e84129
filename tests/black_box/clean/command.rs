//! `layergate clean`: what it removes, what it keeps, and that it can be stopped anywhere.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use layergate_core::catalog::Catalog;
use layergate_core::clean::{Cleaning, Freed, Position, Slice};
use layergate_core::store::Store;
use layergate_core::types::RegistryId;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{
    CLEAN, Layout, Stack, age_cleaners_and_intents, assert_consistent, assert_intact,
    assert_pulled, assert_refused, at_each_step, folder, objects, sha256, stderr, waiting_at,
    waiting_at_both,
};

/// A stack with an image that stays, one that was deleted, and one of a repository that was
/// deleted; and what publishing the first one said.
async fn stack_with_garbage() -> (Stack, Value) {
    let stack = Stack::start().await;
    let stays = stack.publish(&Layout::of_layers(&[b"shared", b"stays"]), "app:1").await;
    stack.publish(&Layout::of_layers(&[b"shared", b"deleted"]), "app:2").await;
    stack.publish(&Layout::of_layers(&[b"shared", b"elsewhere"]), "other:1").await;
    stack.json(&["image", "delete", "app:2"]).await;
    stack.json(&["repository", "delete", "--force", "other"]).await;
    (stack, stays)
}

/// What a clean says of that stack. The deleted image has left records of its own layer and
/// configuration; each of the two that are gone has left these two objects and its manifest.
fn assert_all_garbage(cleaned: &Value, dry_run: bool) {
    let expected = json!({
        "registryId": ACCOUNT, "dryRun": dry_run, "objects": 6, "layers": 2, "images": 0, "uploads": 0,
        "bytes": cleaned["bytes"],
    });
    assert_eq!(*cleaned, expected);
    assert!(cleaned["bytes"].as_u64().unwrap() > 1000, "{cleaned}");
}

#[tokio::test]
async fn what_no_image_needs_goes_and_what_is_published_stays() {
    let (stack, stays) = stack_with_garbage().await;
    let given_before = stack.ask("app", &sha256(b"stays")).await;
    let before = [objects(&stack, "layers"), objects(&stack, "manifests")];
    let would_free = stack.json(&[&CLEAN[..], &["--dry-run"]].concat()).await;
    assert_all_garbage(&would_free, true);
    assert_eq!(
        [objects(&stack, "layers"), objects(&stack, "manifests")],
        before,
        "a dry run changes nothing"
    );
    assert_eq!(stack.ask("app", &sha256(b"deleted")).await.error(), "LayerInaccessibleException");

    let cleaned = stack.json(&CLEAN).await;
    assert_all_garbage(&cleaned, false);
    assert_eq!(cleaned["bytes"], would_free["bytes"]);
    assert_eq!((objects(&stack, "layers").len(), objects(&stack, "manifests").len()), (3, 1));
    assert_eq!(stack.ask("app", &sha256(b"deleted")).await.error(), "LayersNotFoundException");
    assert_intact(&stack, &stays, "after cleaning").await;
    assert_pulled(given_before.url(), &sha256(b"stays"), "a URL from before").await;

    let again = stack.json(&CLEAN).await;
    assert_eq!(
        (&again["objects"], &again["bytes"], &again["layers"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let text = stack.layergate(&CLEAN).await;
    let freed = "deleted 0 objects with 0 B, records of 0 layers and 0 unfinished images, and 0 unfinished uploads\n";
    assert_eq!(String::from_utf8_lossy(&text.stdout), freed);
    let republished = stack.publish(&Layout::of_layers(&[b"shared", b"deleted"]), "app:2").await;
    assert_intact(&stack, &republished, "published again").await;
}

#[tokio::test]
async fn what_is_younger_than_it_should_be_stays() {
    let (stack, stays) = stack_with_garbage().await;
    let manifests = objects(&stack, "manifests");
    let cleaned = stack.json(&["clean"]).await;
    assert_eq!(
        (&cleaned["objects"], &cleaned["layers"]),
        (&json!(0), &json!(2)),
        "records have no age"
    );

    let garbage = [("layers", sha256(b"deleted")), ("layers", sha256(b"shared"))];
    for (kind, digest) in &garbage {
        let file = folder(&stack, kind).join(digest.strip_prefix("sha256:").unwrap());
        let eight_days_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
        std::fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(eight_days_ago)
            .unwrap();
    }
    for (age, freed) in [("9d", 0), ("7d", 1), ("7d", 0)] {
        let cleaned = stack.json(&["clean", "--older-than", age]).await;
        assert_eq!(cleaned["objects"], freed, "{age}");
    }
    assert!(!objects(&stack, "layers").contains(&garbage[0].1), "it is old");
    assert_eq!(objects(&stack, "manifests"), manifests, "they are young");
    assert_intact(&stack, &stays, "old and needed").await;
}

#[tokio::test]
async fn what_a_killed_publishing_has_left_goes_when_it_is_old() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"stays"]), "app:1").await;
    let untagged = stack.publish(&Layout::of_layers(&[b"untagged"]), "app").await;
    let large = vec![7; 9 * 1024 * 1024];
    let layout = Layout::empty();
    let image = layout.add_image(&[b"untagged"]);
    let killed = [layout.add_image(&[b"killed"]), image];
    layout.set_index(&[layout.add_index(&killed)]);

    // The index is begun, and its images are published.
    let mut steps = 0;
    loop {
        steps += 1;
        let (dynamodb, arrived, _let_go) = waiting_at(steps, &stack).await;
        let mut publish = stack.command(&["publish", &layout.path(), "app:2"]);
        let publish = publish.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).stdout(Stdio::null());
        let mut publish = publish.stderr(Stdio::null()).spawn().unwrap();
        tokio::select! {
            _ = publish.wait() => panic!("it should never get through"),
            () = arrived.notified() => publish.kill().await.unwrap(),
        }
        let listed = stack.json(&["image", "list", "app"]).await;
        let is_index = |image: &&Value| !image["imageDigests"].as_array().unwrap().is_empty();
        if listed["images"].as_array().unwrap().iter().any(|image| is_index(&image)) {
            break;
        }
    }
    let upload = Layout::of_layers(&[&large]);
    let mut steps = 0;
    while stack.unfinished_uploads().is_empty() {
        steps += 1;
        let (environment, arrived, _let_go) = waiting_at_both(steps, &stack).await;
        let mut publish = stack.command(&["publish", &upload.path(), "app:3"]);
        let mut publish = publish.envs(environment).stderr(Stdio::null()).spawn().unwrap();
        arrived.notified().await;
        publish.kill().await.unwrap();
    }

    let cleaned = stack.json(&CLEAN).await;
    let freed =
        ["objects", "layers", "images", "uploads"].map(|name| cleaned[name].as_u64().unwrap());
    assert_eq!(freed, [0, 0, 0, 0], "their publishings may be at work");

    age_cleaners_and_intents(&stack).await;
    let cleaned = stack.json(&CLEAN).await;
    // The index, with its manifest; and the configuration of the image with the large layer, if it
    // was sent.
    assert_eq!(cleaned["images"], 1, "{cleaned}");
    assert!(cleaned["uploads"].as_u64() >= Some(1), "{cleaned}");
    let listed = stack.json(&["image", "list", "app"]).await;
    let images = listed["images"].as_array().unwrap();
    assert!(images.iter().all(|image| image["imagePushedAt"].is_u64()), "{listed}");
    assert_eq!(images.len(), 3, "the images of the index were published, and stay: {listed}");
    assert_intact(&stack, &untagged, "an image without a tag").await;
    assert!(stack.unfinished_uploads().is_empty());
    let published = stack.publish(&layout, "app:2").await;
    assert_intact(&stack, &published, "published again").await;
}

#[tokio::test]
async fn a_killed_clean_is_completed_by_another() {
    let (stack, stays) = stack_with_garbage().await;
    let data = stack.stop().await;
    at_each_step(0, 20, async |step| {
        let stack = Stack::start_on_copy(&data).await;
        let (environment, arrived, _let_go) = waiting_at_both(step, &stack).await;
        let mut clean = stack.command(&CLEAN);
        let mut clean = clean.envs(environment).stdout(Stdio::null()).spawn().unwrap();
        tokio::select! {
            _ = clean.wait() => return false,
            () = arrived.notified() => clean.kill().await.unwrap(),
        }
        let context = format!("killed at {step}");
        assert_intact(&stack, &stays, &context).await;
        stack.json(&CLEAN).await;
        assert_eq!(
            (objects(&stack, "layers").len(), objects(&stack, "manifests").len()),
            (3, 1),
            "{context}"
        );
        assert_intact(&stack, &stays, &context).await;
        age_cleaners_and_intents(&stack).await;
        let published = stack.publish(&Layout::of_layers(&[b"shared", b"deleted"]), "app:2").await;
        assert_intact(&stack, &published, &context).await;
        true
    })
    .await;
}

#[tokio::test]
async fn a_publishing_waits_for_a_clean_that_was_killed_and_then_says_so() {
    let (stack, stays) = stack_with_garbage().await;
    // The request after the one that claims: the intents are read.
    let mut step = 1;
    while !is_claimed_when_killed_at(step, &stack).await {
        step += 1;
    }
    let layout = Layout::of_layers(&[b"shared", b"deleted"]);
    let path = layout.path();
    let other = Layout::of_layers(&[b"shared", b"stays", b"not claimed"]);
    stack.publish(&other, "app:3").await;
    let publish = ["publish", &path, "app:2"];
    let refused = stack.layergate(&publish).await;
    assert_refused(
        &refused,
        5,
        &["'layergate clean' is removing", "publish again when it has", "minutes"],
    );
    age_cleaners_and_intents(&stack).await;
    let published = stack.json(&publish).await;
    assert_intact(&stack, &published, "the lease has run out").await;
    assert_intact(&stack, &stays, "and the other").await;
}

async fn is_claimed_when_killed_at(step: usize, stack: &Stack) -> bool {
    let (environment, arrived, _let_go) = waiting_at_both(step, stack).await;
    let mut clean = stack.command(&CLEAN);
    let mut clean = clean.envs(environment).stdout(Stdio::null()).spawn().unwrap();
    tokio::select! {
        _ = clean.wait() => panic!("it has claimed nothing"),
        () = arrived.notified() => clean.kill().await.unwrap(),
    }
    let catalog = Catalog::new(&stack.local.engines.sdk_config(), &stack.local.engines.config());
    let registry = RegistryId::parse(ACCOUNT).unwrap();
    let deleted = layergate_core::types::Digest::parse(&sha256(b"deleted")).unwrap();
    let intent = catalog.announce(&registry, [deleted]).await.unwrap();
    let claimed = catalog.wait_for_cleaners(&intent, Duration::ZERO).await.unwrap();
    catalog.retire(&intent).await.unwrap();
    if claimed.is_none() {
        age_cleaners_and_intents(stack).await;
    }
    claimed.is_some()
}

#[tokio::test]
async fn a_publishing_that_was_taken_for_dead_publishes_nothing() {
    let layout = Layout::of_layers(&[b"shared", b"deleted", b"new"]);
    let (stack, stays) = stack_with_garbage().await;
    let data = stack.stop().await;
    at_each_step(0, 20, async |step| {
        let stack = Stack::start_on_copy(&data).await;
        let path = layout.path();
        let publish = ["publish", &path, "app:3"];
        let (environment, arrived, let_go) = waiting_at_both(step, &stack).await;
        let mut slow = stack.command(&publish);
        let mut slow = Box::pin(slow.envs(environment).output());
        tokio::select! {
            _ = &mut slow => return false,
            () = arrived.notified() => {}
        }
        age_cleaners_and_intents(&stack).await;
        stack.json(&CLEAN).await;
        let_go.send(true).unwrap();
        let slow = slow.await.unwrap();
        let context = format!("stopped at {step}: {}", stderr(&slow));
        match slow.status.code() {
            Some(0) => {}
            // With the intent, its unfinished image is gone; it depends on the step which of the
            // two it meets.
            Some(5) => assert!(stderr(&slow).contains("publish again"), "{context}"),
            _ => panic!("{context}"),
        }
        if slow.status.success() {
            assert_eq!(stack.ask("app", &sha256(b"new")).await.status, 200, "{context}");
        }
        assert_consistent(&stack, "app").await;
        let published = stack.json(&publish).await;
        assert_intact(&stack, &published, &context).await;
        assert_intact(&stack, &stays, &context).await;
        true
    })
    .await;
}

#[tokio::test]
async fn a_clean_in_slices_removes_the_same() {
    let (stack, stays) = stack_with_garbage().await;
    stack.publish(&Layout::of_layers(&[b"third"]), "third:1").await;
    let (sdk, config) = (stack.local.engines.sdk_config(), stack.local.engines.config());
    let (catalog, store) = (Catalog::new(&sdk, &config), Store::new(&sdk, &config));
    let registry = RegistryId::parse(ACCOUNT).unwrap();
    let cleaning = Cleaning {
        catalog: &catalog,
        store: &store,
        registry: &registry,
        older_than: Duration::ZERO,
        is_dry_run: false,
    };
    let reports = AtomicUsize::new(0);
    let (mut position, mut slices, mut all) = (Position::default(), 0, Freed::default());
    loop {
        slices += 1;
        let tell = |_| {
            reports.fetch_add(1, Ordering::SeqCst);
        };
        let Slice { freed, next } = cleaning.run(position, &|| true, &tell).await.unwrap();
        all.objects += freed.objects;
        all.layers += freed.layers;
        let Some(next) = next else { break };
        // As it is kept from one invocation to the next.
        position = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
    }
    assert_eq!((all.objects, all.layers), (6, 2));
    assert!(slices > 2 && reports.into_inner() > slices, "{slices}");
    assert_intact(&stack, &stays, "after all slices").await;
}

#[tokio::test]
async fn another_tables_bucket_is_left_alone() {
    let (stack, stays) = stack_with_garbage().await;
    let (other, _) = stack_with_garbage().await;
    other.publish(&Layout::of_layers(&[b"nobody else has this"]), "aaa:1").await;
    let mut clean = stack.command(&CLEAN);
    let clean = clean.env("AWS_ENDPOINT_URL_DYNAMODB", &other.local.engines.dynamodb_url);
    let clean = clean.env("BUCKET_NAME", "another");
    let words = ["belongs to the bucket 'layergate'", "TABLE_NAME", "BUCKET_NAME is 'another'"];
    assert_refused(&clean.output().await.unwrap(), 1, &words);
    assert_intact(&stack, &stays, "untouched").await;
    let new = Stack::start().await;
    assert_eq!(new.json(&CLEAN).await["objects"], 0);
    assert_eq!(
        new.json(&["repository", "list"]).await["repositories"],
        json!([]),
        "a new table is as new"
    );
    let usage = stack.layergate(&["clean", "--older-than", "soon"]).await;
    assert_eq!(usage.status.code(), Some(2));
    assert!(stderr(&usage).contains("such as 90s, 30m, 12h or 7d"), "{}", stderr(&usage));
}
