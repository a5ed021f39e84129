//! A command of the tool that is stopped at one of its requests, its *steps*.

use std::future::ready;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};

use super::{Stack, forward, serve};

/// How many steps of a command are tried at once.
const AT_ONCE: usize = 4;

/// Whether the tests try every case (`make test-exhaustive`), and not a fixed sample of them.
pub fn is_exhaustive() -> bool {
    std::env::var_os("EXHAUSTIVE").is_some()
}

/// The steps of a command that a test tries: each one, or, as a sample, every `stride`th. Cases
/// with different numbers have different samples, so that the cases of a test have all steps among
/// them.
pub fn steps(case: usize, stride: usize) -> impl Iterator<Item = usize> {
    match is_exhaustive() {
        true => (1..).step_by(1),
        false => (1 + case % stride..).step_by(stride),
    }
}

/// Runs `check` for the steps of a command until it says that there is no such step, or for every
/// second one as a sample. The command has at least so many.
pub async fn at_each_step(case: usize, least: usize, check: impl AsyncFn(usize) -> bool) {
    let steps = || steps(case, 2);
    let tries = stream::iter(steps()).map(async |step| check(step).await).buffered(AT_ONCE);
    let tried = tries.take_while(|had_step| ready(*had_step)).count().await;
    let last = steps().take(tried).last().unwrap_or_default();
    assert!(steps().nth(tried).unwrap() > least, "there are only {last} requests");
}

/// Lets a request through that waits at a proxy.
type LetGo = watch::Sender<bool>;

/// A proxy to DynamoDB where the requests from the `step`th on wait: it tells when one has arrived
/// and all earlier ones are answered, and is told to let them go.
pub async fn waiting_at(step: usize, stack: &Stack) -> (String, Arc<Notify>, LetGo) {
    let ([dynamodb], arrived, let_go) =
        waiting_at_any([&stack.local.engines.dynamodb_url], step).await;
    (dynamodb, arrived, let_go)
}

/// The same, with the requests to S3 counted too. Gives the variables that point the tool at both.
pub async fn waiting_at_both(
    step: usize,
    stack: &Stack,
) -> ([(&'static str, String); 2], Arc<Notify>, LetGo) {
    let engines = &stack.local.engines;
    let ([dynamodb, s3], arrived, let_go) =
        waiting_at_any([&engines.dynamodb_url, &engines.s3_url], step).await;
    ([("AWS_ENDPOINT_URL_DYNAMODB", dynamodb), ("AWS_ENDPOINT_URL_S3", s3)], arrived, let_go)
}

/// A request that is not answered yet; nor is it any more when its client has gone away.
struct Unanswered(Arc<watch::Sender<usize>>);

impl Unanswered {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Proxies to engines whose requests are counted together.
async fn waiting_at_any<const N: usize>(
    engines: [&String; N],
    step: usize,
) -> ([String; N], Arc<Notify>, LetGo) {
    let (let_go, may_go) = watch::channel(false);
    let (arrived, requests) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let unanswered = Arc::new(watch::Sender::new(0_usize));
    let mut urls = Vec::new();
    for engine in engines {
        let (is_arrived, client) = (arrived.clone(), reqwest::Client::new());
        let (engine, requests, may_go) = (engine.clone(), requests.clone(), may_go.clone());
        let unanswered = unanswered.clone();
        let url = serve(move |request: Request| {
            let waits = requests.fetch_add(1, Ordering::SeqCst) + 1 >= step;
            let (engine, client) = (engine.clone(), client.clone());
            let (is_arrived, mut may_go) = (is_arrived.clone(), may_go.clone());
            let unanswered = unanswered.clone();
            let is_answered = (!waits).then(|| Unanswered::new(&unanswered));
            async move {
                if waits {
                    unanswered.subscribe().wait_for(|count| *count == 0).await.unwrap();
                    is_arrived.notify_one();
                    may_go.wait_for(|may_go| *may_go).await.unwrap();
                }
                let answer = forward(&client, &engine, request).await;
                drop(is_answered);
                answer
            }
        });
        urls.push(url.await);
    }
    (urls.try_into().unwrap(), arrived, let_go)
}

/// Runs the tool with `first`, and with `second` while the `step`th request of that to DynamoDB
/// waits. `None` if it has no such step.
pub async fn between_steps(
    stack: &Stack,
    step: usize,
    first: &[&str],
    second: &[&str],
) -> Option<(Output, Output)> {
    let (dynamodb, arrived, let_go) = waiting_at(step, stack).await;
    let mut first = stack.command(first);
    let first = first.env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb).output();
    tokio::pin!(first);
    tokio::select! {
        _ = &mut first => None,
        () = arrived.notified() => {
            let second = stack.layergate(second).await;
            let_go.send(true).unwrap();
            Some((first.await.unwrap(), second))
        }
    }
}
