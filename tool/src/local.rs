//! `layergate local`.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use layergate_core::logging;
use layergate_core::types::AccountId;
use layergate_local::{HIGHEST_PORT, LocalStack, Options};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::reference::account_id;

/// Run the whole stack on this machine: the functions and stand-ins for the AWS services
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The directory for the data; created if missing
    #[arg(long, value_name = "DIR", default_value = ".layergate")]
    data: PathBuf,
    /// The port on 127.0.0.1; the stand-ins for AWS use the next five. 0 for any free ports
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8642,
        value_parser = clap::value_parser!(u16).range(..=i64::from(HIGHEST_PORT)),
    )]
    port: u16,
    /// Answer as if calls came from this account (to test access)
    #[arg(long, value_name = "ACCOUNT", value_parser = account_id)]
    r#as: Option<AccountId>,
    /// Require clients to log in to the registry, as in a deployment
    #[arg(long)]
    login: bool,
}

/// Runs the command until `interruption` is cancelled. The log goes to standard error: as text if
/// that is a terminal, and otherwise as JSON.
pub async fn run(arguments: Arguments, interruption: CancellationToken) -> Result<(), Error> {
    match io::stderr().is_terminal() {
        true => logging::init_for_terminal(io::stderr),
        false => logging::init(io::stderr, None),
    }
    let Arguments { data, port, r#as: caller, login } = arguments;
    let options = Options { port, caller, login, patience: None };
    let starting = LocalStack::start(&data, options);
    let Some(stack) = interruption.run_until_cancelled(starting).await else { return Ok(()) };
    let stack = stack.map_err(|error| Error::Local(error.to_string()))?;
    let _ = write!(io::stdout(), "{}", welcome(&stack, login)); // nobody has to read it
    interruption.cancelled().await;
    stack.stop().await;
    Ok(())
}

fn welcome(stack: &LocalStack, login: bool) -> String {
    let url = &stack.url;
    let host = url.trim_start_matches("http://");
    let environment = in_shell(&stack.environment_file);
    let login = match login {
        true => {
            format!("  layergate login | docker login --username AWS --password-stdin {host}\n")
        }
        false => String::new(),
    };
    format!(
        "layergate is at {url}. In another terminal, in this directory:

  . {environment}
  layergate publish --create-repository SOURCE REPOSITORY:TAG
{login}  docker pull {host}/REPOSITORY:TAG
  aws ecr describe-images --repository-name REPOSITORY

"
    )
}

/// A path as a shell reads it, relative to the current directory if it is below that. A path
/// without a slash would be searched for in the PATH.
fn in_shell(path: &Path) -> String {
    let below = env::current_dir().ok().and_then(|current| path.strip_prefix(current).ok());
    let path = below.unwrap_or(path);
    let path = match path.components().count() {
        1 => Path::new(".").join(path),
        _ => path.to_owned(),
    };
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
