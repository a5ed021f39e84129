//! `layergate repository`.

use std::fmt;

use layergate_core::catalog::RepositoryDeletion;
use layergate_core::role::Publisher;
use layergate_core::types::{AccountId, Repository, RepositoryName};
use serde::Serialize;

use crate::error::Error;
use crate::output::{Format, Nothing};
use crate::reference::{account_id, repository_name};
use crate::session::{Session, no_such_repository};

/// The commands for repositories.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a repository
    Create {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
    },
    /// List the repositories of the registry
    List,
    /// Show a repository and the other accounts that may read it
    Show {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
    },
    /// Allow another account to read a repository
    Grant {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
        /// The account's id: twelve digits
        #[arg(value_parser = account_id)]
        account: AccountId,
    },
    /// Revoke another account's permission to read a repository
    Revoke {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
        /// The account's id: twelve digits
        #[arg(value_parser = account_id)]
        account: AccountId,
    },
    /// Delete a repository. Its layers can no longer be downloaded; 'layergate clean' deletes them
    /// from S3
    Delete {
        /// The repository's name, such as team/app
        #[arg(value_name = "REPOSITORY", value_parser = repository_name)]
        name: RepositoryName,
        /// Delete the repository even if it has images, and delete these images
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

/// A repository with who may read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    repository: Named,
    /// In seconds since 1970.
    created_at: u64,
    /// The other accounts that may read it.
    accounts: Vec<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named { registry_id, repository_name } = &self.repository;
        writeln!(f, "{repository_name} in registry {registry_id}")?;
        self.accounts.iter().try_for_each(|account| writeln!(f, "granted to {account}"))
    }
}

/// A permission of another account.
#[derive(Debug, Clone, Copy)]
enum Change {
    Grant,
    Revoke,
}

/// A repository after a change of permissions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip)]
    change: Change,
    #[serde(skip)]
    account: AccountId,
    /// Whether the account's permission was another one before.
    changed: bool,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, account) = (&self.shown.repository.repository_name, &self.account);
        match (self.change, self.changed) {
            (Change::Grant, true) => writeln!(f, "account {account} may now read '{name}'"),
            (Change::Grant, false) => writeln!(f, "account {account} could already read '{name}'"),
            (Change::Revoke, true) => writeln!(f, "account {account} may no longer read '{name}'"),
            (Change::Revoke, false) => {
                writeln!(f, "account {account} had no permission to read '{name}'")
            }
        }
    }
}

async fn change(
    session: &Session<Publisher>,
    repository: Repository,
    account: AccountId,
    change: Change,
) -> Result<Changed, Error> {
    let before = session.catalog.repository(&repository).await?;
    let is_found = match change {
        Change::Grant => session.catalog.grant(&repository, &account).await?,
        Change::Revoke => session.catalog.revoke(&repository, &account).await?,
    };
    let Some(before) = before.filter(|_| is_found) else {
        return Err(no_such_repository(&repository));
    };
    let changed = before.grants(&account) == matches!(change, Change::Revoke);
    Ok(Changed { shown: show(session, repository).await?, change, account, changed })
}

async fn show(session: &Session<Publisher>, repository: Repository) -> Result<Shown, Error> {
    match session.catalog.repository(&repository).await? {
        Some(record) => Ok(Shown {
            repository: Named::from(repository),
            created_at: record.created_at,
            accounts: record.accounts,
        }),
        None => Err(no_such_repository(&repository)),
    }
}

/// Runs the command.
pub async fn run(command: Command, format: Format) -> Result<(), Error> {
    let session = Session::<Publisher>::open().await?;
    match command {
        Command::Create { name } => {
            let repository = session.repository(name);
            if !session.catalog.create_repository(&repository).await? {
                return Err(Error::Conflict(format!(
                    "the repository '{}' already exists in registry {}",
                    repository.name, repository.registry
                )));
            }
            format.print(&Named::from(repository))
        }
        Command::List => {
            let mut repositories = session.catalog.repositories(&session.registry);
            let mut list = format.begin_list(&Nothing {}, "repositories")?;
            while let Some(repository) = repositories.next().await?
                && list.print(&Named::from(repository))?
            {}
            list.end(&format!("there are no repositories in registry {}", session.registry))
        }
        Command::Show { name } => format.print(&show(&session, session.repository(name)).await?),
        Command::Grant { name, account } => {
            let repository = session.repository(name);
            format.print(&change(&session, repository, account, Change::Grant).await?)
        }
        Command::Revoke { name, account } => {
            let repository = session.repository(name);
            format.print(&change(&session, repository, account, Change::Revoke).await?)
        }
        Command::Delete { name, force } => {
            let repository = session.repository(name);
            match session.catalog.delete_repository(&repository, force).await? {
                RepositoryDeletion::Deleted => format.print(&Named::from(repository)),
                RepositoryDeletion::NoRepository => Err(no_such_repository(&repository)),
                RepositoryDeletion::HasImages => Err(Error::Conflict(format!(
                    "the repository '{}' has images; --force deletes them too",
                    repository.name,
                ))),
            }
        }
    }
}
