//! The registry's tokens: the passwords of clients that cannot sign a request, such as docker.
//!
//! A token contains its holder and its expiry time, with a MAC (HMAC-SHA256) over both. The key is
//! different for each day (UTC): KMS derives it from a key that never leaves KMS. A function
//! instance requests a day's key once, and then verifies tokens without requests. A token expires
//! after half a day, so only the keys of today and yesterday are needed.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::Mutex;

use super::Caller;
use layergate_core::config::Config;
use layergate_core::fault::{Backend, Fault};
use layergate_core::types::{AccountId, RegistryId, TOKEN_USER, seconds_since_1970};

/// How long a token is valid: as long as ECR's.
/// Source:
/// [GetAuthorizationToken](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html).
pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// How far the clock of the instance that issued a token may be ahead of the one that verifies it.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// More bytes than any token has. IAM's longest ARNs have some 600 characters.
const LONGEST: usize = 4096;

const DAY: u64 = 24 * 60 * 60;

/// Issues and verifies tokens of one registry.
#[derive(Debug)]
pub struct Tokens {
    sdk: SdkConfig,
    endpoint: Option<String>,
    key_id: String,
    registry: RegistryId,
    /// Created at the first use: a function instance that serves only ECR's API needs no client.
    kms: OnceLock<Client>,
    /// The keys that were used last.
    keys: Mutex<Vec<DayKey>>,
}

/// The key of one day.
#[derive(Clone)]
struct DayKey {
    day: u64,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for DayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DayKey").field("day", &self.day).finish_non_exhaustive()
    }
}

/// A token. It is a credential, so it has no `Debug` and no `Display`.
pub struct Token(String);

impl Token {
    /// The token, for its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// User and token, in the form of ECR's `authorizationToken` and of `Basic` credentials.
    pub fn as_basic_credentials(&self) -> String {
        BASE64_STANDARD.encode(format!("{TOKEN_USER}:{}", self.0))
    }
}

/// Why a token is refused.
#[derive(Debug)]
pub enum Refused {
    /// It is not a token of this registry. The caller learns no more than that.
    NotAToken,
    /// It is a token of this registry, but has expired.
    Expired,
    /// KMS failed, so the function cannot verify it.
    Fault(Fault),
}

/// The content of a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    account: String,
    arn: String,
    registry: String,
    /// In seconds since 1970.
    expires: u64,
}

impl Tokens {
    /// The tokens of the registry in `config`; `None` if `config` has no key, because this stack
    /// has no registry.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Option<Self> {
        config.token_key_id.as_ref().map(|key_id| Self {
            sdk: sdk.clone(),
            endpoint: config.kms_endpoint.clone(),
            key_id: key_id.clone(),
            registry: config.default_registry_id.clone(),
            kms: OnceLock::new(),
            keys: Mutex::default(),
        })
    }

    /// Issues a token at `now` for an account. Error messages will name `arn`. Also returns when
    /// the token expires.
    pub async fn issue(
        &self,
        account: &AccountId,
        arn: &str,
        now: SystemTime,
    ) -> Result<(Token, SystemTime), Fault> {
        let expires = now + LIFE;
        let claims = Claims {
            account: account.to_string(),
            arn: arn.to_owned(),
            registry: self.registry.to_string(),
            expires: seconds_since_1970(expires),
        };
        let claims =
            serde_json::to_vec(&claims).map_err(|error| Fault::not_sent(Backend::Kms, error))?;
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        let mut mac = self.key(seconds_since_1970(now) / DAY).await?;
        mac.update(claims.as_bytes());
        let mac = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        // A token must not contain a colon: the AWS CLI splits user and password at colons.
        Ok((Token(format!("{claims}.{mac}")), expires))
    }

    /// The holder of a token, if the token is valid at `now`. Compares in constant time, so the
    /// time does not reveal which part of a token is wrong.
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Caller, Refused> {
        let (claims, mac, text) = parse(token).ok_or(Refused::NotAToken)?;
        let now = seconds_since_1970(now);
        // Requests a key only for days of which a token can still be valid: anybody can send a
        // date.
        let issued = claims.expires.checked_sub(LIFE.as_secs()).ok_or(Refused::NotAToken)?;
        let day = issued / DAY;
        if issued > now + CLOCK_SKEW.as_secs() || day + 1 < now / DAY {
            return Err(Refused::NotAToken);
        }
        let mut key = self.key(day).await.map_err(Refused::Fault)?;
        key.update(text.as_bytes());
        key.verify_slice(&mac).map_err(|_| Refused::NotAToken)?;
        if claims.registry != self.registry.as_ref() {
            return Err(Refused::NotAToken);
        }
        let account = AccountId::parse(&claims.account).map_err(|_| Refused::NotAToken)?;
        if claims.expires <= now {
            return Err(Refused::Expired);
        }
        Ok(Caller::Identified { account, arn: claims.arn })
    }

    /// The key of a day, counted from 1970. The first call for a day makes one request to KMS;
    /// other calls wait for it.
    async fn key(&self, day: u64) -> Result<Hmac<Sha256>, Fault> {
        let mut keys = self.keys.lock().await;
        if let Some(key) = keys.iter().find(|key| key.day == day) {
            return Ok(key.mac.clone());
        }
        let client = self.client();
        let derived = client
            .generate_mac()
            .key_id(&self.key_id)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(format!("layergate token v1|{day}")))
            .send()
            .await
            .map_err(|error| Fault::of(Backend::Kms, error))?;
        let secret = derived.mac.ok_or_else(|| Fault::garbled(Backend::Kms))?;
        let mac =
            Hmac::new_from_slice(secret.as_ref()).map_err(|_| Fault::garbled(Backend::Kms))?;
        // Yesterday's, today's and, around midnight, tomorrow's, by another instance's clock.
        const MOST_KEYS: usize = 3;
        keys.truncate(MOST_KEYS - 1);
        keys.insert(0, DayKey { day, mac: mac.clone() });
        Ok(mac)
    }

    fn client(&self) -> &Client {
        self.kms.get_or_init(|| {
            let mut builder = aws_sdk_kms::config::Builder::from(&self.sdk);
            if let Some(endpoint) = &self.endpoint {
                builder = builder.endpoint_url(endpoint);
            }
            Client::from_conf(builder.build())
        })
    }
}

/// The content of a token, its MAC, and the text that the MAC covers. Nothing is verified yet.
fn parse(token: &str) -> Option<(Claims, Vec<u8>, &str)> {
    if token.len() > LONGEST {
        return None;
    }
    let (text, mac) = token.split_once('.')?;
    let claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    Some((claims, BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?, text))
}

/// The token in an `Authorization` header of the scheme `Basic`.
/// Source: [RFC 7617](https://www.rfc-editor.org/rfc/rfc7617#section-2).
pub fn from_basic_credentials(authorization: &str) -> Option<String> {
    const LONGEST_HEADER: usize = 2 * LONGEST;
    if authorization.len() > LONGEST_HEADER {
        return None;
    }
    let (scheme, credentials) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    Some(pair.strip_prefix(TOKEN_USER)?.strip_prefix(':')?.to_owned())
}
