//! Gets a layer's URL through API Gateway, with the signature that its IAM authorizer requires:
//!
//! ```sh
//! endpoint=https://ID.execute-api.REGION.amazonaws.com/STAGE
//! url=$(cargo run --quiet --example execute_api -- $endpoint REPOSITORY DIGEST)
//! curl --fail --output FILE "$url"
//! ```
//!
//! The SDK finds the credentials and the region as usual, for example by `AWS_REGION` and
//! `AWS_PROFILE`.

mod signing;

use std::process::ExitCode;

use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata};
use signing::SignForExecuteApi;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, repository, digest] = arguments.as_slice() else {
        eprintln!("usage: execute_api ENDPOINT REPOSITORY DIGEST");
        return ExitCode::from(2);
    };

    let aws = aws_config::defaults(aws_config::BehaviorVersion::latest())
        // Only this package needs this: it turns the SDK's own client off.
        .http_client(layergate_core::aws::http_client())
        .load()
        .await;
    let config = aws_sdk_ecr::config::Builder::from(&aws)
        .endpoint_url(endpoint)
        .interceptor(SignForExecuteApi)
        .build();
    let ecr = aws_sdk_ecr::Client::from_conf(config);

    let call = ecr.get_download_url_for_layer().repository_name(repository).layer_digest(digest);
    match call.send().await {
        Ok(answer) => {
            println!("{}", answer.download_url().unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => {
            match (error.code(), error.message()) {
                (Some(code), Some(message)) => eprintln!("{code}: {message}"),
                _ => eprintln!("{}", DisplayErrorContext(&error)),
            }
            ExitCode::FAILURE
        }
    }
}
