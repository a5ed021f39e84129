//! The program that Lambda starts: the worker with its settings from the environment.

use std::io;
use std::process::ExitCode;

use lambda_runtime::{Error, service_fn};
use layergate_core::aws::{self, Patience};
use layergate_core::config::Config;
use layergate_core::logging;
use layergate_upstream::Http;
use layergate_worker::Worker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    logging::init(io::stdout, variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the worker cannot start or cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let config = Config::from_env(variable)?;
    let sdk = aws::from_lambda_environment(Config::region_from_env(variable)?, Patience::PERSON);
    let worker = &Worker::new(&sdk, &config, Http::direct);
    lambda_runtime::run(service_fn(move |event| worker.handle(event))).await
}

fn variable(name: &'static str) -> Option<String> {
    std::env::var(name).ok()
}
