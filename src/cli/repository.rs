//! `layergate repository`.

use std::fmt;

use layergate::types::{Repository, RepositoryName};
use serde::Serialize;

use crate::error::Error;
use crate::output::Format;
use crate::reference::repository_name;
use crate::session::{Session, no_such_repository};

/// What to do with repositories.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a repository
    Create {
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
    },
    /// List the repositories of the registry
    List,
    /// Delete a repository; its layers stay in the bucket, and nobody gets their URLs any more
    Delete {
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
        /// Delete the images in it too
        #[arg(long)]
        force: bool,
    },
}

/// One repository, by ECR's names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    registry_id: String,
    repository_name: String,
}

impl From<Repository> for Named {
    fn from(repository: Repository) -> Self {
        Self {
            registry_id: repository.registry.to_string(),
            repository_name: repository.name.to_string(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.repository_name)
    }
}

#[derive(Debug, Serialize)]
struct Listing {
    repositories: Vec<Named>,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repositories.iter().try_for_each(|repository| repository.fmt(f))
    }
}

/// Runs the command.
pub async fn run(command: Command, format: Format) -> Result<(), Error> {
    let session = Session::open().await?;
    match command {
        Command::Create { name } => {
            let repository = session.repository(name);
            if !session.index.create_repository(&repository).await? {
                return Err(Error::Conflict(format!(
                    "the repository '{}' exists already in registry {}",
                    repository.name, repository.registry
                )));
            }
            format.print(&Named::from(repository))
        }
        Command::List => {
            let repositories = session.index.repositories(&session.registry).await?;
            format.print(&Listing { repositories: repositories.into_iter().map(Named::from).collect() })
        }
        Command::Delete { name, force } => {
            let repository = session.repository(name);
            let contents = session.index.contents(&repository).await?;
            if !contents.images.is_empty() && !force {
                return Err(Error::Conflict(format!(
                    "the repository '{}' has {} images; delete them first, or all at once with --force",
                    repository.name,
                    contents.images.len()
                )));
            }
            if !session.index.delete_repository(&repository).await? {
                return Err(no_such_repository(&repository));
            }
            format.print(&Named::from(repository))
        }
    }
}
