//! The settings, from the environment.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::Uri;
use regex_lite::Regex;

use crate::types::RegistryId;

/// The settings of the function and of the tool.
#[derive(Debug, Clone)]
pub struct Config {
    /// `TABLE_NAME`: the DynamoDB table that is the catalog.
    pub table_name: String,
    /// `BUCKET_NAME`: the S3 bucket that stores the layers.
    pub bucket_name: String,
    /// `DEFAULT_REGISTRY_ID`: the registry of a request that names none.
    pub default_registry_id: RegistryId,
    /// `URL_EXPIRY_SECONDS`: how long a download URL lives; 60 to 604800 (the most S3 takes), 3600
    /// if unset. A URL stops working earlier if the credentials that signed it expire.
    pub url_expiry: Duration,
    /// `CACHE_SECONDS`: how long the function remembers that a layer is referenced, without asking
    /// the catalog again; 0 (always ask) to 300, 10 if unset. A deleted image's layers may still be
    /// given out for that long.
    pub cache_life: Duration,
    /// `AUTHORIZATION`: who decides which caller may read what; `iam` if unset.
    pub authorization: Authorization,
    /// `MANIFEST_HEAD`: what a HEAD of a manifest is answered with; `redirect` if unset.
    pub manifest_head: ManifestHead,
    /// `TOKEN_KEY_ID`: the KMS key from which the keys of the registry's tokens are derived: its
    /// id, ARN or alias. If unset, there is no registry that clients can log in to.
    pub token_key_id: Option<String>,
    /// `WORKER_FUNCTION_NAME`: the worker, which fetches from other registries. If unset, nothing
    /// is fetched.
    pub worker_function_name: Option<String>,
    /// `AWS_ENDPOINT_URL_DYNAMODB`: where DynamoDB is, if not at its AWS endpoint.
    pub dynamodb_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`: where S3 is, if not at its AWS endpoint. Download URLs point there.
    pub s3_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_KMS`: where KMS is, if not at its AWS endpoint.
    pub kms_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_LAMBDA`: where Lambda is, if not at its AWS endpoint.
    pub lambda_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`: where Secrets Manager is, if not at its AWS endpoint.
    /// Only the worker asks it.
    pub secrets_manager_endpoint: Option<String>,
}

/// Who decides which caller may read what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// `iam`: a caller reads the registry of its own account, and repositories that grant its
    /// account. The gateway's IAM authorizer says who the caller is; a call without that identity
    /// is refused.
    Iam,
    /// `gateway`: whoever the gateway lets in reads everything. For private APIs and API keys.
    Gateway,
}

/// What the function answers to a HEAD of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestHead {
    /// `answer`: the headers of the manifest. Only where the gateway keeps the `Content-Length` of
    /// an answer without a body: with a length of 0, containerd takes the manifest for empty.
    Answer,
    /// `redirect`: a redirect to the manifest in S3.
    Redirect,
}

/// Settings that are missing, or one that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// These variables are not set: all that are required.
    #[error("{} {} not set", in_words(.0), if .0.len() == 1 { "is" } else { "are" })]
    Missing(Vec<&'static str>),
    /// This variable has a value that it may not have.
    #[error("{variable} {problem}")]
    Unusable {
        /// The variable.
        variable: &'static str,
        /// What it must be. It follows the variable's name.
        problem: String,
    },
}

impl Config {
    /// Reads the settings with `variable`, which gives a variable's value, such as `|name|
    /// std::env::var(name).ok()`. An empty variable counts as unset.
    pub fn from_env(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let optional = |name| variable(name).filter(|value| !value.is_empty());
        let endpoint = |name| optional(name).map(|value| parse_endpoint(name, value)).transpose();
        let required = [TABLE.variable, BUCKET.variable, REGISTRY_VARIABLE];
        let [Some(table), Some(bucket), Some(registry)] = required.map(optional) else {
            let missing = required.into_iter().filter(|name| optional(name).is_none());
            return Err(ConfigError::Missing(missing.collect()));
        };
        Ok(Self {
            table_name: TABLE.parse(table)?,
            bucket_name: BUCKET.parse(bucket)?,
            default_registry_id: RegistryId::parse(&registry)
                .map_err(|_| error(REGISTRY_VARIABLE, must_be(REGISTRY_MEANING, &registry)))?,
            url_expiry: optional("URL_EXPIRY_SECONDS")
                .map_or(Ok(DEFAULT_URL_EXPIRY), parse_url_expiry)?,
            cache_life: optional("CACHE_SECONDS")
                .map_or(Ok(DEFAULT_CACHE_LIFE), parse_cache_life)?,
            authorization: optional("AUTHORIZATION")
                .map_or(Ok(Authorization::Iam), parse_authorization)?,
            manifest_head: optional("MANIFEST_HEAD")
                .map_or(Ok(ManifestHead::Redirect), parse_manifest_head)?,
            token_key_id: optional("TOKEN_KEY_ID")
                .map(|value| TOKEN_KEY.parse(value))
                .transpose()?,
            worker_function_name: optional("WORKER_FUNCTION_NAME")
                .map(|value| WORKER.parse(value))
                .transpose()?,
            dynamodb_endpoint: endpoint("AWS_ENDPOINT_URL_DYNAMODB")?,
            s3_endpoint: endpoint("AWS_ENDPOINT_URL_S3")?,
            kms_endpoint: endpoint("AWS_ENDPOINT_URL_KMS")?,
            lambda_endpoint: endpoint("AWS_ENDPOINT_URL_LAMBDA")?,
            secrets_manager_endpoint: endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
        })
    }

    /// `AWS_REGION`, which Lambda sets. Only for the function: the tool also reads the region from
    /// AWS's configuration files.
    pub fn region_from_env(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<String, ConfigError> {
        variable("AWS_REGION").filter(|value| !value.is_empty()).ok_or_else(ConfigError::no_region)
    }
}

impl ConfigError {
    /// No region is configured.
    pub fn no_region() -> Self {
        Self::Missing(vec!["AWS_REGION"])
    }

    /// A variable does not name an HTTP proxy.
    pub(crate) fn not_a_proxy(variable: &'static str) -> Self {
        let problem = "must be the URL of an HTTP proxy, such as http://proxy.example:3128";
        error(variable, problem.to_owned())
    }
}

const REGISTRY_VARIABLE: &str = "DEFAULT_REGISTRY_ID";

const REGISTRY_MEANING: &str = "a registry's id, the twelve digits of an AWS account";

const DEFAULT_URL_EXPIRY: Duration = Duration::from_secs(3600);

const DEFAULT_CACHE_LIFE: Duration = Duration::from_secs(10);

/// A setting that names something of AWS's, how many characters such names have, and the pattern
/// that they match. The pattern does not count them: compiling one that counts to 2,048 takes a
/// tenth of a cold start.
struct Name {
    variable: &'static str,
    meaning: &'static str,
    lengths: RangeInclusive<usize>,
    pattern: &'static str,
}

/// Source:
/// [CreateTable](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html).
const TABLE: Name = Name {
    variable: "TABLE_NAME",
    meaning: "a DynamoDB table's name (3 to 255 of a-z, A-Z, 0-9, '_', '-' and '.')",
    lengths: 3..=255,
    pattern: "^[a-zA-Z0-9_.-]+$",
};

/// Source: [Bucket naming
/// rules](https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
const BUCKET: Name = Name {
    variable: "BUCKET_NAME",
    meaning: "an S3 bucket's name (3 to 63 of a-z, 0-9, '-' and '.')",
    lengths: 3..=63,
    pattern: "^[a-z0-9][a-z0-9.-]*[a-z0-9]$",
};

/// Source: [GenerateMac](https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html).
const TOKEN_KEY: Name = Name {
    variable: "TOKEN_KEY_ID",
    meaning: "a KMS key's id, ARN or alias",
    lengths: 1..=2048,
    pattern: "^[a-zA-Z0-9:/_-]+$",
};

/// Source: [Invoke](https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html), `FunctionName`.
const WORKER: Name = Name {
    variable: "WORKER_FUNCTION_NAME",
    meaning: "a Lambda function's name or ARN",
    lengths: 1..=170,
    pattern: "^[a-zA-Z0-9:_-]+$",
};

impl Name {
    fn parse(&self, value: String) -> Result<String, ConfigError> {
        let is_name = self.lengths.contains(&value.len())
            && Regex::new(self.pattern).is_ok_and(|pattern| pattern.is_match(&value));
        match is_name {
            true => Ok(value),
            false => Err(error(self.variable, must_be(self.meaning, &value))),
        }
    }
}

fn parse_url_expiry(value: String) -> Result<Duration, ConfigError> {
    parse_seconds("URL_EXPIRY_SECONDS", value, 60..=604_800)
}

fn parse_cache_life(value: String) -> Result<Duration, ConfigError> {
    parse_seconds("CACHE_SECONDS", value, 0..=300)
}

fn parse_seconds(
    variable: &'static str,
    value: String,
    range: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    match value.parse() {
        Ok(seconds) if range.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => {
            let meaning =
                format!("a whole number of seconds from {} to {}", range.start(), range.end());
            Err(error(variable, must_be(meaning, &value)))
        }
    }
}

fn parse_authorization(value: String) -> Result<Authorization, ConfigError> {
    match value.as_str() {
        "iam" => Ok(Authorization::Iam),
        "gateway" => Ok(Authorization::Gateway),
        _ => Err(error("AUTHORIZATION", must_be("'iam' or 'gateway'", &value))),
    }
}

fn parse_manifest_head(value: String) -> Result<ManifestHead, ConfigError> {
    match value.as_str() {
        "answer" => Ok(ManifestHead::Answer),
        "redirect" => Ok(ManifestHead::Redirect),
        _ => Err(error("MANIFEST_HEAD", must_be("'answer' or 'redirect'", &value))),
    }
}

fn parse_endpoint(variable: &'static str, value: String) -> Result<String, ConfigError> {
    let is_endpoint = value.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    match is_endpoint {
        true => Ok(value),
        // The value is not repeated: an endpoint may contain a password.
        false => Err(error(variable, "must be a URL such as http://127.0.0.1:8000".to_owned())),
    }
}

fn must_be(meaning: impl fmt::Display, value: &str) -> String {
    format!("must be {meaning}, but is '{value}'")
}

fn error(variable: &'static str, problem: String) -> ConfigError {
    ConfigError::Unusable { variable, problem }
}

/// Names as in `A, B and C`.
fn in_words(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}
