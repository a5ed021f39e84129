//! What the tests share: a stack of their own each, and calls through every shape of event.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod clean;
mod faults;
mod images;
mod lambda;
mod layout;
mod local_process;
mod mistakes;
mod programs;
mod proxy;
mod pull_through;
mod push;
mod registry;
mod runtime_api;
mod steps;
mod stub_registry;
mod table;
mod tls;
pub mod upstream;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lambda_runtime::{Context, LambdaEvent};
use layergate::lambda::Handler;
use layergate::service::Service;
use layergate_core::aws::Patience;
use layergate_core::config::Config;
use layergate_local::{ACCOUNT, LocalStack, Options};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

pub use clean::{CLEAN, assert_intact, assert_pulled, folder, objects};
pub use faults::{FAULTS, Fault, FaultProxy, SIGNED_TOO_EARLY};
pub use images::{images_of, repository};
pub use lambda::{Delivery, Lambda};
pub use layout::{Layout, sha256};
pub use local_process::{layergate, start_local, start_local_at, start_local_with, stop_local};
pub use mistakes::{Mistakes, mistake, with};
pub use programs::{program, tool};
pub use proxy::{ForwardProxy, count_requests, forward, nobody_listens, serve};
pub use pull_through::{cached, image_digest, now, secret, verified};
pub use push::{Pushed, Registry};
pub use registry::{pull, registry_event};
pub use runtime_api::{RuntimeApi, as_lambda_starts, end_worker, worker};
pub use steps::{at_each_step, between_steps, is_exhaustive, steps, waiting_at, waiting_at_both};
pub use stub_registry::{Gate, Recorder, Switch, breaking, headed};
pub use table::{age_cleaners_and_intents, all_rows, assert_consistent, rows};
pub use tls::TlsServer;

pub const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer";

/// An account that has nothing to do with the registry's.
pub const OUTSIDER: &str = "111111111111";

/// A local stack with a folder of its own.
pub struct Stack {
    pub local: LocalStack,
    pub handler: Handler,
    pub folder: TempDir,
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_as(None).await
    }

    /// Calls over HTTP come from `caller`.
    pub async fn start_as(caller: Option<&str>) -> Self {
        let caller =
            caller.map(|account| layergate_core::types::AccountId::parse(account).unwrap());
        Self::start_in(tempfile::tempdir().unwrap(), Options { caller, ..Options::default() }).await
    }

    /// Clients have to log in to the registry.
    pub async fn start_with_login() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Options { login: true, ..Options::default() })
            .await
    }

    /// Starts on a copy of the data of a stack that was stopped.
    pub async fn start_on_copy(data: &TempDir) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(data.path(), folder.path());
        Self::start_in(folder, Options::default()).await
    }

    /// Stops it; gives its data.
    pub async fn stop(self) -> TempDir {
        self.local.stop().await;
        self.folder
    }

    async fn start_in(folder: TempDir, options: Options) -> Self {
        let local = LocalStack::start(folder.path(), options).await.unwrap();
        let handler = handler(&local, &local.engines.config(), Patience::PERSON);
        Self { local, handler, folder }
    }

    /// A handler on this stack's engines with other settings.
    pub fn handler_with(&self, change: impl FnOnce(&mut Config)) -> Handler {
        self.handler_with_patience(Patience::PERSON, change)
    }

    /// The same, with another patience with the engines.
    pub fn handler_with_patience(
        &self,
        patience: Patience,
        change: impl FnOnce(&mut Config),
    ) -> Handler {
        let mut config = self.local.engines.config();
        change(&mut config);
        handler(&self.local, &config, patience)
    }

    /// Runs the tool against this stack.
    pub async fn layergate(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// The tool, about to run against this stack.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool());
        command.args(arguments).envs(self.environment()).kill_on_drop(true);
        command
    }

    /// What `local.env` exports.
    pub fn environment(&self) -> HashMap<String, String> {
        let text = std::fs::read_to_string(&self.local.environment_file).unwrap();
        let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Publishes a layout; gives what the tool printed.
    pub async fn publish(&self, layout: &Layout, reference: &str) -> Value {
        self.json(&["publish", "--create-repository", &layout.path(), reference]).await
    }

    /// Runs the tool, which must succeed, and gives its JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.layergate(&[&["--output", "json"], arguments].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asks for a layer's URL as a member of the registry's account, through a REST event.
    pub async fn ask(&self, repository: &str, digest: &str) -> Answer {
        let body = json!({"repositoryName": repository, "layerDigest": digest}).to_string();
        call(&self.handler, Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT)).await
    }

    /// Calls an operation as a member of an account, through an event of this shape.
    pub async fn call(
        &self,
        shape: Shape,
        operation: &str,
        members: &Value,
        caller: &str,
    ) -> Answer {
        let target = TARGET.replace("GetDownloadUrlForLayer", operation);
        call(&self.handler, shape, Some(&target), members.to_string().as_bytes(), Some(caller))
            .await
    }

    /// Calls an operation, which must succeed, as a member of the registry's account; gives the
    /// answer's body.
    pub async fn ok(&self, operation: &str, members: Value) -> Value {
        let answer = self.call(Shape::Rest, operation, &members, ACCOUNT).await;
        answer.assert_well_formed();
        assert_eq!(answer.status, 200, "{operation} {members}: {answer:?}");
        answer.body
    }

    /// The file of the embedded S3 that is a layer's object.
    pub fn object_of(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        let layers = self.folder.path().join("s3/layergate/layers").join(ACCOUNT);
        layers.join(algorithm).join(hex)
    }

    /// All files of the embedded S3 whose names begin so: how it keeps uploads that were not ended.
    pub fn unfinished_uploads(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("s3")).unwrap();
        let names = files.map(|file| file.unwrap().path());
        names
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".upload"))
            .collect()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

fn handler(local: &LocalStack, config: &Config, patience: Patience) -> Handler {
    Handler::new(
        Service::new(&local.engines.sdk_config_with(patience), config),
        config.authorization,
    )
}

/// The shapes of events.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Rest,
    Http,
    Url,
}

pub const SHAPES: [Shape; 3] = [Shape::Rest, Shape::Http, Shape::Url];

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u64,
    pub headers: HashMap<String, String>,
    pub body: Value,
    /// The body, byte for byte.
    pub text: String,
}

impl Answer {
    /// The error's name, after checking that both places for it agree.
    pub fn error(&self) -> &str {
        let name = self.body["__type"].as_str().unwrap_or_default();
        let header = self.headers.get("x-amzn-errortype").map(String::as_str).unwrap_or_default();
        assert_eq!(name, header, "{self:?}");
        name
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        self.body["downloadUrl"].as_str().unwrap_or_else(|| panic!("no URL: {self:?}"))
    }

    /// What every answer must be, whatever it says.
    pub fn assert_well_formed(&self) {
        assert_eq!(self.headers["content-type"], "application/x-amz-json-1.1", "{self:?}");
        assert_eq!(self.headers["x-amzn-requestid"], REQUEST_ID, "{self:?}");
        match self.status {
            200 => {
                assert!(self.body.is_object() && self.body["__type"].is_null(), "{self:?}");
                assert!(!self.headers.contains_key("x-amzn-errortype"), "{self:?}");
            }
            400 | 500 => {
                assert!(self.error().ends_with("Exception"), "{self:?}");
                assert_eq!(self.status == 500, self.error() == "ServerException", "{self:?}");
                assert!(!self.message().is_empty(), "{self:?}");
                assert_eq!(self.body.as_object().unwrap().len(), 2, "{self:?}");
            }
            _ => panic!("{self:?}"),
        }
    }
}

pub const REQUEST_ID: &str = "5f1e1a0c-7d32-4b6e-9f55-0f6f5f2a8e11";

/// Calls the handler as API Gateway or a Function URL would. `caller` is the account of the IAM
/// identity.
pub async fn call(
    handler: &Handler,
    shape: Shape,
    target: Option<&str>,
    body: &[u8],
    caller: Option<&str>,
) -> Answer {
    send(handler, &event(shape, target, body, caller)).await
}

pub fn event(shape: Shape, target: Option<&str>, body: &[u8], caller: Option<&str>) -> Value {
    let text = std::str::from_utf8(body).ok().filter(|_| matches!(shape, Shape::Rest));
    let is_base64_encoded = text.is_none();
    let body = text.map_or_else(|| BASE64_STANDARD.encode(body), str::to_owned);
    let arn = caller.map(|account| format!("arn:aws:iam::{account}:user/puller"));
    match shape {
        Shape::Rest => json!({
            "resource": "/", "path": "/", "httpMethod": "POST",
            "headers": target.map(|target| json!({"X-Amz-Target": target})),
            "requestContext": {
                "accountId": "222222222222", "httpMethod": "POST", "path": "/Prod", "stage": "Prod",
                "identity": {"accountId": caller, "userArn": arn, "sourceIp": "203.0.113.7"},
            },
            "body": body, "isBase64Encoded": is_base64_encoded,
        }),
        Shape::Http | Shape::Url => {
            let iam = caller.map(|caller| json!({"iam": {"accountId": caller, "userArn": arn}}));
            let mut event = json!({
                "version": "2.0", "routeKey": "$default", "rawPath": "/", "rawQueryString": "",
                "headers": target.map(|target| json!({"x-amz-target": target})),
                "requestContext": {
                    "accountId": "222222222222", "stage": "$default",
                    "http": {"method": "POST", "path": "/", "protocol": "HTTP/1.1"},
                },
                "body": body, "isBase64Encoded": is_base64_encoded,
            });
            if let Some(iam) = iam {
                event["requestContext"]["authorizer"] = iam;
            }
            if matches!(shape, Shape::Url) {
                event["requestContext"]["domainName"] = "abc.lambda-url.us-east-1.on.aws".into();
            }
            event
        }
    }
}

/// Hands an event to the handler, with time enough.
pub async fn send(handler: &Handler, event: &Value) -> Answer {
    send_with_deadline(handler, event, Duration::from_secs(30)).await
}

pub async fn send_with_deadline(handler: &Handler, event: &Value, time: Duration) -> Answer {
    let deadline = (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap();
    let mut context = Context::default();
    context.request_id = REQUEST_ID.to_owned();
    context.deadline = u64::try_from(deadline.as_millis()).unwrap();
    // Boxed, because many of them at once would be too large for a test's stack.
    let event = LambdaEvent::new(to_raw_value(event).unwrap(), context);
    let Ok(response) = Box::pin(handler.handle(event)).await;
    answer(&serde_json::to_value(response).unwrap())
}

/// Reads the JSON that the function gives the gateway.
pub fn answer(response: &Value) -> Answer {
    let headers = response["headers"].as_object().unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned()));
    Answer {
        status: response["statusCode"].as_u64().unwrap(),
        headers: headers.collect(),
        text: response["body"].as_str().unwrap().to_owned(),
        body: match response["body"].as_str().unwrap() {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap(),
        },
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that the tool failed as it should: an exit status, one sentence that has all of `words`,
/// and nothing on standard output.
pub fn assert_refused(output: &Output, status: i32, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    let complaint: Vec<_> = said.lines().filter(|line| line.starts_with("layergate: ")).collect();
    assert_eq!(complaint.len(), 1, "{said}");
    for word in words {
        assert!(complaint[0].contains(word), "'{word}' is not in: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
    assert!(output.stdout.is_empty());
}

/// A file or a folder of the source.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// The sample image.
pub fn sample() -> PathBuf {
    source("examples/hello-image")
}
