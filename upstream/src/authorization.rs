//! Authentication at a registry: answers its challenges with credentials or with a token.
//!
//! Sources: [Token authentication](https://distribution.github.io/distribution/spec/auth/token/)
//! and [RFC 9110, 11](https://www.rfc-editor.org/rfc/rfc9110#section-11).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::error::{Danger, Error};
use super::http::Http;
use super::target::Target;

/// The largest answer of a token server, in bytes.
const LARGEST_TOKEN: u64 = 64 * 1024;

/// A user of a registry. Its `Debug` hides the values.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password, or a token that is used as one.
    pub password: String,
    /// A URL on the only token server that gets the credentials: only its scheme, host and port
    /// count. `None`: the token server that the registry names first.
    pub realm: Option<Url>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    fn header(&self) -> Result<HeaderValue, Error> {
        header(&format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password))
        ))
    }
}

/// The access that a token is requested for.
#[derive(Debug)]
pub enum Scope {
    /// To pull from this repository; `None` if the client only checks the registry. The challenge
    /// cannot ask for more. A word that names no resource, such as `aws`, is the registry's own.
    Own(Option<String>),
    /// What the challenge asks for; if it asks for nothing, to pull from this repository. For a
    /// registry that another one redirects to: its repositories may have other names, and its
    /// tokens are anonymous.
    Elsewhere(Option<String>),
}

impl Scope {
    pub fn own(repository: Option<&str>) -> Self {
        Self::Own(repository.map(pull_from))
    }

    pub fn elsewhere(repository: Option<&str>) -> Self {
        Self::Elsewhere(repository.map(pull_from))
    }

    fn answer(&self, challenged: Option<String>) -> Option<String> {
        match self {
            Self::Own(own) => {
                challenged.filter(|scope| !scope.contains(':')).or_else(|| own.clone())
            }
            Self::Elsewhere(default) => challenged.or_else(|| default.clone()),
        }
    }
}

fn pull_from(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// Authenticates at one registry.
#[derive(Debug)]
pub struct Authorization {
    credentials: Option<Credentials>,
    scope: Scope,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The token server.
    realm: Option<Url>,
    /// The header that the registry accepted last. It is marked as sensitive, so `Debug` hides it.
    header: Option<HeaderValue>,
}

impl Authorization {
    pub fn new(credentials: Option<Credentials>, scope: Scope) -> Self {
        let realm = credentials.as_ref().and_then(|credentials| credentials.realm.clone());
        Self { credentials, scope, state: Mutex::new(State { realm, header: None }) }
    }

    /// The header that the registry accepted last.
    pub async fn current(&self) -> Option<HeaderValue> {
        self.state.lock().await.header.clone()
    }

    /// The token server that the registry named.
    pub async fn realm(&self) -> Option<Url> {
        self.state.lock().await.realm.clone()
    }

    /// Answers the challenge of a registry that refused the header `refused` with 401. If several
    /// callers wait, one requests a token and the others use it, too.
    pub async fn answer(
        &self,
        http: &Http,
        headers: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let mut state = self.state.lock().await;
        if let Some(header) = &state.header
            && Some(header) != refused
        {
            return Ok(header.clone());
        }
        let denied = Error::Denied(StatusCode::UNAUTHORIZED);
        let header = match Challenge::of(headers) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                check_realm(&mut state, &realm)?;
                self.token(http, realm, service, self.scope.answer(scope)).await?
            }
            Some(Challenge::Basic) => self.credentials.as_ref().ok_or(denied)?.header()?,
            None => return Err(denied),
        };
        state.header = Some(header.clone());
        Ok(header)
    }

    async fn token(
        &self,
        http: &Http,
        mut realm: Url,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<HeaderValue, Error> {
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                realm.query_pairs_mut().append_pair(name, &value);
            }
        }
        let realm = Target::new(realm)?;
        let mut request = Request::new(Empty::new());
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(credentials) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, credentials.header()?);
        }
        // A redirect is not followed: the credentials would be sent to another server.
        let response = http.send(&realm, request).await?;
        match Error::of_status(response.status(), response.headers()) {
            Ok(()) => {}
            Err(error @ (Error::Denied(_) | Error::RateLimited { .. } | Error::Busy { .. })) => {
                return Err(error);
            }
            Err(_) => return Err(unusable(&format!("answered {}", response.status()))),
        }
        let body = response.into_body().read(LARGEST_TOKEN).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| unusable("gave no token"))?;
        let mut tokens = [answer.token, answer.access_token].into_iter().flatten();
        let token = tokens.find(|token| !token.is_empty());
        header(&format!("Bearer {}", token.ok_or_else(|| unusable("gave no token"))?))
    }
}

/// Checks that the token server is the known one; the first one becomes known. A registry that an
/// attacker took over cannot have the credentials sent to another server. The path may differ:
/// Artifactory's contains a part of the repository's name.
fn check_realm(state: &mut State, realm: &Url) -> Result<(), Error> {
    let forbidden = |reason| {
        let host = realm.host_str().unwrap_or("nowhere").to_owned();
        Err(Error::Forbidden { host, reason })
    };
    if !realm.origin().is_tuple() {
        return forbidden(Danger::NoTls);
    }
    let known = state.realm.get_or_insert_with(|| realm.clone());
    match known.origin() == realm.origin() {
        true => Ok(()),
        false => forbidden(Danger::OtherRealm),
    }
}

fn header(value: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::try_from(value)
        .map_err(|_| unusable("gave a token with forbidden characters"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn unusable(what: &str) -> Error {
    Error::Unavailable(format!("its token server {what}"))
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// How a registry wants clients to authenticate.
#[derive(Debug, PartialEq)]
enum Challenge {
    /// With a token of this server.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
    /// With user name and password.
    Basic,
}

impl Challenge {
    /// The best of the challenges in the headers; `None` if none of them can be answered.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let values =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> =
            values.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten().collect();
        let bearer =
            challenges.iter().filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
        let mut bearer = bearer.filter_map(|challenge| {
            let parameter = |name: &str| {
                let mut parameters = challenge.params.iter();
                let found = parameters.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found
                    .map(|(_, value)| value.to_unescaped())
                    .filter(|value| !value.trim().is_empty())
            };
            let realm = Url::parse(&parameter("realm")?).ok()?;
            Some(Self::Bearer { realm, service: parameter("service"), scope: parameter("scope") })
        });
        let is_basic =
            challenges.iter().any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic"));
        bearer.next().or(is_basic.then_some(Self::Basic))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer { realm: Url::parse(realm).unwrap(), service, scope })
        };
        let cases: [(&str, &[&str], Option<Challenge>); 11] = [
            (
                "Docker Hub's",
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
                ],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/busybox:pull"),
                ),
            ),
            (
                "public ECR's, whose scope is a word",
                &[
                    r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#,
                ],
                bearer("https://public.ecr.aws/token/", Some("public.ecr.aws"), Some("aws")),
            ),
            (
                "with an error, spaces and a lower-case scheme",
                &[r#"bearer realm="https://a.example/t", service="s", error="invalid_token""#],
                bearer("https://a.example/t", Some("s"), None),
            ),
            ("Basic", &[r#"Basic realm="Registry""#], Some(Challenge::Basic)),
            (
                "both in one header: a token keeps the credentials from the registry",
                &[r#"Basic realm="Registry", Bearer realm="https://a.example/t",service="s""#],
                bearer("https://a.example/t", Some("s"), None),
            ),
            (
                "both, each in its header",
                &[r#"Bearer realm="https://a.example/t""#, "Basic realm=\"Registry\""],
                bearer("https://a.example/t", None, None),
            ),
            (
                "empty parameters",
                &[r#"Bearer realm="https://a.example/t",service="",scope=" ""#],
                bearer("https://a.example/t", None, None),
            ),
            ("an empty realm", &[r#"Bearer realm="""#, "Basic"], Some(Challenge::Basic)),
            ("another scheme", &["Negotiate"], None),
            ("a realm that is no URL", &[r#"Bearer realm="token server""#], None),
            ("none", &[], None),
        ];
        for (description, values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            assert_eq!(Challenge::of(&headers), expected, "{description}");
        }
    }

    #[test]
    fn a_token_is_for_no_more_than_is_needed() {
        let (own, check) = (Scope::own(Some("team/app")), Scope::own(None));
        let elsewhere = Scope::elsewhere(Some("team/app"));
        let (pull, other) = ("repository:team/app:pull", "repository:other/secret:pull");
        let cases = [
            (&own, None, Some(pull)),
            (&own, Some(pull), Some(pull)),
            (&own, Some("repository:team/app:pull,push"), Some(pull)),
            (&own, Some(other), Some(pull)),
            (&own, Some("aws"), Some("aws")),
            (&check, None, None),
            // ghcr.io asks for a repository that does not exist.
            (&check, Some("repository:user/image:pull"), None),
            (&check, Some("aws"), Some("aws")),
            (&elsewhere, None, Some(pull)),
            (&elsewhere, Some(other), Some(other)),
            (&Scope::elsewhere(None), None, None),
        ];
        for (scope, challenged, requested) in cases {
            let answer = scope.answer(challenged.map(str::to_owned));
            assert_eq!(answer.as_deref(), requested, "{scope:?}: {challenged:?}");
        }
    }
}
