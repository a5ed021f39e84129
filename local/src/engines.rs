//! The embedded services of AWS.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use dynoxide::DynoxideError;
use http::header::RANGE;
use http::{HeaderMap, Method, StatusCode};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, S3Error};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::kms::{self, Kms};
use super::lambda::{self, Lambda};
use super::s3::Objects;
use super::secrets::SecretsManager;
use super::uploads::ListMultipartUploads;
use layergate_core::aws::{self, Patience};
use layergate_core::catalog::{Catalog, create_table_if_missing};
use layergate_core::config::{Authorization, Config, ManifestHead};
use layergate_core::fault::Fault;
use layergate_core::role::Publisher;
use layergate_core::store::create_bucket_if_missing;
use layergate_core::types::RegistryId;
use layergate_upstream::Http;
use layergate_worker::Worker;

use super::{GRACE, LocalError, PATIENCE, listen, loopback, serve, write_private};

/// The account that the stack's registry and its callers belong to.
pub const ACCOUNT: &str = "000000000000";

/// The stack's region.
pub const REGION: &str = "us-east-1";

/// The same at every start: the embedded S3 lets only the key that started an upload complete it.
pub(super) const ACCESS_KEY_ID: &str = "layergate-local";

/// Long, because a URL of the local stack works only on this machine.
const URL_EXPIRY: Duration = Duration::from_secs(3600);

/// An embedded DynamoDB, S3, KMS, Secrets Manager and Lambda, with their table, bucket, key and
/// worker.
#[derive(Debug)]
pub struct Engines {
    /// The endpoint of DynamoDB.
    pub dynamodb_url: String,
    /// The endpoint of S3.
    pub s3_url: String,
    /// The endpoint of KMS.
    pub kms_url: String,
    /// The endpoint of Secrets Manager.
    pub secrets_manager_url: String,
    /// The endpoint of Lambda, which has the worker.
    pub lambda_url: String,
    /// The secret that S3 verifies signatures with.
    pub secret_access_key: String,
    servers: Vec<JoinHandle<()>>,
    /// The events that the worker is handling.
    invocations: TaskTracker,
    stop: CancellationToken,
}

impl Engines {
    /// Starts them with their data in `directory`, on the ports from `first_port` on; 0 lets the
    /// system pick all of them.
    pub(super) async fn start(directory: &Path, first_port: u16) -> Result<Self, LocalError> {
        let failed = |error: &dyn std::fmt::Display| {
            LocalError(format!("cannot use the data in {}: {error}", directory.display()))
        };
        let stop = CancellationToken::new();
        let secret_access_key = secret(directory, "secret_access_key")?;
        // The embedded Secrets Manager and Lambda verify no signatures. So their URLs have a path
        // that only readers of the environment file know.
        let hidden_path = format!("/{}", secret(directory, "hidden_path")?);
        let port = |number: u16| match first_port {
            0 => 0,
            first => first.saturating_add(number),
        };

        let database = open_database(directory)?;
        let listener = listen(loopback(port(0))).await?;
        let dynamodb_url = url(&listener)?;
        let stopped = stop.clone().cancelled_owned();
        let dynamodb = tokio::spawn(async move {
            if let Err(error) =
                dynoxide::server::serve_with_shutdown(listener, database, stopped).await
            {
                tracing::error!(error, "the embedded DynamoDB stopped");
            }
        });

        let files = directory.join("s3");
        fs::create_dir_all(&files).map_err(|error| failed(&error))?;
        let objects = Objects::new(files.clone()).map_err(|error| {
            let cause = S3Error::from(error);
            failed(&cause.source().map(ToString::to_string).unwrap_or_default())
        })?;
        let mut service = S3ServiceBuilder::new(objects);
        service.set_route(ListMultipartUploads(files));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, secret_access_key.as_str()));
        let service = service.build();
        let router = Router::new().fallback(move |request| answer(service.clone(), request));
        let (s3_url, s3) = start(port(1), router, &stop).await?;

        let key = Arc::new(Kms::open(directory)?);
        let router = Router::new().fallback(async move |request| key.answer(request).await);
        let (kms_url, kms) = start(port(2), router, &stop).await?;

        let secrets = Arc::new(SecretsManager::new(directory));
        let router = Router::new().fallback(async move |request| secrets.answer(request).await);
        let router = Router::new().nest_service(&hidden_path, router);
        let (secrets_manager_url, secrets_manager) = start(port(3), router, &stop).await?;

        let mut engines = Self {
            dynamodb_url,
            s3_url,
            kms_url,
            secrets_manager_url: secrets_manager_url + &hidden_path,
            lambda_url: String::new(),
            secret_access_key,
            servers: vec![dynamodb, s3, kms, secrets_manager],
            invocations: TaskTracker::new(),
            stop,
        };
        // The user's machine may need a proxy to reach other registries.
        let worker = Worker::new(&engines.sdk_config(), &engines.config(), Http::through_proxies);
        let lambda = Lambda::new(worker, engines.invocations.clone(), engines.stop.clone());
        let router = Router::new().fallback(async move |request| lambda.answer(request).await);
        let router = Router::new().nest_service(&hidden_path, router);
        let (lambda_url, lambda) = start(port(4), router, &engines.stop).await?;
        engines.lambda_url = lambda_url + &hidden_path;
        engines.servers.push(lambda);

        let (sdk, config) = (engines.sdk_config(), engines.config());
        let made = async {
            create_table_if_missing(&sdk, &config).await?;
            let catalog = Catalog::<Publisher>::new(&sdk, &config);
            catalog.check_layout(&config.default_registry_id).await?;
            create_bucket_if_missing(&sdk, &config).await
        };
        match made.await {
            Ok(()) => Ok(engines),
            Err(fault @ Fault::ForeignTable { .. }) => Err(failed(&format!("{fault}; {NEW_DATA}"))),
            Err(fault) => Err(failed(&format!("{}; {NEW_DATA}", fault.with_causes()))),
        }
    }

    /// The settings of a function on these engines.
    pub fn config(&self) -> Config {
        Config {
            table_name: "layergate".to_owned(),
            bucket_name: "layergate".to_owned(),
            default_registry_id: RegistryId::parse(ACCOUNT).expect("it has twelve digits"),
            url_expiry: URL_EXPIRY,
            // So that a publish or a deletion takes effect at once.
            cache_life: Duration::ZERO,
            authorization: Authorization::Iam,
            manifest_head: ManifestHead::Answer,
            token_key_id: Some(kms::KEY_ID.to_owned()),
            dynamodb_endpoint: Some(self.dynamodb_url.clone()),
            s3_endpoint: Some(self.s3_url.clone()),
            kms_endpoint: Some(self.kms_url.clone()),
            worker_function_name: Some(lambda::FUNCTION_NAME.to_owned()),
            lambda_endpoint: Some(self.lambda_url.clone()),
            secrets_manager_endpoint: Some(self.secrets_manager_url.clone()),
        }
    }

    /// Region and credentials for these engines, with a person's patience: this machine may be
    /// busy, and no gateway ends a request.
    pub fn sdk_config(&self) -> SdkConfig {
        self.sdk_config_with(Patience::PERSON)
    }

    /// The same with another patience.
    pub fn sdk_config_with(&self, patience: Patience) -> SdkConfig {
        let credentials = Credentials::new(
            ACCESS_KEY_ID,
            self.secret_access_key.as_str(),
            None,
            None,
            "layergate local",
        );
        let credentials = SharedCredentialsProvider::new(credentials);
        aws::with_credentials(REGION.to_owned(), credentials, patience)
    }

    /// Stops them. The worker's fetches and the open requests get a little time to end.
    pub async fn stop(self) {
        self.invocations.close();
        let _ = tokio::time::timeout(GRACE, self.invocations.wait()).await;
        self.stop.cancel();
        for mut server in self.servers {
            if tokio::time::timeout(GRACE, &mut server).await.is_err() {
                server.abort();
            }
        }
    }
}

/// What to do with a directory that the stack cannot use.
const NEW_DATA: &str = "choose another --data, or delete it and publish again";

/// Opens the embedded DynamoDB's file in `directory`. For a file that is no database, the library's
/// error gives advice to programmers.
fn open_database(directory: &Path) -> Result<dynoxide::Database, LocalError> {
    let path = directory.join("dynamodb.sqlite");
    dynoxide::Database::new(&path.to_string_lossy()).map_err(|error| {
        let path = path.display();
        LocalError(match error {
            DynoxideError::InternalServerError(_) => format!("{path} is damaged; {NEW_DATA}"),
            error => format!("cannot use {path}: {error}; {NEW_DATA}"),
        })
    })
}

/// A secret in `directory`, created if it is missing. It stays the same at the next start, so that
/// a shell need not read the environment file again.
fn secret(directory: &Path, name: &str) -> Result<String, LocalError> {
    let path = directory.join(name);
    if !path.exists() {
        write_private(&path, &Uuid::new_v4().simple().to_string())?;
    }
    fs::read_to_string(&path)
        .map_err(|error| LocalError(format!("cannot read {}: {error}", path.display())))
}

/// Serves on a port until `stop` is cancelled. Returns the URL.
async fn start(
    port: u16,
    router: Router,
    stop: &CancellationToken,
) -> Result<(String, JoinHandle<()>), LocalError> {
    let listener = listen(loopback(port)).await?;
    let url = url(&listener)?;
    Ok((url, tokio::spawn(serve(listener, router, PATIENCE, stop.clone()))))
}

fn url(listener: &tokio::net::TcpListener) -> Result<String, LocalError> {
    let address = listener.local_addr().map_err(|error| LocalError(error.to_string()))?;
    Ok(format!("http://{address}"))
}

/// Whether a request wants a range whose last byte comes before its first. S3 ignores such a range,
/// and the embedded one refuses it.
/// Source: [RFC 9110, section 14.1.1](https://www.rfc-editor.org/rfc/rfc9110#section-14.1.1).
fn has_backward_range(headers: &HeaderMap) -> bool {
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let ends = range.and_then(|range| range.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    ends.is_some_and(|(first, last): (u64, u64)| last < first)
}

/// Passes a request to the embedded S3.
async fn answer(service: S3Service, request: Request) -> Response {
    let ends_or_starts = matches!(*request.method(), Method::POST | Method::DELETE);
    let mut request = request.map(s3s::Body::http_body_unsync);
    if has_backward_range(request.headers()) {
        request.headers_mut().remove(RANGE);
    }
    let answering = async move { service.call(request).await };
    let answered = match ends_or_starts {
        // To start, complete or abort an upload, S3 changes several files. It must not stop between
        // them because the client is gone.
        true => tokio::spawn(answering)
            .await
            .unwrap_or_else(|error| Err(HttpError::new(Box::new(error)))),
        false => answering.await,
    };
    match answered {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::error!(?error, "the embedded S3 failed");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
