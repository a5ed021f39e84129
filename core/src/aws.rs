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

/// Turns off the SDK's own protection against connections that stall. The time-outs of [`Patience`]
/// and of the uploads end such a connection, and the error then says that it was a time-out.
fn no_second_watch() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::disabled()
}

/// An HTTPS client with the root certificates of the system.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
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

/// The tool's configuration: region, credentials and endpoints from where the AWS CLI takes them.
pub async fn from_standard_chain() -> SdkConfig {
    aws_config::defaults(behavior_version())
        .http_client(http_client())
        .timeout_config(Patience::PERSON.timeouts())
        .retry_config(Patience::PERSON.retries())
        .stalled_stream_protection(no_second_watch())
        .load()
        .await
}
