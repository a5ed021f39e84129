//! How AWS is reached: region, credentials, time-outs, and the HTTP client that both SDKs share.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Pinned, so that an upgrade of the SDK does not change a time-out or a checksum unnoticed.
fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Turns off the SDK's own protection against connections that stall. The time-outs of [`Patience`] and of the
/// uploads end such a connection, and the error then says that it was a time-out.
fn no_second_watch() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::disabled()
}

/// An HTTPS client with the root certificates of the system.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Who waits for an answer, which decides how long. By default the SDK waits for ever.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// A client that waits for the function's answer: there is one within 5 s, whatever DynamoDB does.
    Client,
    /// A person at a terminal, perhaps on a slow line, where a page of a listing (up to a megabyte) takes long; or nobody.
    Person,
}

impl Patience {
    fn timeouts(self) -> TimeoutConfig {
        let (connect, attempt, operation) = match self {
            Self::Client => (1000, 1500, 5000),
            Self::Person => (3000, 20_000, 60_000),
        };
        TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(connect))
            .operation_attempt_timeout(Duration::from_millis(attempt))
            .operation_timeout(Duration::from_millis(operation))
            .build()
    }

    fn retries(self) -> RetryConfig {
        match self {
            Self::Client => {
                RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(50))
            }
            Self::Person => RetryConfig::standard().with_max_attempts(4),
        }
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

/// The tool's configuration: region, credentials and endpoints from where the AWS CLI takes them.
pub async fn from_standard_chain() -> SdkConfig {
    aws_config::defaults(behavior_version())
        .http_client(http_client())
        .timeout_config(Patience::Person.timeouts())
        .retry_config(Patience::Person.retries())
        .stalled_stream_protection(no_second_watch())
        .load()
        .await
}
