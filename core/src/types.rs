//! The values of the ECR API, as types that cannot hold a bad value.
//!
//! `parse` returns a value, or the [`Constraint`] that the text breaks. Values are read with
//! `AsRef<str>` or `Display`. The constraints are those of ECR's
//! [GetDownloadUrlForLayer](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html)
//! unless said otherwise.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use regex_lite::Regex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A rule of the API that a value breaks. Displayed in ECR's own words, to follow the member's
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// The value is absent.
    NotNull,
    /// The value has fewer characters than this.
    MinLength(usize),
    /// The value has more characters than this.
    MaxLength(usize),
    /// The whole value does not match this regular expression.
    Pattern(&'static str),
    /// The list has fewer elements than this.
    MinItems(usize),
    /// The list has more elements than this.
    MaxItems(usize),
    /// The number is less than this.
    MinValue(usize),
    /// The number is greater than this.
    MaxValue(usize),
    /// The value is none of these.
    OneOf(&'static str),
    /// The member is given together with this other one.
    NotWith(&'static str),
    /// Neither the tag nor the digest of an image is given.
    TagOrDigest,
    /// The text is no token that the operation has given.
    Token,
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNull => f.write_str("must not be null"),
            Self::MinLength(n) => write!(f, "must have length greater than or equal to {n}"),
            Self::MaxLength(n) => write!(f, "must have length less than or equal to {n}"),
            Self::Pattern(pattern) => write!(f, "must satisfy regular expression '{pattern}'"),
            Self::MinItems(n) => write!(f, "Member must have length greater than or equal to {n}"),
            Self::MaxItems(n) => write!(f, "Member must have length less than or equal to {n}"),
            Self::MinValue(n) => write!(f, "Member must have value greater than or equal to {n}"),
            Self::MaxValue(n) => write!(f, "Member must have value less than or equal to {n}"),
            Self::OneOf(values) => write!(f, "Member must satisfy enum value set: [{values}]"),
            Self::NotWith(other) => write!(f, "must be null if '{other}' is given"),
            Self::TagOrDigest => f.write_str("both tag and digest cannot be null"),
            Self::Token => f.write_str("must be a token that this operation has given"),
        }
    }
}

/// A pattern of the API, compiled at its first use. The API's patterns match the whole value.
struct Pattern {
    text: &'static str,
    regex: LazyLock<Regex>,
}

macro_rules! pattern {
    ($text:literal) => {
        Pattern {
            text: $text,
            regex: LazyLock::new(|| Regex::new(concat!("^(?:", $text, ")$")).expect("a constant")),
        }
    };
}

// These two are checked without a regular expression, because every call checks them, and that is
// many times faster.
const ACCOUNT_ID: &str = "[0-9]{12}";
const DIGEST: &str = "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+";

/// The pattern of ECR's model since 2024; it accepts every name that the older pattern accepts.
static REPOSITORY_NAME: Pattern =
    pattern!(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*");
/// From the OCI distribution specification, "Pulling manifests"; ECR's imageTag is the same.
static IMAGE_TAG: Pattern = pattern!("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}");
static RULE_PREFIX: Pattern =
    pattern!(r"((?:[a-z0-9]+(?:[._-][a-z0-9]+)*\/)*[a-z0-9]+(?:[._-][a-z0-9]+)*\/?|ROOT)");

impl Pattern {
    /// Checks the number of characters as well, and first.
    fn check_of_length(
        &self,
        value: &str,
        lengths: RangeInclusive<usize>,
    ) -> Result<(), Constraint> {
        match value.chars().count() {
            length if length < *lengths.start() => Err(Constraint::MinLength(*lengths.start())),
            length if length > *lengths.end() => Err(Constraint::MaxLength(*lengths.end())),
            _ => self.check(value),
        }
    }

    fn check(&self, value: &str) -> Result<(), Constraint> {
        match self.regex.is_match(value) {
            true => Ok(()),
            false => Err(Constraint::Pattern(self.text)),
        }
    }
}

/// Whether text is the part of a digest before the colon.
fn is_algorithm(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Whether text is the part of a digest after the colon.
fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Implements `AsRef<str>` and `Display` for types that hold one string.
macro_rules! reads_as_str {
    ($($type:ty),+) => {$(
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

reads_as_str!(AccountId, RepositoryName, ObjectKey, ImageTag, RulePrefix);

/// The user name that goes with a token of the registry as its password. It is ECR's.
pub const TOKEN_USER: &str = "AWS";

/// An AWS account: twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountId(String);

/// A registry is named by the account that owns it.
pub type RegistryId = AccountId;

impl AccountId {
    /// Accepts twelve digits.
    pub fn parse(value: &str) -> Result<Self, Constraint> {
        match value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Ok(Self(value.to_owned())),
            false => Err(Constraint::Pattern(ACCOUNT_ID)),
        }
    }
}

/// The name of a repository in its registry, such as `team/app`: 2 to 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Accepts what ECR accepts as `repositoryName`.
    pub fn parse(value: &str) -> Result<Self, Constraint> {
        REPOSITORY_NAME.check_of_length(value, 2..=256)?;
        Ok(Self(value.to_owned()))
    }
}

/// A repository: its registry and its name there. Displayed as `<registryId>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The registry that holds it.
    pub registry: RegistryId,
    /// Its name in that registry.
    pub name: RepositoryName,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// The digest of a layer or of an image manifest, such as `sha256:9f86d0…`.
///
/// Upper-case hexadecimal digits are legal and name the same content as lower-case ones: two
/// digests that differ only in this are equal, and [`Digest::hex`] is always lower-case.
#[derive(Debug, Clone)]
pub struct Digest {
    as_given: String,
    hex: String,
}

impl Digest {
    /// Accepts what ECR accepts as `layerDigest`: `<algorithm>:<hexadecimal digits>`, of any
    /// length.
    pub fn parse(value: &str) -> Result<Self, Constraint> {
        match value.split_once(':') {
            Some((algorithm, hex)) if is_algorithm(algorithm) && is_hex(hex) => {
                Ok(Self { as_given: value.to_owned(), hex: hex.to_ascii_lowercase() })
            }
            _ => Err(Constraint::Pattern(DIGEST)),
        }
    }

    /// The sha256 digest of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let hex = hex(&Sha256::digest(bytes));
        Self { as_given: format!("sha256:{hex}"), hex }
    }

    /// The part before the colon.
    pub fn algorithm(&self) -> &str {
        &self.as_given[..self.as_given.len() - self.hex.len() - 1]
    }

    /// The part after the colon, in lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Whether bytes can have it: it is one of the two algorithms that the OCI image specification
    /// registers, and of full length.
    /// Source: [Registered
    /// algorithms](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#registered-algorithms).
    pub fn is_verifiable(&self) -> bool {
        matches!((self.algorithm(), self.hex.len()), ("sha256", 64) | ("sha512", 128))
    }

    /// The digest with its digits in lower case, as keys and records contain it.
    pub fn canonical(&self) -> String {
        format!("{}:{}", self.algorithm(), self.hex)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        (self.algorithm(), self.hex()) == (other.algorithm(), other.hex())
    }
}

impl Eq for Digest {}

/// The digest as it was given, upper case included, because answers repeat it unchanged.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_given)
    }
}

/// What names a blob or a manifest.
/// Source: [OCI content
/// descriptors](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Its media type, as the manifest states it.
    pub media_type: String,
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a layer's bytes are in the bucket: `layers/<registryId>/<algorithm>/<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// What the keys of all layers of a registry begin with.
    pub fn layers(registry: &RegistryId) -> String {
        format!("layers/{registry}/")
    }

    /// What the keys of all manifests of a registry begin with.
    pub fn manifests(registry: &RegistryId) -> String {
        format!("manifests/{registry}/")
    }

    /// The key of a layer. The repositories of one registry share it, so a layer is stored once.
    pub fn of_layer(registry: &RegistryId, digest: &Digest) -> Self {
        Self(format!("{}{}/{}", Self::layers(registry), digest.algorithm(), digest.hex()))
    }

    /// The key of an image's manifest.
    pub fn of_manifest(registry: &RegistryId, digest: &Digest) -> Self {
        Self(format!("{}{}/{}", Self::manifests(registry), digest.algorithm(), digest.hex()))
    }

    /// The digest in a layer's key in `registry`; `None` if it is not such a key.
    pub fn digest_of_layer(registry: &RegistryId, value: &str) -> Option<Digest> {
        let (algorithm, hex) = value.strip_prefix(&Self::layers(registry))?.split_once('/')?;
        Digest::parse(&format!("{algorithm}:{hex}")).ok()
    }

    /// Accepts a key from a record if it is a layer's key in `registry`; `None` if it is not.
    pub fn parse_layer(registry: &RegistryId, value: String) -> Option<Self> {
        value.strip_prefix("layers/")?.strip_prefix(registry.as_ref())?.strip_prefix('/')?;
        Some(Self(value))
    }
}

/// A URL to download from, which is a credential. It can be serialized into an answer, but not
/// printed: it has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct DownloadUrl(String);

impl DownloadUrl {
    /// Hides a URL.
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// The URL, to be handed to the client.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DownloadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DownloadUrl(..)")
    }
}

/// The tag of an image, such as `v1.2`: 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageTag(String);

impl ImageTag {
    /// Accepts what the OCI distribution specification accepts as a tag.
    pub fn parse(value: &str) -> Result<Self, Constraint> {
        IMAGE_TAG.check(value)?;
        Ok(Self(value.to_owned()))
    }
}

/// How an image is named.
#[derive(Debug, Clone)]
pub enum ImageId {
    /// By a tag.
    Tag(ImageTag),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// What a puller wants of a repository.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A layer that an image of the repository references.
    Layer(Digest),
    /// An image, without its layers.
    Image(ImageId),
}

/// What the names of the repositories begin with that a pull through cache rule is for:
/// `PREFIX/NAME`. `ROOT` is for all repositories that no other rule is for.
///
/// Source: `ecrRepositoryPrefix` of
/// [CreatePullThroughCacheRule](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePrefix(String);

impl RulePrefix {
    /// Accepts what ECR accepts as `ecrRepositoryPrefix`. A slash at its end does not count.
    pub fn parse(value: &str) -> Result<Self, Constraint> {
        RULE_PREFIX.check_of_length(value, 2..=30)?;
        Ok(Self(value.trim_end_matches('/').to_owned()))
    }

    /// What follows the prefix in a repository's name; `None` if the rule is not for that
    /// repository.
    pub fn rest<'a>(&self, name: &'a RepositoryName) -> Option<&'a str> {
        match self.0.as_str() {
            "ROOT" => Some(&name.0),
            prefix => name.0.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

/// A time as records, tokens and answers have it.
pub fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
