//! The Lambda function: settings, clients, and the runtime's loop.

use std::io;
use std::process::ExitCode;

use lambda_runtime::{Error, service_fn};
use layergate::lambda::Handler;
use layergate::service::Service;
use layergate_core::aws::Patience;
use layergate_core::config::{Authorization, Config};
use layergate_core::{aws, logging};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    logging::init(io::stdout, variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function cannot start or cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let config = Config::from_env(variable)?;
    if config.authorization == Authorization::Gateway {
        tracing::info!(
            "AUTHORIZATION is gateway: all callers that the gateway admits may read everything"
        );
    }
    let sdk = aws::from_lambda_environment(Config::region_from_env(variable)?, Patience::CLIENT);
    let service = Service::new(&sdk, &config);
    // With provisioned concurrency, Lambda initializes the function before the first call. Then
    // that call need not read the certificates and, if it comes soon, need not connect to DynamoDB.
    // On demand, the first call waits for the initialization, so connecting here would gain
    // nothing.
    if variable("AWS_LAMBDA_INITIALIZATION_TYPE").as_deref() == Some("provisioned-concurrency")
        && let Err(fault) = service.make_ready().await
    {
        tracing::warn!(
            cause = fault.with_causes(),
            "the first call will have to connect to DynamoDB"
        );
    }
    let handler = &Handler::new(service, config.authorization);
    lambda_runtime::run(service_fn(move |event| handler.handle(event))).await
}

fn variable(name: &'static str) -> Option<String> {
    std::env::var(name).ok()
}
