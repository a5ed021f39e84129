//! What a registry wants to see before it gives anything, and getting it.
//!
//! Sources: [Token authentication](https://distribution.github.io/distribution/spec/auth/token/)
//! and [RFC 9110, 11](https://www.rfc-editor.org/rfc/rfc9110#section-11).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::error::{Danger, Error};
use super::http::Http;
use layergate_core::types::RepositoryName;

/// The largest answer of a token server, in bytes.
const LARGEST_TOKEN: u64 = 64 * 1024;

/// A user of a registry. Its `Debug` hides who it is.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password, or a token that stands for one.
    pub password: String,
    /// The only token server that gets to see them. If it is not known yet, the one that the
    /// registry names first.
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

/// What is shown to a registry, as far as it is known.
#[derive(Debug)]
pub struct Authorization {
    credentials: Option<Credentials>,
    /// The repository to pull from; `None` if only the registry itself is asked for.
    repository: Option<RepositoryName>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The token server that the registry has named.
    realm: Option<Url>,
    /// What the registry took last. `HeaderValue` hides it, because it is marked as sensitive.
    header: Option<HeaderValue>,
}

impl Authorization {
    pub fn new(credentials: Option<Credentials>, repository: Option<RepositoryName>) -> Self {
        let realm = credentials.as_ref().and_then(|credentials| credentials.realm.clone());
        Self { credentials, repository, state: Mutex::new(State { realm, header: None }) }
    }

    /// What the registry took last.
    pub async fn current(&self) -> Option<HeaderValue> {
        self.state.lock().await.header.clone()
    }

    /// The token server that the registry has named.
    pub async fn realm(&self) -> Option<Url> {
        self.state.lock().await.realm.clone()
    }

    /// Does what a registry wants that answered 401 with these headers, when it was shown
    /// `refused`. Of several callers one asks for a token, and the others take it.
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
                let realm = pin(&mut state, realm)?;
                self.token(http, realm, service, scope_for(self.repository.as_ref(), scope)).await?
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
        let mut request = Request::new(Empty::new());
        if let Some(credentials) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, credentials.header()?);
        }
        // A redirect is not followed: it would take the credentials elsewhere.
        let response = http.send(&realm, request).await?;
        match Error::of_status(response.status(), response.headers()) {
            Ok(()) => {}
            Err(error @ (Error::Denied(_) | Error::RateLimited { .. })) => return Err(error),
            Err(_) => return Err(unusable(&format!("answered {}", response.status()))),
        }
        let body = response.into_body().read(LARGEST_TOKEN).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| unusable("gave no token"))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        header(&format!("Bearer {}", token.ok_or_else(|| unusable("gave no token"))?))
    }
}

/// The realm, if it is the one that is known or none is known. A registry that was taken over
/// cannot send the credentials elsewhere.
fn pin(state: &mut State, realm: Url) -> Result<Url, Error> {
    match &state.realm {
        Some(known) if *known != realm => {
            let host = realm.host_str().unwrap_or("nowhere").to_owned();
            Err(Error::Forbidden { host, reason: Danger::OtherRealm })
        }
        Some(_) => Ok(realm),
        None => Ok(state.realm.insert(realm).clone()),
    }
}

/// What to ask a token server for: to pull from this repository, whatever else the registry would
/// like to be given. Words that name no resource, such as `aws`, are the registry's own.
fn scope_for(repository: Option<&RepositoryName>, challenged: Option<String>) -> Option<String> {
    let word = challenged.filter(|scope| !scope.contains(':'));
    word.or_else(|| repository.map(|name| format!("repository:{name}:pull")))
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

/// What a registry wants.
#[derive(Debug, PartialEq)]
enum Challenge {
    /// A token from this server.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
    /// The credentials themselves.
    Basic,
}

impl Challenge {
    /// The best that can be done of what the headers offer; `None` if there is nothing.
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
                parameters
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
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
        let cases: [(&str, &[&str], Option<Challenge>); 9] = [
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
                "both in one header: the credentials are not for the registry if a token will do",
                &[r#"Basic realm="Registry", Bearer realm="https://a.example/t",service="s""#],
                bearer("https://a.example/t", Some("s"), None),
            ),
            (
                "both, each in its header",
                &[r#"Bearer realm="https://a.example/t""#, "Basic realm=\"Registry\""],
                bearer("https://a.example/t", None, None),
            ),
            ("of another kind", &["Negotiate"], None),
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
    fn a_token_is_for_this_repository_alone() {
        let name = RepositoryName::parse("team/app").unwrap();
        let cases = [
            (None, "repository:team/app:pull"),
            (Some("repository:team/app:pull"), "repository:team/app:pull"),
            (Some("repository:team/app:pull,push"), "repository:team/app:pull"),
            (Some("repository:other/secret:pull"), "repository:team/app:pull"),
            (Some("aws"), "aws"),
        ];
        for (challenged, asked) in cases {
            let challenged = challenged.map(str::to_owned);
            assert_eq!(
                scope_for(Some(&name), challenged.clone()).as_deref(),
                Some(asked),
                "{challenged:?}"
            );
        }
    }

    #[test]
    fn a_token_for_the_registry_itself_is_for_no_repository() {
        // ghcr.io names a repository that is not there, where it is asked for none.
        for (challenged, asked) in
            [(None, None), (Some("repository:user/image:pull"), None), (Some("aws"), Some("aws"))]
        {
            assert_eq!(
                scope_for(None, challenged.map(str::to_owned)).as_deref(),
                asked,
                "{challenged:?}"
            );
        }
    }
}
