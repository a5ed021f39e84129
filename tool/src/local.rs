//! `layergate local`.

use std::io::{self, Write};
use std::path::PathBuf;

use layergate_core::logging;
use layergate_core::types::AccountId;
use layergate_local::{LocalStack, Options};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::reference::account_id;

/// Run the whole stack on this machine: the functions and stand-ins for the AWS services
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The directory for the data; created if missing
    #[arg(long, value_name = "DIR", default_value = ".layergate")]
    data: PathBuf,
    /// The port on 127.0.0.1; 0 for any free port
    #[arg(long, value_name = "N", default_value_t = 8642)]
    port: u16,
    /// Answer as if calls came from this account (to test access)
    #[arg(long, value_name = "ACCOUNT", value_parser = account_id)]
    r#as: Option<AccountId>,
    /// Require clients to log in to the registry, as in a deployment
    #[arg(long)]
    login: bool,
}

/// Runs the command until `interruption` is cancelled.
pub async fn run(arguments: Arguments, interruption: CancellationToken) -> Result<(), Error> {
    logging::init(io::stderr, None);
    let options = Options { port: arguments.port, caller: arguments.r#as, login: arguments.login };
    let starting = LocalStack::start(&arguments.data, options);
    let Some(stack) = interruption.run_until_cancelled(starting).await else { return Ok(()) };
    let stack = stack.map_err(|error| Error::Local(error.to_string()))?;
    let welcome = format!(
        "layergate is at {url}. In another terminal:

  . '{environment}'
  layergate publish --create-repository SOURCE REPOSITORY:TAG
  aws ecr get-download-url-for-layer --repository-name REPOSITORY --layer-digest DIGEST
",
        url = stack.url,
        environment = stack.environment_file.display(),
    );
    let _ = writeln!(io::stdout(), "{welcome}"); // nobody has to read it
    interruption.cancelled().await;
    stack.stop().await;
    Ok(())
}
