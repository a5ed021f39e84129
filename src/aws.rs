//! How AWS is reached: region, credentials and the HTTP client that both SDKs share.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Pinned, so that an upgrade of the SDK changes no timeout or checksum unseen.
fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// An HTTPS client with the root certificates of the system.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The function's: its role's credentials, which Lambda puts in the environment.
pub fn from_lambda_environment(region: String) -> SdkConfig {
    with_credentials(region, SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
}

/// For given credentials.
pub fn with_credentials(region: String, credentials: SharedCredentialsProvider) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(behavior_version())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .http_client(http_client())
        .build()
}

/// The tool's: region, credentials and endpoints from wherever the AWS CLI would take them.
#[cfg(feature = "cli")]
pub async fn from_standard_chain() -> SdkConfig {
    aws_config::defaults(behavior_version()).http_client(http_client()).load().await
}
