//! How AWS is reached: region, credentials, time-outs, and the HTTP client that all SDKs share.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::config::ConfigError;
use crate::proxy::Proxies;

/// Pinned, so that an upgrade of the SDK does not change a time-out or a checksum unnoticed.
fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Turns off the SDK's own protection against connections that stall. The time-outs of [`Patience`]
/// and of the uploads end such a connection, and the error then says that it was a time-out.
fn no_second_watch() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::disabled()
}

const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// An HTTPS client with the root certificates of the system. It connects directly.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(TLS).build_https()
}

/// The same client, but it connects through the proxies that the environment names.
fn http_client_through_proxies() -> Result<SharedHttpClient, ConfigError> {
    let Some(proxies) = Proxies::from_env()? else { return Ok(http_client()) };
    let through_proxies = Builder::new().build_with_connector_fn(|settings, components| {
        let mut builder = Connector::builder().proxy_config(ProxyConfig::from_env());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(TLS).build()
    });
    let (proxies, direct) = (Arc::new(proxies), http_client());
    Ok(SharedHttpClient::new(ProxiedClient { proxies, direct, through_proxies }))
}

/// Connects through a proxy, or directly where [`Proxies`] says so. The SDK's own choice would use
/// a proxy for this machine, too.
#[derive(Debug)]
struct ProxiedClient {
    proxies: Arc<Proxies>,
    direct: SharedHttpClient,
    through_proxies: SharedHttpClient,
}

impl HttpClient for ProxiedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ProxiedConnector {
            proxies: self.proxies.clone(),
            direct: self.direct.http_connector(settings, components),
            through_proxies: self.through_proxies.http_connector(settings, components),
        })
    }
}

#[derive(Debug)]
struct ProxiedConnector {
    proxies: Arc<Proxies>,
    direct: SharedHttpConnector,
    through_proxies: SharedHttpConnector,
}

impl HttpConnector for ProxiedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse();
        match uri.is_ok_and(|uri| self.proxies.for_uri(&uri).is_some()) {
            true => self.through_proxies.call(request),
            false => self.direct.call(request),
        }
    }
}

/// How long an answer of AWS is waited for, which depends on who waits. By default the SDK waits
/// for ever.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How long all attempts together may take.
    pub operation: Duration,
    /// How many attempts there are.
    pub attempts: u32,
    /// The most that the SDK waits before the second attempt. It doubles before each further one.
    pub first_wait: Duration,
}

impl Patience {
    /// That of a client who waits for the function's answer: there is one within 5 s, whatever
    /// DynamoDB does.
    pub const CLIENT: Self = Self {
        connect: Duration::from_secs(1),
        attempt: Duration::from_millis(1500),
        operation: Duration::from_secs(5),
        attempts: 3,
        first_wait: Duration::from_millis(50),
    };

    /// That of a person at a terminal, perhaps on a slow line, where a page of a listing (up to a
    /// megabyte) takes long; or of nobody.
    pub const PERSON: Self = Self {
        connect: Duration::from_secs(3),
        attempt: Duration::from_secs(20),
        operation: Duration::from_secs(60),
        attempts: 4,
        first_wait: Duration::from_secs(1),
    };

    fn timeouts(self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }

    fn retries(self) -> RetryConfig {
        RetryConfig::standard()
            .with_max_attempts(self.attempts)
            .with_initial_backoff(self.first_wait)
    }
}

/// A function's configuration: the credentials of its role, which Lambda puts in the environment.
pub fn from_lambda_environment(region: String, patience: Patience) -> SdkConfig {
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    with_credentials(region, credentials, patience)
}

/// A configuration with given credentials.
pub fn with_credentials(
    region: String,
    credentials: SharedCredentialsProvider,
    patience: Patience,
) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(behavior_version())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .http_client(http_client())
        .timeout_config(patience.timeouts())
        .retry_config(patience.retries())
        .stalled_stream_protection(no_second_watch())
        .build()
}

/// The tool's configuration: region, credentials and endpoints from where the AWS CLI takes them,
/// and the proxies that the environment names.
pub async fn from_standard_chain() -> Result<SdkConfig, ConfigError> {
    Ok(aws_config::defaults(behavior_version())
        .http_client(http_client_through_proxies()?)
        .timeout_config(Patience::PERSON.timeouts())
        .retry_config(Patience::PERSON.retries())
        .stalled_stream_protection(no_second_watch())
        .load()
        .await)
}
