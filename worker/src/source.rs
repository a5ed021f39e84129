//! The upstream registries of the rules, with the credentials for them.

use layergate_core::catalog::{FillFailure, PullThroughRule};
use layergate_core::fault::with_causes;
use layergate_core::types::{RegistryId, Repository, RulePrefix};
use layergate_core::worker::Validation;
use layergate_upstream::{
    Credentials, Danger, Error, Host, Http, NameError, Upstream, UpstreamRegistry, Url,
};

use crate::Worker;
use crate::fill::Failure;

/// Where the images of a repository come from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) rule: PullThroughRule,
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

    async fn open(&self, rule: &PullThroughRule) -> Result<Opened, Failure> {
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
        rule: &PullThroughRule,
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
        let failure = self.try_upstream(prefix).await.err();
        Validation { is_valid: failure.is_none(), failure }
    }

    async fn try_upstream(&self, prefix: &str) -> Result<(), String> {
        let no_such_rule = || format!("there is no rule '{prefix}'");
        let prefix = RulePrefix::parse(prefix).map_err(|_| no_such_rule())?;
        let rule = self.catalog.rule(&self.registry, &prefix).await;
        let rule = rule.map_err(|fault| fault.with_causes())?.ok_or_else(no_such_rule)?;
        let Opened { registry, credentials, http } = self.open(&rule).await.map_err(sentence)?;
        let realm = layergate_upstream::check(&registry, credentials, http).await;
        let realm =
            realm.map_err(|error| format!("the upstream registry {error}; {}", advice(&error)))?;
        self.pin(&self.registry, &rule, realm).await.map_err(sentence)
    }
}

fn sentence(failure: Failure) -> String {
    match failure {
        Failure::Upstream { failure, cause, .. } => format!("{failure}: {cause}"),
        Failure::Fault(fault) => fault.with_causes(),
        Failure::LostLease => "it was given up".to_owned(),
    }
}

/// What to do about an upstream that does not let the registry in.
fn advice(error: &Error) -> String {
    let advice = match error {
        Error::Denied(_) => "check the user name and password in the secret of --credential-arn",
        Error::Forbidden { host, reason: Danger::PrivateAddress } => {
            return format!(
                "if you trust that host, create the rule again, with --allow-host {host}"
            );
        }
        Error::Forbidden { reason: Danger::NoTls, .. } => {
            "the worker connects without TLS only if --upstream begins with http://"
        }
        Error::Forbidden { reason: Danger::OtherRealm, .. } => {
            "if you trust that host, delete the rule and create it again"
        }
        Error::Tls(problem) => problem.advice(
            "create the rule again, with http:// in --upstream",
            "create the rule again, with https:// in --upstream",
        ),
        Error::Unreachable(_) => "check the rule's --upstream, and the network",
        Error::NotFound | Error::WrongContent(_) | Error::TooLarge(_) | Error::RedirectLoop => {
            "check that the rule's --upstream is a registry"
        }
        Error::RateLimited { .. } | Error::Busy { .. } | Error::Unavailable(_) => "try again later",
    };
    advice.to_owned()
}

fn no_rule(cause: impl ToString) -> Failure {
    Failure::new(FillFailure::NoRule, cause)
}
