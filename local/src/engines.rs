//! The embedded services of AWS.

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

use super::{GRACE, LocalError, listen, loopback, without_delay};

/// The account that the stack's registry and its callers belong to.
pub const ACCOUNT: &str = "000000000000";

/// The region it says it is in.
pub const REGION: &str = "us-east-1";

/// The same at every start, because the embedded S3 lets only the key that started an upload end
/// it.
pub(super) const ACCESS_KEY_ID: &str = "layergate-local";

/// Long enough for S3 clients at work; a URL from here is of use on this machine only.
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
    /// The secret that S3 verifies signatures with; new at every start.
    pub secret_access_key: String,
    servers: Vec<JoinHandle<()>>,
    /// What the worker is at.
    invocations: TaskTracker,
    stop: CancellationToken,
}

impl Engines {
    /// Starts them on ports that the system picks, with their data in `directory`.
    pub async fn start(directory: &Path) -> Result<Self, LocalError> {
        let failed = |error: &dyn std::fmt::Display| {
            LocalError(format!("cannot use the data in {}: {error}", directory.display()))
        };
        let stop = CancellationToken::new();
        let secret_access_key = Uuid::new_v4().simple().to_string();

        let database = open_database(directory)?;
        let listener = listen(loopback(0)).await?;
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
        std::fs::create_dir_all(&files).map_err(|error| failed(&error))?;
        let objects = Objects::new(files.clone()).map_err(|error| {
            let cause = S3Error::from(error);
            failed(&cause.source().map(ToString::to_string).unwrap_or_default())
        })?;
        let mut service = S3ServiceBuilder::new(objects);
        service.set_route(ListMultipartUploads(files));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, secret_access_key.as_str()));
        let service = service.build();
        let router = Router::new().fallback(move |request| answer(service.clone(), request));
        let (s3_url, s3) = serve(router, &stop, "S3").await?;

        let key = Arc::new(Kms::open(directory)?);
        let router = Router::new().fallback(async move |request| key.answer(request).await);
        let (kms_url, kms) = serve(router, &stop, "KMS").await?;

        let secrets = Arc::new(SecretsManager::new(directory));
        let router = Router::new().fallback(async move |request| secrets.answer(request).await);
        let (secrets_manager_url, secrets_manager) =
            serve_hidden(router, &stop, "Secrets Manager").await?;

        let mut engines = Self {
            dynamodb_url,
            s3_url,
            kms_url,
            secrets_manager_url,
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
        let (lambda_url, lambda) = serve_hidden(router, &engines.stop, "Lambda").await?;
        engines.lambda_url = lambda_url;
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
            // To see at once what was published and deleted.
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

    /// Region and credentials for these engines. They are waited for as a person waits: this
    /// machine may be busy, and no gateway gives up a request.
    pub fn sdk_config(&self) -> SdkConfig {
        self.sdk_config_with(Patience::PERSON)
    }

    /// The same, with another patience.
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

    /// Stops them: what is being fetched and answered gets a little time to end.
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

/// Serves below a path that nobody can guess who may not read the environment file: these two
/// verify no signatures.
async fn serve_hidden(
    router: Router,
    stop: &CancellationToken,
    name: &'static str,
) -> Result<(String, JoinHandle<()>), LocalError> {
    let path = format!("/{}", Uuid::new_v4().simple());
    let (url, server) = serve(Router::new().nest_service(&path, router), stop, name).await?;
    Ok((url + &path, server))
}

/// Serves on a port that the system picks, until `stop` is cancelled. Returns where.
async fn serve(
    router: Router,
    stop: &CancellationToken,
    name: &'static str,
) -> Result<(String, JoinHandle<()>), LocalError> {
    let listener = listen(loopback(0)).await?;
    let url = url(&listener)?;
    let stopped = stop.clone().cancelled_owned();
    let server = tokio::spawn(async move {
        let serving = axum::serve(without_delay(listener), router).with_graceful_shutdown(stopped);
        if let Err(error) = serving.await {
            tracing::error!(%error, "the embedded {name} stopped");
        }
    });
    Ok((url, server))
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

/// Hands a request to the embedded S3.
async fn answer(service: S3Service, request: Request) -> Response {
    let ends_or_starts = matches!(*request.method(), Method::POST | Method::DELETE);
    let mut request = request.map(s3s::Body::http_body_unsync);
    if has_backward_range(request.headers()) {
        request.headers_mut().remove(RANGE);
    }
    let answering = async move { service.call(request).await };
    let answered = match ends_or_starts {
        // What starts, completes or aborts an upload changes several files, and must not stop
        // between them because its client is gone.
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
