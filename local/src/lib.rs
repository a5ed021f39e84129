//! The whole stack in one process on loopback: an embedded DynamoDB, S3, KMS and Secrets Manager
//! with their data in a directory, an embedded Lambda that runs the worker, and a stand-in for API
//! Gateway that calls the function's own handler.

mod aws_json;
mod engines;
mod gateway;
mod guard;
mod kms;
mod lambda;
mod proxy;
mod s3;
mod secrets;
mod server;
mod uploads;

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use layergate::access::token::Tokens;
use layergate::lambda::Handler;
use layergate::service::Service;
use layergate_core::types::AccountId;
use layergate_push::Pusher;

use gateway::Gateway;
use server::serve;

pub use engines::{ACCOUNT, Engines, REGION};
pub use proxy::{Proxy, ProxyOptions};

/// The highest port at which a stack can listen: its engines have the five next ports.
pub const HIGHEST_PORT: u16 = u16::MAX - 5;

/// How long open connections may take to end when the stack stops.
const GRACE: Duration = Duration::from_secs(2);

/// How long a client may take to send the head or the body of a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the stack cannot start: a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LocalError(String);

/// The options of a stack.
#[derive(Debug, Default)]
pub struct Options {
    /// Its port on 127.0.0.1, at most [`HIGHEST_PORT`]. The engines have the next ports. 0 lets the
    /// system pick all of them.
    pub port: u16,
    /// The account of all callers; `None` for the registry's own account.
    pub caller: Option<AccountId>,
    /// Whether clients have to log in to the registry.
    pub login: bool,
    /// How long a client may take to send the head or the body of a request; `None` for a minute.
    pub patience: Option<Duration>,
}

/// A running stack.
#[derive(Debug)]
pub struct LocalStack {
    /// The API's URL, for an ECR client's endpoint.
    pub url: String,
    /// The file with `export` lines, with which the tool and the AWS CLI use this stack.
    pub environment_file: PathBuf,
    /// Its AWS services.
    pub engines: Engines,
    gateway: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    /// Locked while the stack uses the data.
    _lock: File,
}

impl LocalStack {
    /// Starts the stack with its data in `directory`, which is created if it is missing.
    pub async fn start(directory: &Path, options: Options) -> Result<Self, LocalError> {
        let lock = lock(directory)?;
        let listener = listen(loopback(options.port)).await?;
        let first_port = options.port.saturating_add(u16::from(options.port > 0));
        let engines = Engines::start(directory, first_port).await?;
        let address = listener.local_addr().map_err(|error| LocalError(error.to_string()))?;
        let url = format!("http://{address}");

        let sdk = engines.sdk_config();
        let mut config = engines.config();
        if options.login {
            // After a login, clients send their credentials again if a redirect leads to the same
            // host name. S3 refuses a request with two kinds of credentials.
            config.s3_endpoint = Some(engines.s3_url.replace("127.0.0.1", "localhost"));
        }
        let handler = Handler::new(Service::new(&sdk, &config), config.authorization);
        let patience = options.patience.unwrap_or(PATIENCE);
        let stop = CancellationToken::new();
        let gateway = Gateway {
            handler,
            pusher: Pusher::new(&sdk, &config, true),
            url: url.clone(),
            caller: options.caller.unwrap_or_else(|| config.default_registry_id.clone()),
            login: if options.login { Tokens::new(&sdk, &config) } else { None },
            registry: config.default_registry_id,
            answers_ecr: true,
            patience,
        };
        let gateway = tokio::spawn(serve(listener, gateway.router(), patience, stop.clone()));

        let environment_file = directory.join("local.env");
        write_private(&environment_file, &environment(&engines, &url))?;
        Ok(Self { url, environment_file, engines, gateway, stop, _lock: lock })
    }

    /// Stops it, after the open requests have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut gateway = self.gateway;
        if tokio::time::timeout(GRACE, &mut gateway).await.is_err() {
            gateway.abort();
        }
        self.engines.stop().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, LocalError> {
    TcpListener::bind(address).await.map_err(|error| {
        LocalError(format!(
            "cannot listen on {address}: {error}; choose another --port, or 0 for any free ones"
        ))
    })
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What the runtime tells a function about an invocation.
fn context(timeout: Duration) -> Context {
    let deadline = SystemTime::now() + timeout;
    let since_1970 = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut context = Context::default();
    context.request_id = Uuid::new_v4().to_string();
    context.deadline = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    context
}

fn lock(directory: &Path) -> Result<File, LocalError> {
    if directory.is_file() {
        let directory = directory.display();
        return Err(LocalError(format!(
            "{directory} is a file, not a folder; choose another --data"
        )));
    }
    let failed = |error| LocalError(format!("cannot use {}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::create(directory.join("lock")).map_err(failed)?;
    file.try_lock().map_err(|_| {
        LocalError(format!(
            "{} is in use by another local stack; stop that one, or choose another --data",
            directory.display()
        ))
    })?;
    Ok(file)
}

/// The shell commands that set the variables for this stack, and unset those for other places.
fn environment(engines: &Engines, url: &str) -> String {
    let config = engines.config();
    let variables = [
        ("AWS_ACCESS_KEY_ID", engines::ACCESS_KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", engines.secret_access_key.clone()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", engines.dynamodb_url.clone()),
        ("AWS_ENDPOINT_URL_S3", engines.s3_url.clone()),
        ("AWS_ENDPOINT_URL_KMS", engines.kms_url.clone()),
        ("AWS_ENDPOINT_URL_LAMBDA", engines.lambda_url.clone()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", engines.secrets_manager_url.clone()),
        ("AWS_ENDPOINT_URL_ECR", url.to_owned()),
        ("API_URL", url.to_owned()),
        ("TABLE_NAME", config.table_name),
        ("BUCKET_NAME", config.bucket_name),
        ("DEFAULT_REGISTRY_ID", config.default_registry_id.to_string()),
        ("TOKEN_KEY_ID", config.token_key_id.unwrap_or_default()),
        ("WORKER_FUNCTION_NAME", config.worker_function_name.unwrap_or_default()),
    ];
    let mut lines =
        "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_IGNORE_CONFIGURED_ENDPOINT_URLS\n".to_owned();
    for (name, value) in variables {
        lines += &format!("export {name}={value}\n");
    }
    lines
}

/// Writes a file that nobody else may read.
fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| LocalError(format!("cannot write {}: {error}", path.display())))
}
