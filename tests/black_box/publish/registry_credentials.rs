//! The user's credentials for other registries: which ones the tool uses, and when there are none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::other_registries::{home, publish};
use support::{Layout, Recorder, Stack, assert_refused, headed, stderr};

const LAYER: &[u8] = b"a layer's bytes";

/// Writes a credential helper that is this shell script.
fn write_helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Publishes from a registry, with the credentials and the helpers in `home`.
async fn publish_with_helpers(stack: &Stack, home: &Path, source: &str) -> Output {
    let mut command = stack.command(&["publish", "--create-repository", source, "app:1"]);
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    command.env("HOME", home).env("PATH", path);
    command.env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
    command.output().await.unwrap()
}

/// A registry that wants somebody's credentials, whoever that is.
async fn private_registry() -> Recorder {
    let layout = Layout::of_layers(&[LAYER]);
    Recorder::registry(&layout, |request| {
        let is_basic = request.headers.contains_key("authorization");
        (!is_basic).then(|| headed(401, "www-authenticate", r#"Basic realm="registry""#))
    })
    .await
}

#[tokio::test]
async fn credentials_are_those_of_docker_login() {
    let helper = r#"
read -r registry
case "$registry" in
    127.0.0.1:*) printf '{"ServerURL": "%s", "Username": "helped", "Secret": "%s"}' "$registry" "$1" ;;
    *) echo credentials not found in native keychain; exit 1 ;;
esac
"#;
    let auth = |credentials: &str| json!({"auth": BASE64_STANDARD.encode(credentials)});
    type Config = Box<dyn Fn(&str) -> Value>;
    let cases: [(&str, Config, &str); 12] = [
        (
            "user name and password apart",
            Box::new(
                |host| json!({"auths": {host: {"auth": null, "username": "user", "password": "pass"}}}),
            ),
            "user:pass",
        ),
        (
            "auths, and null for all else",
            Box::new(move |host| {
                let mut entry = auth("user:password");
                entry["identitytoken"] = Value::Null;
                entry["email"] = Value::Null;
                let auths = json!({host: entry, "other.example": null, "ghcr.io": {"auth": 1}});
                json!({"auths": auths, "credHelpers": null, "credsStore": null})
            }),
            "user:password",
        ),
        (
            "a helper that answers with empty texts, and auths",
            Box::new(
                move |host| json!({"credsStore": "silent", "auths": {host: auth("user:password")}}),
            ),
            "user:password",
        ),
        (
            "no helper for this registry, and auths",
            Box::new(move |host| {
                let helpers = json!({host: ""});
                json!({"credsStore": "test", "credHelpers": helpers, "auths": {host: auth("user:password")}})
            }),
            "user:password",
        ),
        (
            "the namespace, and the registry",
            Box::new(move |host| {
                let namespace = format!("{host}/team");
                json!({"auths": {host: auth("other:secret"), namespace: auth("user:password")}})
            }),
            "user:password",
        ),
        (
            "a helper that answers in lower case",
            Box::new(|_| json!({"credsStore": "lower"})),
            "helped:lower",
        ),
        (
            "auths",
            Box::new(move |host| json!({"auths": {host: auth("user:pass:word")}})),
            "user:pass:word",
        ),
        (
            "auths, under a URL",
            Box::new(
                move |host| json!({"auths": {format!("https://{host}/v2/"): auth("user:password")}}),
            ),
            "user:password",
        ),
        (
            "a helper for this registry",
            Box::new(|host| json!({"credHelpers": {host: "test"}})),
            "helped:get",
        ),
        ("a helper for all", Box::new(|_| json!({"credsStore": "test"})), "helped:get"),
        (
            "a helper that has none, and auths",
            Box::new(
                move |host| json!({"credHelpers": {host: "empty"}, "auths": {host: auth("user:password")}}),
            ),
            "user:password",
        ),
        (
            "another registry's come first",
            Box::new(
                move |host| json!({"auths": {"ghcr.io": auth("other:secret"), host: auth("user:password")}}),
            ),
            "user:password",
        ),
    ];
    let stack = Stack::start().await;
    for (description, config, credentials) in cases {
        let registry = private_registry().await;
        let home = home(&config(registry.host()));
        for (name, script) in [
            ("test", helper),
            ("empty", "echo credentials not found; exit 1"),
            ("silent", r#"echo '{"Username": "", "Secret": null}'"#),
            ("lower", r#"echo '{"username": "helped", "secret": "lower"}'"#),
        ] {
            write_helper(home.path(), name, script);
        }
        let output = publish_with_helpers(&stack, home.path(), &registry.docker()).await;
        assert!(output.status.success(), "{description}: {}", stderr(&output));
        let shown = registry.header("authorization");
        let expected = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        assert_eq!((shown[0].as_str(), &shown[1]), ("", &expected), "{description}");
    }
}

/// A registry whose token server refuses all credentials and gives anonymous tokens.
async fn public_registry() -> Recorder {
    let layout = Layout::of_layers(&[LAYER]);
    Recorder::registry(&layout, |request| {
        let authorization = request.headers.get("authorization");
        match (request.uri.path(), authorization) {
            ("/token", None) => Some(axum::Json(json!({"token": "t"})).into_response()),
            ("/token", Some(_)) => Some(headed(401, "x", "x")),
            (_, Some(_)) => None,
            (_, None) => {
                let host = request.headers["host"].to_str().unwrap();
                let challenge = format!(r#"Bearer realm="http://{host}/token""#);
                Some(headed(401, "www-authenticate", &challenge))
            }
        }
    })
    .await
}

#[tokio::test]
async fn empty_credentials_are_none() {
    let answers = [
        ("empty", r#"{"ServerURL": "", "Username": "", "Secret": ""}"#),
        ("null", r#"{"Username": null, "Secret": null}"#),
        ("none", "{}"),
        ("nothing", "null"),
        ("silent", ""),
        ("nobody", r#"{"Username": "", "Secret": "secret"}"#),
        ("without", r#"{"Username": "user", "Secret": ""}"#),
        ("token", r#"{"Username": "<token>", "Secret": ""}"#),
    ];
    let helpers = answers.map(|(name, _)| json!({"credsStore": name}).to_string());
    let auths = [
        "",
        " \n",
        "null",
        "{}",
        r#"{"auths": null}"#,
        r#"{"auths": {}, "credHelpers": null, "credsStore": null}"#,
        r#"{"auths": {"HOST": null}}"#,
        r#"{"auths": {"HOST": {}}}"#,
        r#"{"auths": {"HOST": {"auth": null}}}"#,
        r#"{"auths": {"HOST": {"auth": "", "identitytoken": ""}}}"#,
        r#"{"auths": {"HOST": {"auth": "Og=="}}}"#, // ":"
        r#"{"auths": {"HOST": {"auth": "dXNlcjo="}}}"#, // "user:"
        r#"{"auths": {"HOST": {"auth": "OnBhc3M="}}}"#, // ":pass"
        r#"{"auths": {"HOST": {"username": "user", "password": null}}}"#,
        r#"{"credHelpers": {"HOST": null}}"#,
        r#"{"credsStore": ""}"#,
        // Somebody else's.
        r#"{"auths": {"other.example": null}}"#,
        r#"{"auths": {"other.example": {"auth": null}}}"#,
        r#"{"auths": {"other.example": "no entry"}}"#,
        r#"{"auths": {"other.example": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"HOST/other": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"HOST/tea": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"127.0.0.1": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"HOST/team": {}, "HOST": {"auth": "dTpw"}}}"#,
        r#"{"auths": {"HOST": {}, "https://HOST/v1/": {"auth": "dTpw"}}}"#,
    ];
    let (stack, registry) = (Stack::start().await, public_registry().await);
    let home = home(&json!({}));
    for (name, answer) in answers {
        write_helper(home.path(), name, &format!("printf '%s' '{answer}'"));
    }
    for config in auths.map(str::to_owned).into_iter().chain(helpers) {
        let config = config.replace("HOST", registry.host());
        fs::write(home.path().join(".docker/config.json"), &config).unwrap();
        let output = publish_with_helpers(&stack, home.path(), &registry.docker()).await;
        assert!(output.status.success(), "{config}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_told_without_printing_them() {
    let cases: [(&str, &str, i32, &[&str]); 6] = [
        ("no JSON", "my-secret", 1, &["config.json", "not in docker's form"]),
        (
            "of another form",
            r#"{"auths": "my-secret"}"#,
            1,
            &["config.json", "not in docker's form"],
        ),
        (
            "no base64",
            r#"{"auths": {"HOST": {"auth": "my-secret!"}}}"#,
            1,
            &["'user:password' in base64"],
        ),
        (
            "an identity token",
            r#"{"auths": {"HOST": {"auth": "dTpw", "identitytoken": "my-secret"}}}"#,
            1,
            &["an identity token", "access token"],
        ),
        (
            "a helper that is missing",
            r#"{"credsStore": "nowhere"}"#,
            1,
            &["docker-credential-nowhere", "cannot be run"],
        ),
        ("none", "{}", 3, &["refused access (401", "docker login"]),
    ];
    let stack = Stack::start().await;
    for (description, config, status, words) in cases {
        let registry = private_registry().await;
        let home = home(&json!({}));
        let config = config.replace("HOST", registry.host());
        fs::write(home.path().join(".docker/config.json"), config).unwrap();
        let output = publish(&stack, home.path(), &registry.docker(), &[]).await;
        eprintln!("{description}");
        assert_refused(&output, status, words);
        assert!(!stderr(&output).contains("my-secret"), "{description}: {}", stderr(&output));
    }
}
