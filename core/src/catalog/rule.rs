//! Pull through cache rules: where images come from that the registry does not have yet.

use aws_sdk_dynamodb::types::AttributeValue;

use super::condition::Condition;
use super::item::{Item, now, number, optional_string, string, strings};
use super::schema::RegistryRow;
use super::table::Rows;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Publisher, Role, RuleManager};
use crate::types::{AccountId, RegistryId, Repository, RulePrefix};

/// A rule.
#[derive(Debug, Clone)]
pub struct PullThroughRule {
    /// Which repositories it is for.
    pub prefix: RulePrefix,
    /// The upstream registry, such as `https://registry-1.docker.io`.
    pub upstream_url: String,
    /// What the upstream's names begin with, in place of the prefix.
    pub upstream_prefix: Option<String>,
    /// The ARN of the Secrets Manager secret with the upstream's credentials.
    pub credential_arn: Option<String>,
    /// What a puller gets of a layer that is not stored yet.
    pub before_stored: BeforeStored,
    /// The accounts, besides the registry's own, that may read the repositories that the rule
    /// makes.
    pub accounts: Vec<AccountId>,
    /// Hosts with private addresses that the upstream may lead to.
    pub allowed_hosts: Vec<String>,
    /// A URL on the upstream's token server, once it is known. Only its scheme, host and port count.
    /// No other server gets the credentials.
    pub realm: Option<String>,
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
}

/// What a puller gets of a layer that is not stored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeStored {
    /// The URL that the upstream redirects to, if it does.
    Redirect,
    /// Nothing: it waits until the layer is stored.
    Wait,
}

impl BeforeStored {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redirect, Self::Wait];

    /// Reads a [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// As it is written in the table, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Wait => "wait",
        }
    }
}

impl PullThroughRule {
    fn read(item: &Item) -> Result<Self, Fault> {
        let RegistryRow::Rule(prefix) = RegistryRow::of(item)? else {
            return Err(Fault::BrokenRecord("sk"));
        };
        let account =
            |id: String| AccountId::parse(&id).map_err(|_| Fault::BrokenRecord("accounts"));
        Ok(Self {
            prefix,
            upstream_url: string(item, "upstream_url")?.to_owned(),
            upstream_prefix: optional_string(item, "upstream_prefix")?,
            credential_arn: optional_string(item, "credential_arn")?,
            before_stored: BeforeStored::parse(string(item, "before_stored")?)
                .ok_or(Fault::BrokenRecord("before_stored"))?,
            accounts: strings(item, "accounts")
                .into_iter()
                .map(account)
                .collect::<Result<_, _>>()?,
            allowed_hosts: strings(item, "allowed_hosts"),
            realm: optional_string(item, "realm")?,
            created_at: number(item, "created_at")?,
        })
    }

    /// The name that a repository of this registry has in the upstream; `None` if the rule is not
    /// for it.
    pub fn upstream_name(&self, repository: &Repository) -> Option<String> {
        let rest = self.prefix.rest(&repository.name)?;
        Some(match &self.upstream_prefix {
            Some(prefix) => format!("{prefix}/{rest}"),
            None => rest.to_owned(),
        })
    }
}

/// The rules of a registry, in the order of their prefixes.
pub struct RuleList(Rows);

impl RuleList {
    /// The next rule.
    pub async fn next(&mut self) -> Result<Option<PullThroughRule>, Fault> {
        self.0.next().await?.as_ref().map(PullThroughRule::read).transpose()
    }
}

impl Catalog<RuleManager> {
    /// Creates a rule; `false` if there is one for that prefix. Its token server is not known then,
    /// and it is created now, whatever `rule` says of the two.
    pub async fn create_rule(
        &self,
        registry: &RegistryId,
        rule: &PullThroughRule,
    ) -> Result<bool, Fault> {
        self.claim_table().await?;
        let text = |value: &String| AttributeValue::S(value.clone());
        // A set in DynamoDB has each element once, and is not empty.
        let set = |mut values: Vec<String>| {
            values.sort_unstable();
            values.dedup();
            (!values.is_empty()).then_some(AttributeValue::Ss(values))
        };
        let attributes = [
            ("upstream_url", Some(text(&rule.upstream_url))),
            ("upstream_prefix", rule.upstream_prefix.as_ref().map(text)),
            ("credential_arn", rule.credential_arn.as_ref().map(text)),
            ("before_stored", Some(AttributeValue::S(rule.before_stored.name().to_owned()))),
            ("accounts", set(rule.accounts.iter().map(ToString::to_string).collect())),
            ("allowed_hosts", set(rule.allowed_hosts.clone())),
            ("created_at", Some(now())),
        ];
        let given = attributes.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut write = self.table.transaction();
        write.put_if((), Condition::is_absent(), schema::rule(registry, &rule.prefix), given);
        Ok(write.commit().await?.is_written())
    }
}

impl<R: Role> Catalog<R> {
    /// The rules of a registry.
    pub fn rules(&self, registry: &RegistryId) -> RuleList {
        RuleList(self.table.rows(schema::registry_partition(registry), schema::RULE_PREFIX, 500))
    }

    /// The rule with this prefix. One request.
    pub async fn rule(
        &self,
        registry: &RegistryId,
        prefix: &RulePrefix,
    ) -> Result<Option<PullThroughRule>, Fault> {
        self.table
            .record(schema::rule(registry, prefix))
            .await?
            .as_ref()
            .map(PullThroughRule::read)
            .transpose()
    }

    /// The rule for a repository: the one with the longest prefix, and `ROOT` only if there is no
    /// other. One query.
    pub async fn rule_for(
        &self,
        repository: &Repository,
    ) -> Result<Option<PullThroughRule>, Fault> {
        let mut rules = self.rules(&repository.registry);
        let mut best: Option<PullThroughRule> = None;
        while let Some(rule) = rules.next().await? {
            let rest = |rule: &PullThroughRule| rule.prefix.rest(&repository.name).map(str::len);
            // The longer the prefix, the shorter what follows it. What follows ROOT is the whole
            // name.
            if let Some(length) = rest(&rule)
                && best.as_ref().and_then(rest).is_none_or(|shortest| length < shortest)
            {
                best = Some(rule);
            }
        }
        Ok(best)
    }
}

impl Catalog<RuleManager> {
    /// Deletes a rule; `false` if there is none. The repositories that it made stay, with what is
    /// stored of them.
    pub async fn delete_rule(
        &self,
        registry: &RegistryId,
        prefix: &RulePrefix,
    ) -> Result<bool, Fault> {
        let mut write = self.table.transaction();
        write.delete_if((), Condition::exists(), schema::rule(registry, prefix));
        Ok(write.commit().await?.is_written())
    }
}

impl Catalog<Publisher> {
    /// Remembers which token server the upstream of a rule has, if none is known yet.
    pub async fn pin_realm(
        &self,
        registry: &RegistryId,
        rule: &PullThroughRule,
        realm: &str,
    ) -> Result<(), Fault> {
        let realm = [(":realm", AttributeValue::S(realm.to_owned()))];
        let is_unpinned = Condition::is_unpinned(rule.upstream_url.clone());
        let key = schema::rule(registry, &rule.prefix);
        let mut write = self.table.transaction();
        write.update_if((), is_unpinned, key, "SET realm = :realm", realm);
        // Refused if another worker has done it, or the rule is another one.
        write.commit().await.map(|_| ())
    }
}
