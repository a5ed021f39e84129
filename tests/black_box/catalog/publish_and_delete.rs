//! Publishing and deleting at once: whatever is told to be published is there, whichever step of
//! the one the other comes between.

use std::process::Stdio;

use layergate_core::catalog::Catalog;
use serde_json::json;

use support::{Layout, Stack, at_each_step, between_steps, repository, sha256, stderr, waiting_at};

/// The request of a publishing after the one that begins the first image: the table's layout, the
/// repository, the cleaners and the image are read before that, and the intent is written.
const FIRST_STEP_AFTER_BEGIN: usize = 7;

/// The request of a deletion by a tag after the one that marks the image: the table's layout, the
/// tag, the image, its tags and its indexes are read before that.
const FIRST_STEP_AFTER_MARK: usize = 7;

/// An index of an image with this layer and one that is `shared`.
fn index(layer: &str) -> Layout {
    let layout = Layout::empty();
    let images = [layout.add_image(&[b"shared"]), layout.add_image(&[layer.as_bytes()])];
    layout.set_index(&[layout.add_index(&images)]);
    layout
}

#[tokio::test]
async fn what_is_published_while_something_else_is_deleted_is_all_there() {
    let stack = Stack::start().await;
    let cases = [
        (
            "an index that shares an image with the deleted one",
            index("one"),
            index("two"),
            ["shared", "two"],
        ),
        ("another tag of the deleted image", index("two"), index("two"), ["shared", "two"]),
    ];
    for (case, (description, one, two, layers)) in cases.iter().enumerate() {
        for deletes_first in [true, false] {
            at_each_step(case, 5, async |step| {
                let repository = format!("case-{case}/{deletes_first}/{step}");
                let (tag_one, tag_two) = (format!("{repository}:1"), format!("{repository}:2"));
                stack.publish(one, &tag_one).await;
                let delete = ["image", "delete", &tag_one];
                let path = two.path();
                let publish = ["publish", &path, &tag_two];
                let outputs = match deletes_first {
                    true => between_steps(&stack, step, &delete, &publish).await,
                    false => between_steps(&stack, step, &publish, &delete)
                        .await
                        .map(|(published, deleted)| (deleted, published)),
                };
                let Some((deleted, published)) = outputs else { return false };
                assert!(deleted.status.success(), "{description}: {}", stderr(&deleted));
                if !published.status.success() {
                    assert_eq!(published.status.code(), Some(5), "{}", stderr(&published));
                    assert!(stderr(&published).contains("being deleted"), "{}", stderr(&published));
                    stack.publish(two, &tag_two).await;
                }
                let listed = stack.json(&["image", "list", &repository]).await;
                let images = listed["images"].as_array().unwrap();
                assert_eq!(images.len(), 3, "{description}, {repository}: {listed}");
                let are_published = images.iter().all(|image| image["imagePushedAt"].is_u64());
                assert!(are_published, "{description}, {repository}: {listed}");
                for layer in layers {
                    let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                    assert_eq!(answer.status, 200, "{description}, {repository}, {layer}");
                }

                stack.json(&["image", "delete", &tag_two]).await;
                let listed = stack.json(&["image", "list", &repository]).await;
                assert_eq!(
                    listed["images"],
                    json!([]),
                    "{description}, {repository}: nothing is left behind"
                );
                for layer in layers {
                    let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                    assert_eq!(
                        answer.error(),
                        "LayerInaccessibleException",
                        "{repository}, {layer}"
                    );
                }
                true
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_is_deleted_while_something_else_is_deleted_leaves_nothing_behind() {
    let stack = Stack::start().await;
    let cases = [
        ("indexes that share an image", index("one"), index("two")),
        ("the last two tags of an image", index("one"), index("one")),
    ];
    for (case, (description, one, two)) in cases.iter().enumerate() {
        at_each_step(case, 3, async |step| {
            let repository = format!("deletes-{case}/{step}");
            let (tag_one, tag_two) = (format!("{repository}:1"), format!("{repository}:2"));
            stack.publish(one, &tag_one).await;
            stack.publish(two, &tag_two).await;
            let deletes = [["image", "delete", &tag_one], ["image", "delete", &tag_two]];
            let Some((first, second)) = between_steps(&stack, step, &deletes[0], &deletes[1]).await
            else {
                return false;
            };
            assert!(
                first.status.success() && second.status.success(),
                "{description}: {}",
                stderr(&first)
            );
            let listed = stack.json(&["image", "list", &repository]).await;
            assert_eq!(listed["images"], json!([]), "{description}, {repository}");
            let answer = stack.ask(&repository, &sha256(b"shared")).await;
            assert_eq!(answer.error(), "LayerInaccessibleException", "{description}, {repository}");
            true
        })
        .await;
    }
}

#[tokio::test]
async fn a_repository_is_deleted_whole_whatever_happens_meanwhile() {
    let stack = Stack::start().await;
    let (one, two) = (index("one"), index("two"));
    let path = two.path();
    for (case, (is_first, is_second)) in
        [(true, false), (false, true), (true, true)].into_iter().enumerate()
    {
        at_each_step(case, 5, async |step| {
            let repository = format!("whole-{case}/{step}");
            let (tag_one, tag_two) = (format!("{repository}:1"), format!("{repository}:2"));
            stack.publish(&one, &tag_one).await;
            let delete = ["repository", "delete", "--force", &repository];
            let publish = ["publish", "--create-repository", &path, &tag_two];
            let command = |deletes| if deletes { &delete } else { &publish };
            let (first, second) = (command(is_first), command(is_second));
            let Some(outputs) = between_steps(&stack, step, first, second).await else {
                return false;
            };
            for output in [outputs.0, outputs.1] {
                let status = output.status.code();
                let may_be = [Some(0), Some(4), Some(5)];
                assert!(may_be.contains(&status), "{repository}: {}", stderr(&output));
            }

            let output = stack.layergate(&delete).await;
            assert!(
                [Some(0), Some(4)].contains(&output.status.code()),
                "{repository}: {}",
                stderr(&output)
            );
            stack.json(&["repository", "create", &repository]).await;
            let listed = stack.json(&["image", "list", &repository]).await;
            assert_eq!(listed["images"], json!([]), "{repository}");
            for layer in ["shared", "one", "two"] {
                let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
                assert_eq!(answer.error(), "LayersNotFoundException", "{repository}, {layer}");
            }
            true
        })
        .await;
    }
}

/// The same image is published twice at once and deleted in between: what is told to be published
/// is there.
#[tokio::test]
async fn an_image_that_was_begun_anew_is_not_taken_for_the_one_before() {
    let stack = Stack::start().await;
    let layout = index("one");
    let path = layout.path();
    at_each_step(0, 5, async |step| {
        let repository = format!("anew/{step}");
        let (tag_one, tag_two) = (format!("{repository}:1"), format!("{repository}:2"));
        stack.publish(&layout, &tag_one).await;
        let (dynamodb, arrived, let_go) = waiting_at(step, &stack).await;
        let mut slow = stack.command(&["publish", &path, &tag_two]);
        let slow = slow.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).output();
        tokio::pin!(slow);
        tokio::select! {
            _ = &mut slow => return false,
            () = arrived.notified() => {}
        }
        stack.json(&["image", "delete", &tag_one]).await;
        // Begun anew, and killed right after that.
        let (dynamodb, begun, _let_go) = waiting_at(FIRST_STEP_AFTER_BEGIN, &stack).await;
        let mut killed = stack.command(&["publish", &path, &tag_one]);
        let killed = killed.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).stderr(Stdio::null());
        let mut killed = killed.stdout(Stdio::null()).spawn().unwrap();
        begun.notified().await;
        killed.kill().await.unwrap();
        let_go.send(true).unwrap();
        let published = slow.await.unwrap();
        if !published.status.success() {
            assert_eq!(published.status.code(), Some(5), "{}", stderr(&published));
            stack.publish(&layout, &tag_two).await;
        }
        let listed = stack.json(&["image", "list", &repository]).await;
        let images = listed["images"].as_array().unwrap();
        assert_eq!(images.len(), 3, "{repository}: {listed}");
        assert!(
            images.iter().all(|image| image["imagePushedAt"].is_u64()),
            "{repository}: {listed}"
        );
        assert!(
            images.iter().any(|image| image["imageTags"] == json!(["2"])),
            "{repository}: {listed}"
        );
        for layer in ["shared", "one"] {
            let answer = stack.ask(&repository, &sha256(layer.as_bytes())).await;
            assert_eq!(answer.status, 200, "{repository}, {layer}");
        }
        true
    })
    .await;
}

/// Of three deletes of the same name, the first lags behind the second, and between those the image
/// comes back.
#[tokio::test]
async fn a_delete_that_lags_behind_harms_no_later_one() {
    let stack = Stack::start().await;
    let layout = index("own");
    at_each_step(1, 5, async |step| {
        let tagged = format!("lag/{step}:1");
        stack.publish(&layout, &tagged).await;
        let delete = async |dynamodb: String| {
            let mut delete = stack.command(&["image", "delete", &tagged]);
            delete.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).output().await.unwrap()
        };
        let (dynamodb, arrived, let_first_go) = waiting_at(step, &stack).await;
        let mut first = Box::pin(delete(dynamodb));
        tokio::select! {
            _ = &mut first => return false,
            () = arrived.notified() => {}
        }
        stack.layergate(&["image", "delete", &tagged]).await;
        stack.publish(&layout, &tagged).await;
        let (dynamodb, arrived, let_third_go) = waiting_at(FIRST_STEP_AFTER_MARK, &stack).await;
        let mut third = Box::pin(delete(dynamodb));
        tokio::select! {
            third = &mut third => panic!("{}", stderr(&third)),
            () = arrived.notified() => {}
        }
        let_first_go.send(true).unwrap();
        first.await;
        let_third_go.send(true).unwrap();
        third.await;

        let listed = stack.json(&["image", "list", &format!("lag/{step}")]).await;
        assert_eq!(listed["images"], json!([]), "{tagged}");
        for layer in ["shared", "own"] {
            let answer = stack.ask(&format!("lag/{step}"), &sha256(layer.as_bytes())).await;
            assert_eq!(answer.error(), "LayerInaccessibleException", "{tagged}, {layer}");
        }
        true
    })
    .await;
}

#[tokio::test]
async fn a_delete_that_was_killed_is_completed_when_run_again() {
    let stack = Stack::start().await;
    let layout = index("own");
    let commands: [&[&str]; 2] = [&["image", "delete"], &["repository", "delete", "--force"]];
    for (case, command) in commands.into_iter().enumerate() {
        at_each_step(case, 5, async |step| {
            let repository = format!("{}/{step}", command[0]);
            let tagged = format!("{repository}:1");
            stack.publish(&layout, &tagged).await;
            let delete =
                [command, &[if command[0] == "image" { &tagged } else { &repository }]].concat();
            let (dynamodb, arrived, _let_go) = waiting_at(step, &stack).await;
            let mut killed = stack.command(&delete);
            let killed = killed.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).stdout(Stdio::null());
            let mut killed = killed.spawn().unwrap();
            tokio::select! {
                _ = killed.wait() => return false,
                () = arrived.notified() => killed.kill().await.unwrap(),
            }
            let listed = stack.json(&["image", "list", &repository]).await;
            let published = listed["images"].as_array().unwrap().iter();
            let published = published.filter(|image| image["imagePushedAt"].is_u64());
            for digest in published.flat_map(|image| image["layerDigests"].as_array().unwrap()) {
                let answer = stack.ask(&repository, digest.as_str().unwrap()).await;
                assert_eq!(answer.status, 200, "{command:?}, {step}: {answer:?}");
            }

            stack.json(&delete).await;
            let answer = stack.ask(&repository, &sha256(b"own")).await;
            if command[0] == "image" {
                let listed = stack.json(&["image", "list", &repository]).await;
                assert_eq!(listed["images"], json!([]), "{command:?}, {step}");
                assert_eq!(answer.error(), "LayerInaccessibleException", "{command:?}, {step}");
            } else {
                assert_eq!(answer.error(), "RepositoryNotFoundException", "{command:?}, {step}");
            }
            stack.publish(&layout, &tagged).await;
            true
        })
        .await;
    }
}

/// The SDK draws the tokens of transactions from a generator that it seeds by the clock. Here both
/// seeds are the same, as they are once in a while of two programs that start in the same moment.
#[tokio::test]
async fn two_that_start_in_the_same_moment_both_write() {
    let stack = Stack::start().await;
    for name in ["one", "another"] {
        let catalog =
            Catalog::new(&stack.local.engines.sdk_config(), &stack.local.engines.config());
        let create = async |name: String| catalog.create_repository(&repository(&name)).await;
        // So that both do the same from here on.
        assert!(create(format!("{name}/first")).await.unwrap());
        fastrand::seed(7);
        assert!(create(format!("{name}/second")).await.unwrap());
    }
}
