//! `layergate pull-through`.

use std::fmt;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use layergate_core::catalog::{BeforeStored, PullThroughRule};
use layergate_core::config::ConfigError;
use layergate_core::role::RuleManager;
use layergate_core::types::{AccountId, RegistryId, RepositoryName, RulePrefix};
use layergate_core::worker::Validation;
use layergate_upstream::{Host, UpstreamRegistry};
use serde::Serialize;

use crate::error::Error;
use crate::output::{Format, Nothing};
use crate::reference::{account_id, host, repository_name, rule_prefix};
use crate::session::Session;

/// The commands for pull-through cache rules.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a rule: the first pull of an image in PREFIX/NAME fetches it from another registry
    Create(Box<Create>),
    /// List the rules of the registry
    List,
    /// Show a rule
    Show {
        /// The rule's prefix
        #[arg(value_parser = rule_prefix)]
        prefix: RulePrefix,
    },
    /// Delete a rule. Its repositories and their stored images stay
    Delete {
        /// The rule's prefix
        #[arg(value_parser = rule_prefix)]
        prefix: RulePrefix,
    },
    /// Let the worker log in to the rule's registry, and print the result
    Validate {
        /// The rule's prefix
        #[arg(value_parser = rule_prefix)]
        prefix: RulePrefix,
    },
}

/// A rule to create.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// The prefix of the repositories' names, such as docker-hub; ROOT for all repositories without
    /// another rule
    #[arg(value_parser = rule_prefix)]
    prefix: RulePrefix,
    /// The other registry, as https://HOST. With http://, the worker connects to it and to the
    /// hosts of --allow-host without TLS
    #[arg(long, value_name = "URL", value_parser = upstream_url)]
    upstream: UpstreamRegistry,
    /// In the other registry, put P/ before NAME
    #[arg(long, value_name = "P", value_parser = repository_name)]
    upstream_prefix: Option<RepositoryName>,
    /// The secret with the other registry's credentials. Its name must begin with
    /// ecr-pullthroughcache/
    #[arg(long, value_name = "ARN", value_parser = credential_arn)]
    credential_arn: Option<String>,
    /// redirect: send the client to the other registry while the layer is being stored; wait: let
    /// the client wait
    #[arg(long, default_value = BeforeStored::Redirect.name(), value_parser = before_stored())]
    before_stored: BeforeStored,
    /// Allow this account to read the repositories of this rule, and to make the first pull
    #[arg(long, value_name = "ACCOUNT", value_parser = account_id)]
    grant: Vec<AccountId>,
    /// Allow this host although its address is private (the registry itself, its token server or
    /// its storage)
    #[arg(long, value_name = "HOST", value_parser = host)]
    allow_host: Vec<Host>,
}

/// A rule, with ECR's names. Members that ECR does not have are in the same style.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    ecr_repository_prefix: String,
    upstream_registry_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_repository_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_arn: Option<String>,
    registry_id: String,
    before_stored: &'static str,
    /// The other accounts that may read the repositories of the rule.
    accounts: Vec<String>,
    allowed_hosts: Vec<String>,
    /// The only token server that gets the credentials, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    /// In seconds since 1970.
    created_at: u64,
}

impl Shown {
    fn new(registry: &RegistryId, rule: PullThroughRule) -> Self {
        Self {
            ecr_repository_prefix: rule.prefix.to_string(),
            upstream_registry_url: rule.upstream_url,
            upstream_repository_prefix: rule.upstream_prefix,
            credential_arn: rule.credential_arn,
            registry_id: registry.to_string(),
            before_stored: rule.before_stored.name(),
            accounts: rule.accounts.iter().map(ToString::to_string).collect(),
            allowed_hosts: rule.allowed_hosts,
            realm: rule.realm,
            created_at: rule.created_at,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.ecr_repository_prefix, self.upstream_registry_url)?;
        if let Some(prefix) = &self.upstream_repository_prefix {
            write!(f, "/{prefix}")?;
        }
        let secret = self.credential_arn.as_deref().unwrap_or("none");
        writeln!(f, ", before stored: {}, credentials: {secret}", self.before_stored)?;
        self.accounts.iter().try_for_each(|account| writeln!(f, "  granted to {account}"))?;
        self.allowed_hosts.iter().try_for_each(|host| writeln!(f, "  allowed host: {host}"))?;
        self.realm.iter().try_for_each(|realm| writeln!(f, "  credentials go to {realm}"))
    }
}

/// The result of a validation, with ECR's names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Validated {
    ecr_repository_prefix: String,
    registry_id: String,
    #[serde(flatten)]
    validation: Validation,
}

/// As text, only a success: a failure is the command's error.
impl fmt::Display for Validated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.validation.is_valid {
            true => writeln!(f, "{} is valid", self.ecr_repository_prefix),
            false => Ok(()),
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, format: Format) -> Result<(), Error> {
    let session = Session::<RuleManager>::open().await?;
    let (catalog, registry) = (&session.catalog, &session.registry);
    match command {
        Command::Create(create) => {
            let prefix = create.prefix.clone();
            if !catalog.create_rule(registry, &rule(*create)).await? {
                return Err(Error::Conflict(format!(
                    "the rule '{prefix}' already exists in registry {registry}; to change it, delete it first"
                )));
            }
            format.print(&show(&session, &prefix).await?)
        }
        Command::List => {
            let mut rules = catalog.rules(registry);
            let mut list = format.begin_list(&Nothing {}, "pullThroughCacheRules")?;
            while let Some(rule) = rules.next().await?
                && list.print(&Shown::new(registry, rule))?
            {}
            list.end(&format!("there are no pull-through cache rules in registry {registry}"))
        }
        Command::Show { prefix } => format.print(&show(&session, &prefix).await?),
        Command::Delete { prefix } => {
            let shown = show(&session, &prefix).await?;
            if !catalog.delete_rule(registry, &prefix).await? {
                return Err(no_such_rule(&prefix, registry));
            }
            format.print(&shown)
        }
        Command::Validate { prefix } => {
            show(&session, &prefix).await?;
            let worker = session.worker.as_ref();
            let worker =
                worker.ok_or_else(|| ConfigError::Missing(vec!["WORKER_FUNCTION_NAME"]))?;
            let validated = Validated {
                ecr_repository_prefix: prefix.to_string(),
                registry_id: registry.to_string(),
                validation: worker.validate(&prefix).await?,
            };
            format.print(&validated)?;
            match validated.validation {
                Validation { is_valid: true, .. } => Ok(()),
                Validation { failure, .. } => Err(Error::Registry(format!(
                    "the rule '{prefix}' is not valid: {}",
                    failure.unwrap_or_else(|| "the worker gave no reason".to_owned())
                ))),
            }
        }
    }
}

fn rule(create: Create) -> PullThroughRule {
    PullThroughRule {
        prefix: create.prefix,
        upstream_url: create.upstream.to_string(),
        upstream_prefix: create.upstream_prefix.map(|prefix| prefix.to_string()),
        credential_arn: create.credential_arn,
        before_stored: create.before_stored,
        accounts: create.grant,
        allowed_hosts: create.allow_host.iter().map(ToString::to_string).collect(),
        realm: None,
        created_at: 0, // the catalog sets it
    }
}

async fn show(session: &Session<RuleManager>, prefix: &RulePrefix) -> Result<Shown, Error> {
    let rule = session.catalog.rule(&session.registry, prefix).await?;
    let rule = rule.ok_or_else(|| no_such_rule(prefix, &session.registry))?;
    Ok(Shown::new(&session.registry, rule))
}

fn no_such_rule(prefix: &RulePrefix, registry: &RegistryId) -> Error {
    Error::NotFound(format!(
        "there is no rule '{prefix}' in registry {registry}; 'layergate pull-through list' lists them"
    ))
}

fn before_stored() -> impl TypedValueParser<Value = BeforeStored> {
    let names = PossibleValuesParser::new(BeforeStored::ALL.map(BeforeStored::name));
    names.try_map(|name| BeforeStored::parse(&name).ok_or("there is no such value"))
}

fn upstream_url(value: &str) -> Result<UpstreamRegistry, String> {
    UpstreamRegistry::parse(value).map_err(|error| format!("it {error}"))
}

/// Source: `credentialArn` of
/// [CreatePullThroughCacheRule](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html).
fn credential_arn(value: &str) -> Result<String, String> {
    const FORM: &str =
        "it must be arn:aws:secretsmanager:REGION:ACCOUNT:secret:ecr-pullthroughcache/NAME";
    let parts: Vec<_> = value.splitn(7, ':').collect();
    match parts[..] {
        ["arn", partition, "secretsmanager", region, account, "secret", name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && AccountId::parse(account).is_ok()
                && name.strip_prefix("ecr-pullthroughcache/").is_some_and(is_secret_name) =>
        {
            Ok(value.to_owned())
        }
        _ => Err(FORM.to_owned()),
    }
}

/// Source:
/// [CreateSecret](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html),
/// `Name`.
fn is_secret_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
    (1..=512).contains(&name.len()) && name.bytes().all(is_allowed)
}
