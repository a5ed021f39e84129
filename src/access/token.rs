//! The registry's tokens: what a client logs in with where it cannot sign a request, such as
//! `docker pull`.
//!
//! A token says who its holder is and until when it is valid, and carries a MAC (HMAC-SHA256) over
//! both. Each day (UTC) has a key of its own, which KMS derives from a key that never leaves KMS. A
//! function instance asks KMS for a day's key once and verifies tokens by itself from then on. A
//! token lives half a day, so today's and yesterday's keys are all that is needed.

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
    /// Made at its first use: a function instance that serves only ECR's API needs no client.
    kms: OnceLock<Client>,
    /// The keys of the days that were asked for last.
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

/// A token. It is a credential: there is nothing that prints it.
pub struct Token(String);

impl Token {
    /// The token, to be handed to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// User and token, as ECR's `authorizationToken` and a `Basic` challenge want them.
    pub fn as_basic_credentials(&self) -> String {
        BASE64_STANDARD.encode(format!("{TOKEN_USER}:{}", self.0))
    }
}

/// Why a token lets nobody in.
#[derive(Debug)]
pub enum Refused {
    /// It is not a token of this registry. Whoever sent it is told no more than that.
    NotAToken,
    /// It is one, and its time is over.
    Expired,
    /// KMS failed, so it is not known.
    Fault(Fault),
}

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    account: String,
    arn: String,
    registry: String,
    /// In seconds since 1970.
    expires: u64,
}

impl Tokens {
    /// The tokens of the registry that `config` names; `None` if it names no key, and so no
    /// registry that clients log in to.
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

    /// A token for an account, with the ARN that refusals name, and when it expires. It is issued
    /// at `now`.
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
        // Without a colon: the AWS CLI splits user and password at colons.
        Ok((Token(format!("{claims}.{mac}")), expires))
    }

    /// Who the holder of a token is, if it is valid at `now`. How long this takes does not tell how
    /// much of a wrong token is right.
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Caller, Refused> {
        let (claims, mac, text) = parse(token).ok_or(Refused::NotAToken)?;
        let now = seconds_since_1970(now);
        // A key is asked for only if a token may have been issued with it: anybody can send a date.
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

    /// The key of a day, counted from 1970. One request to KMS at the first time; others who need
    /// the key meanwhile wait for that.
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
        const MOST_KEYS: usize = 3; // yesterday's, today's, and at midnight tomorrow's by another instance's clock
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

/// What a token says, its MAC, and the text that the MAC is about. Nothing of it is verified yet.
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
