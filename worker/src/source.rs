//! The upstream registries of the rules, with the credentials for them.

use layergate_core::catalog::{FillFailure, Rule};
use layergate_core::fault::with_causes;
use layergate_core::types::{RegistryId, Repository, RulePrefix};
use layergate_core::worker::Validation;
use layergate_upstream::{Credentials, Host, Http, NameError, Upstream, UpstreamRegistry, Url};

use crate::Worker;
use crate::fill::Failure;

/// Where the images of a repository come from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) rule: Rule,
    pub(crate) upstream: Upstream,
    /// The repository in the upstream, for records.
    pub(crate) name: String,
    registry: RegistryId,
}

/// The parsed values of a rule, and the secret that it names.
struct Opened {
    registry: UpstreamRegistry,
    credentials: Option<Credentials>,
    http: Http,
}

impl Worker {
    /// The upstream of a repository, by the rule that applies now.
    pub(crate) async fn source(&self, repository: &Repository) -> Result<Source, Failure> {
        let no_rule_applies = || no_rule("no rule applies to the repository");
        let rule = self.catalog.rule_for(repository).await?.ok_or_else(no_rule_applies)?;
        let name = rule.upstream_name(repository).ok_or_else(no_rule_applies)?;
        let Opened { registry, credentials, http } = self.open(&rule).await?;
        let upstream = registry.repository(&name).map_err(|error| match error {
            NameError::Name => Failure::new(
                FillFailure::NameInvalid,
                format!("the repository would be '{name}' in the upstream, which {error}"),
            ),
            NameError::NoUrl | NameError::NoHost => no_rule(error),
        })?;
        let name = upstream.to_string();
        let upstream = Upstream::new(upstream, credentials, http)?;
        Ok(Source { rule, upstream, name, registry: repository.registry.clone() })
    }

    async fn open(&self, rule: &Rule) -> Result<Opened, Failure> {
        let registry = UpstreamRegistry::parse(&rule.upstream_url)
            .map_err(|error| no_rule(format!("the upstream's URL {error}")))?;
        let hosts =
            rule.allowed_hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>();
        let trust = registry.trust(hosts.map_err(no_rule)?);
        let http =
            (self.connect)(trust).map_err(|error| Failure::new(FillFailure::Unavailable, error))?;
        let credentials = match &rule.credential_arn {
            None => None,
            Some(arn) => {
                let credentials = self.secrets.credentials(arn).await;
                let realm = rule.realm.as_deref().map(Url::parse).transpose().map_err(no_rule)?;
                let credentials = credentials.map_err(|error| {
                    Failure::new(FillFailure::SecretUnusable, with_causes(&error))
                })?;
                Some(Credentials { realm, ..credentials })
            }
        };
        Ok(Opened { registry, credentials, http })
    }

    /// Stores which token server the upstream named, so that no other server gets the credentials
    /// later.
    pub(crate) async fn pin_realm(&self, source: &Source) -> Result<(), Failure> {
        self.pin(&source.registry, &source.rule, source.upstream.realm().await).await
    }

    async fn pin(
        &self,
        registry: &RegistryId,
        rule: &Rule,
        realm: Option<Url>,
    ) -> Result<(), Failure> {
        if let (None, Some(_), Some(realm)) = (&rule.realm, &rule.credential_arn, realm) {
            // Only the server: the path may contain a part of the repository's name.
            let server = realm.origin().ascii_serialization();
            self.catalog.pin_realm(registry, rule, &server).await?;
        }
        Ok(())
    }

    /// Checks that the upstream of a rule accepts the rule's credentials.
    pub(crate) async fn validate(&self, prefix: &str) -> Validation {
        match self.try_upstream(prefix).await {
            Ok(()) => Validation { is_valid: true, failure: None },
            Err(failure) => {
                let failure = match failure {
                    Failure::Upstream { failure, cause, .. } => format!("{failure}: {cause}"),
                    Failure::Fault(fault) => fault.with_causes(),
                    Failure::LostLease => "the validation was stopped".to_owned(),
                };
                Validation { is_valid: false, failure: Some(failure) }
            }
        }
    }

    async fn try_upstream(&self, prefix: &str) -> Result<(), Failure> {
        let no_such_rule = || no_rule(format!("there is no rule '{prefix}'"));
        let prefix = RulePrefix::parse(prefix).map_err(|_| no_such_rule())?;
        let rule = self.catalog.rule(&self.registry, &prefix).await?.ok_or_else(no_such_rule)?;
        let Opened { registry, credentials, http } = self.open(&rule).await?;
        let realm = layergate_upstream::check(&registry, credentials, http).await?;
        self.pin(&self.registry, &rule, realm).await
    }
}

fn no_rule(cause: impl ToString) -> Failure {
    Failure::new(FillFailure::NoRule, cause)
}
