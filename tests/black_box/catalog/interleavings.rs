//! Each two commands at once, on one repository: one is stopped at each of its requests to DynamoDB
//! while the other runs to its end. What comes of both is what comes of them one after the other,
//! in one of the two orders.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use layergate_core::catalog::{Catalog, NewImage};
use layergate_core::publish::Publishing;
use layergate_core::role::Publisher;
use layergate_core::types::{Digest, ImageTag, RegistryId, Repository};
use serde_json::{Value, json};

use support::{
    Layout, Stack, assert_consistent, between_steps, images_of, is_exhaustive, repository, sha256,
    stderr, steps, waiting_at,
};

/// The layers of all images below.
const LAYERS: [&str; 5] = ["shared", "one", "two", "single", "three"];

/// What the commands publish.
struct Images {
    /// An index of two images.
    one: Layout,
    /// An index that has one image in common with that.
    two: Layout,
    /// An image.
    single: Layout,
    /// Another.
    three: Layout,
}

impl Images {
    fn make() -> Self {
        let index = |layer: &str| {
            let layout = Layout::empty();
            let images = [layout.add_image(&[b"shared"]), layout.add_image(&[layer.as_bytes()])];
            layout.set_index(&[layout.add_index(&images)]);
            layout
        };
        Self {
            one: index("one"),
            two: index("two"),
            single: Layout::of_layers(&[b"single"]),
            three: Layout::of_layers(&[b"three", b"shared"]),
        }
    }

    fn digest_of_single(&self) -> Digest {
        images_of(&self.single).pop().unwrap().digest
    }
}

/// A stack with its catalog at hand, for what comes before and after the commands.
struct Bench {
    stack: Stack,
    catalog: Catalog<Publisher>,
}

impl Bench {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let catalog =
            Catalog::new(&stack.local.engines.sdk_config(), &stack.local.engines.config());
        Self { stack, catalog }
    }

    async fn publish(&self, layout: &Layout, repository: &Repository, tag: &str) {
        let images = images_of(layout);
        let digests = images.iter().flat_map(NewImage::digests);
        let publishing = Publishing::announce(&self.catalog, repository, digests).await.unwrap();
        for image in &images {
            publishing.image(image).await.unwrap();
        }
        let (image, tag) = (&images.last().unwrap().digest, ImageTag::parse(tag).unwrap());
        publishing.tag(image, &tag).await.unwrap();
        publishing.end(false).await.unwrap();
    }
}

type Command = (&'static str, Box<dyn Fn(&str) -> Vec<String> + Sync>);

fn command(description: &'static str, words: &[&str]) -> Command {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let in_repository =
        move |repository: &str| words.iter().map(|word| word.replace("{R}", repository)).collect();
    (description, Box::new(in_repository))
}

/// What can be seen of a repository: its grants, if it exists; its images, finished or not, with
/// their tags; the answer for each layer.
#[derive(Debug, PartialEq, Eq)]
struct State {
    accounts: Option<Vec<String>>,
    images: BTreeMap<String, (bool, Vec<String>)>,
    layers: Vec<String>,
}

async fn state(bench: &Bench, name: &str) -> State {
    let repository = repository(name);
    let record = bench.catalog.repository(&repository).await.unwrap();
    let mut images = BTreeMap::new();
    let mut list = bench.catalog.images(&repository);
    while let Some(image) = list.next().await.unwrap() {
        let tags = image.tags.iter().map(ToString::to_string).collect();
        images.insert(image.digest.to_string(), (image.pushed_at.is_some(), tags));
    }
    let mut layers = Vec::new();
    for layer in LAYERS {
        let answer = bench.stack.ask(name, &sha256(layer.as_bytes())).await;
        let outcome = if answer.status == 200 { "a URL" } else { answer.error() };
        layers.push(format!("{layer}: {outcome}"));
    }
    assert_consistent(&bench.stack, name).await;
    State { accounts: record.map(|record| record.accounts), images, layers }
}

async fn run(stack: &Stack, words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = stack.layergate(&words).await;
    let status = output.status.code();
    assert!([Some(0), Some(4), Some(5)].contains(&status), "{words:?}: {}", stderr(&output));
    status == Some(0)
}

/// Stops the first command at each of its steps, and runs the second one there.
async fn are_serializable(
    case: usize,
    (first, second): (&Command, &Command),
    prepare: &impl AsyncFn(&Bench, &Repository),
) {
    let description = format!("{}, and meanwhile {}", first.0, second.0);
    let bench = Bench::start().await;
    let in_order = async |name: &str, commands: [&Command; 2]| {
        prepare(&bench, &repository(name)).await;
        for (_, words) in commands {
            run(&bench.stack, &words(name)).await;
        }
        state(&bench, name).await
    };
    let forth = in_order("forth", [first, second]).await;
    let back = in_order("back", [second, first]).await;
    for step in steps(case, 5) {
        let name = format!("step-{step}");
        prepare(&bench, &repository(&name)).await;
        let words = [first.1(&name), second.1(&name)];
        let [one, two] =
            words.each_ref().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
        let Some((one, two)) = between_steps(&bench.stack, step, &one, &two).await else { break };
        for output in [&one, &two] {
            let is_known = [Some(0), Some(4), Some(5)].contains(&output.status.code());
            assert!(is_known, "{description}, {name}: {}", stderr(output));
        }
        // What was refused is run again, and comes after the other.
        let refused = [&one, &two].map(|output| !output.status.success());
        for (words, is_refused) in words.iter().zip(refused) {
            if is_refused {
                run(&bench.stack, words).await;
            }
        }
        let expected: &[&State] = match refused {
            [false, false] => &[&forth, &back],
            [true, false] => &[&back],
            [_, true] => &[&forth],
        };
        let state = state(&bench, &name).await;
        assert!(
            expected.contains(&&state),
            "{description}, {name}: {state:#?} is none of {expected:#?}\n{}{}",
            stderr(&one),
            stderr(&two)
        );
    }
}

async fn all_pairs_are_serializable(
    commands: &[Command],
    prepare: impl AsyncFn(&Bench, &Repository),
) {
    const PAIRS_AT_ONCE: usize = 4;
    let pairs =
        commands.iter().flat_map(|first| commands.iter().map(move |second| (first, second)));
    let tries = pairs.enumerate().map(|(case, pair)| are_serializable(case, pair, &prepare));
    stream::iter(tries).buffer_unordered(PAIRS_AT_ONCE).collect::<()>().await;
}

#[tokio::test]
async fn any_two_commands_on_a_repository_with_images() {
    let images = Images::make();
    let [two, single, three] =
        [&images.two, &images.single, &images.three].map(|layout| layout.path());
    let by_digest = format!("{{R}}@{}", images.digest_of_single());
    let commands = [
        command("publish an index that shares an image", &["publish", &two, "{R}:2"]),
        command("publish an image that takes a tag from an index", &["publish", &single, "{R}:1"]),
        command("publish a new image", &["publish", "--create-repository", &three, "{R}:3"]),
        command("delete an index", &["image", "delete", "{R}:1"]),
        command("delete one of an image's tags", &["image", "delete", "{R}:s"]),
        command("delete an image by its digest", &["image", "delete", &by_digest]),
        command(
            "delete the repository with its images",
            &["repository", "delete", "--force", "{R}"],
        ),
    ];
    all_pairs_are_serializable(&commands, async |bench: &Bench, repository: &Repository| {
        bench.catalog.create_repository(repository).await.unwrap();
        bench.publish(&images.one, repository, "1").await;
        bench.publish(&images.single, repository, "s").await;
        bench.publish(&images.single, repository, "t").await;
    })
    .await;
}

#[tokio::test]
async fn any_two_commands_on_a_repository_without_images() {
    let images = Images::make();
    let [two, three] = [&images.two, &images.three].map(|layout| layout.path());
    let commands = [
        command("publish an index", &["publish", &two, "{R}:2"]),
        command(
            "publish an image into a new repository",
            &["publish", "--create-repository", &three, "{R}:3"],
        ),
        command("create the repository", &["repository", "create", "{R}"]),
        command("grant", &["repository", "grant", "{R}", "222222222222"]),
        command("delete the repository", &["repository", "delete", "{R}"]),
        command(
            "delete the repository with its images",
            &["repository", "delete", "--force", "{R}"],
        ),
    ];
    all_pairs_are_serializable(&commands, async |bench: &Bench, repository: &Repository| {
        bench.catalog.create_repository(repository).await.unwrap();
        bench.catalog.grant(repository, &RegistryId::parse("111111111111").unwrap()).await.unwrap();
    })
    .await;
}

/// The one is stopped at a request, the other is killed at one, and the first goes on: what it then
/// says is true.
#[tokio::test]
async fn a_delete_is_not_taken_for_done_because_another_one_was_killed() {
    let bench = &Bench::start().await;
    let layout = &Layout::of_layers(&[b"single"]);
    let deletes: [&[&str]; 2] =
        [&["image", "delete", "{R}:1"], &["repository", "delete", "--force", "{R}"]];
    for (first, second) in [(deletes[0], deletes[1]), (deletes[1], deletes[0])] {
        // Some more than the commands have: those that they have not come to nothing.
        const STEPS: usize = 20;
        let cases = (1..=STEPS).flat_map(|step| (1..=STEPS).map(move |kill| (step, kill)));
        let cases = cases.filter(|(step, kill)| is_exhaustive() || (step + 4 * kill) % 13 == 0);
        let tries = cases.map(|(step, kill)| async move {
            let name = format!("{}/{step}/{kill}", first[0]);
            let words = |words: &[&str]| {
                words.iter().map(|word| word.replace("{R}", &name)).collect::<Vec<_>>()
            };
            let (first, second) = (words(first), words(second));
            bench.catalog.create_repository(&repository(&name)).await.unwrap();
            bench.publish(layout, &repository(&name), "1").await;
            let Some((first, was_killed)) =
                kill_between(&bench.stack, step, &first, kill, &second).await
            else {
                return (step, 0);
            };
            let status = first.status.code();
            assert!([Some(0), Some(4)].contains(&status), "{name}: {}", stderr(&first));
            let answer = bench.stack.ask(&name, &sha256(b"single")).await;
            assert_eq!(answer.status, 400, "{name}: {status:?}, and the layer can be downloaded");
            run(&bench.stack, &second).await;
            (step, if was_killed { kill } else { 0 })
        });
        let reached: Vec<_> = stream::iter(tries).buffer_unordered(4).collect().await;
        let most = |reached: (usize, usize), next: &(usize, usize)| match next {
            (_, 0) => reached,
            (step, kill) => (reached.0.max(*step), reached.1.max(*kill)),
        };
        let (last_step, last_kill) = reached.iter().fold((0, 0), most);
        assert!(
            (5..STEPS).contains(&last_step) && (5..STEPS).contains(&last_kill),
            "{last_step}, {last_kill}"
        );
    }
}

/// Stops `first` at a request, kills `second` at one of its own meanwhile, and lets the first go
/// on. Gives what that says and whether the second was killed; `None` if the first has no such
/// step.
async fn kill_between(
    stack: &Stack,
    step: usize,
    first: &[String],
    kill: usize,
    second: &[String],
) -> Option<(std::process::Output, bool)> {
    let command = |words: &[String], dynamodb: String| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = stack.command(&words);
        command.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb);
        command
    };
    let (dynamodb, arrived, let_go) = waiting_at(step, stack).await;
    let mut first = Box::pin(command(first, dynamodb).output());
    tokio::select! {
        _ = &mut first => return None,
        () = arrived.notified() => {}
    }
    let (dynamodb, arrived, _let_go) = waiting_at(kill, stack).await;
    let mut killed = command(second, dynamodb).stdout(std::process::Stdio::null()).spawn().unwrap();
    let was_killed = tokio::select! {
        _ = killed.wait() => false,
        () = arrived.notified() => {
            killed.kill().await.unwrap();
            true
        }
    };
    let_go.send(true).unwrap();
    Some((first.await.unwrap(), was_killed))
}

#[tokio::test]
async fn twenty_who_publish_and_five_who_delete_all_come_to_their_end() {
    let stack = Stack::start().await;
    let base = b"a layer that all images have";
    for n in 0..5 {
        let layout = Layout::of_layers(&[base, format!("old {n}").as_bytes()]);
        stack.publish(&layout, &format!("busy:old-{n}")).await;
    }
    let layouts: Vec<_> =
        (0..20).map(|n| Layout::of_layers(&[base, format!("new {n}").as_bytes()])).collect();
    let mut commands = Vec::new();
    for (n, layout) in layouts.iter().enumerate() {
        commands.push(vec!["publish".to_owned(), layout.path(), format!("busy:new-{n}")]);
        if n % 4 == 0 {
            commands.push(vec![
                "image".to_owned(),
                "delete".to_owned(),
                format!("busy:old-{}", n / 4),
            ]);
        }
    }
    let runs = commands.iter().map(|words| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let stack = &stack;
        async move { stack.layergate(&words).await }
    });
    for (words, output) in commands.iter().zip(futures_util::future::join_all(runs).await) {
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    }
    let listed = stack.json(&["image", "list", "busy"]).await;
    let mut tags: Vec<_> = listed["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["imageTags"].clone())
        .collect();
    tags.sort_by_key(Value::to_string);
    let mut expected: Vec<_> = (0..20).map(|n| json!([format!("new-{n}")])).collect();
    expected.sort_by_key(Value::to_string);
    assert_eq!(tags, expected);
    for n in 0..20 {
        assert_eq!(stack.ask("busy", &sha256(format!("new {n}").as_bytes())).await.status, 200);
    }
    assert_consistent(&stack, "busy").await;
}
