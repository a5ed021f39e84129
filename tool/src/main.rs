//! The tool: publishes images into a registry, manages them, and runs the whole stack on one
//! machine.

mod clean;
mod credential_provider;
mod error;
mod image;
mod local;
mod login;
mod output;
mod progress;
mod proxy;
mod publish;
mod pull_through;
mod reference;
mod repository;
mod session;
mod source;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use error::Error;
use output::Format;

const AFTER_HELP: &str = "\
Settings are environment variables: TABLE_NAME, BUCKET_NAME and DEFAULT_REGISTRY_ID, with the function's values; \
API_URL for 'login' and 'credential-provider'; WORKER_FUNCTION_NAME for 'pull-through validate'; and AWS's own variables \
for region, credentials and endpoints. To set them, run '. .layergate/local.env' for a local stack, or \
'eval \"$(make -s outputs)\"' for a deployment.

Exit status: 0 done, 1 this machine, AWS or another registry failed, 2 wrong usage or a bad setting, 3 the source cannot \
be published, 4 the repository, image or rule does not exist, 5 its state does not allow it, 130 interrupted.";

/// Publish and manage the images of a layergate registry, or run the whole stack on this machine.
#[derive(Debug, Parser)]
#[command(name = "layergate", version, after_help = AFTER_HELP)]
struct Arguments {
    /// Print text for a person, or one JSON object for a script
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(Box<publish::Arguments>),
    Proxy(proxy::Arguments),
    /// Manage repositories and the accounts that may read them
    #[command(subcommand)]
    Repository(repository::Command),
    /// List and delete images
    #[command(subcommand)]
    Image(image::Command),
    /// Manage pull-through cache rules (cache images of other registries)
    #[command(subcommand)]
    PullThrough(pull_through::Command),
    /// Print a login password for docker (user name: AWS)
    Login,
    /// Answer a kubelet's request for credentials, as its plugin
    #[command(long_about = credential_provider::ABOUT)]
    CredentialProvider,
    Clean(clean::Arguments),
    Local(local::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| without_secret(error).exit());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::Local(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(run(arguments));
    // Dropping the runtime would wait for threads that still read a file or a registry, and would
    // take away their timers.
    std::mem::forget(runtime);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let format = arguments.output;
    match arguments.command {
        Command::Publish(arguments) => publish::run(*arguments, format, interruption()?).await,
        Command::Proxy(arguments) => proxy::run(arguments, interruption()?).await,
        Command::Repository(command) => repository::run(command, format).await,
        Command::Image(command) => image::run(command, format).await,
        Command::PullThrough(command) => pull_through::run(command, format).await,
        Command::Login => login::run(format).await,
        Command::CredentialProvider => credential_provider::run().await,
        Command::Clean(arguments) => clean::run(arguments, format, interruption()?).await,
        Command::Local(arguments) => local::run(arguments, interruption()?).await,
    }
}

/// A token that SIGINT, SIGTERM and SIGHUP cancel. A second SIGINT ends the process at once.
fn interruption() -> Result<CancellationToken, Error> {
    let failed = |error| Error::Local(format!("cannot listen to signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {
                    if cancelled.is_cancelled() {
                        std::process::exit(Error::Interrupted.exit_status().into());
                    }
                }
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// Replaces a user and password in a URL that clap would repeat.
fn without_secret(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let Some((scheme, rest)) = value.split_once("://")
        && let Some((_, host)) = rest.split('/').next().and_then(|first| first.rsplit_once('@'))
    {
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        let hidden = format!("{scheme}://***@{host}{path}");
        error.insert(ContextKind::InvalidValue, ContextValue::String(hidden));
    }
    error
}

fn fail(error: &Error) -> ExitCode {
    // The sentence may quote names from an archive, and those may have control characters for the
    // terminal.
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' => vec![' '],
        c if c.is_control() => c.escape_default().collect(),
        c => vec![c],
    };
    let sentence: String = error.to_string().chars().flat_map(visible).collect();
    let _ = writeln!(io::stderr(), "layergate: {sentence}"); // nobody has to read it
    ExitCode::from(error.exit_status())
}
