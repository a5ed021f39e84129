//! Logging in: which tokens are given, and which let somebody in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use lambda_runtime::LambdaEvent;
use layergate::lambda::Handler;
use layergate_core::config::Authorization;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::{Answer, Layout, OUTSIDER, SHAPES, Shape, Stack, call, pull, send, stderr};

const GET_TOKEN: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

const HOUR: Duration = Duration::from_secs(3600);

/// Asks for a token through ECR's API, with the name of the API's host in the event.
async fn ask(handler: &Handler, shape: Shape, body: Value, caller: Option<&str>) -> Answer {
    let mut event = support::event(shape, Some(GET_TOKEN), body.to_string().as_bytes(), caller);
    event["requestContext"]["domainName"] = "registry.example.com".into();
    send(handler, &event).await
}

/// `AWS:` and the token, as an `Authorization` header.
fn basic(token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("AWS:{token}")))
}

/// The token in an `Authorization` header.
fn token_of(authorization: &str) -> String {
    let pair = BASE64_STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap();
    String::from_utf8(pair).unwrap().strip_prefix("AWS:").unwrap().to_owned()
}

#[tokio::test]
async fn a_token_of_the_api_lets_its_holder_into_the_registry_for_half_a_day() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    for shape in SHAPES {
        for (account, status) in [(ACCOUNT, 200), (OUTSIDER, 403)] {
            let answer = ask(&stack.handler, shape, json!({}), Some(account)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let data = &answer.body["authorizationData"];
            assert_eq!(data.as_array().unwrap().len(), 1);
            assert_eq!(data[0]["proxyEndpoint"], "https://registry.example.com");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let life = data[0]["expiresAt"].as_u64().unwrap() - now;
            assert!((12 * 3600 - 60..=12 * 3600).contains(&life), "{life}");

            let authorization =
                format!("Basic {}", data[0]["authorizationToken"].as_str().unwrap());
            assert!(!token_of(&authorization).contains(':'), "the AWS CLI splits at colons");
            let pulled =
                pull(&stack.handler, "GET", "/v2/app/manifests/1", Some(&authorization)).await;
            assert_eq!(pulled.status, status, "{pulled:?}");
        }
    }
}

#[tokio::test]
async fn registry_ids_are_taken_and_checked() {
    let stack = Stack::start().await;
    let ids = json!({"registryIds": [ACCOUNT, OUTSIDER]});
    let answer = ask(&stack.handler, Shape::Rest, ids, Some(ACCOUNT)).await;
    assert_eq!(answer.body["authorizationData"].as_array().unwrap().len(), 2);
    let many = vec![ACCOUNT; 11];
    let cases = [
        (
            "none",
            json!([]),
            "InvalidParameterException",
            "'Member must have length greater than or equal to 1'",
        ),
        (
            "too many",
            json!(many),
            "InvalidParameterException",
            "'Member must have length less than or equal to 10'",
        ),
        ("not an account", json!(["app"]), "InvalidParameterException", "'registryIds'"),
        (
            "not a list",
            json!(ACCOUNT),
            "SerializationException",
            "must be an array, and is a string",
        ),
        ("not strings", json!([1]), "SerializationException", "must be a string, and is a number"),
    ];
    for (description, ids, error, words) in cases {
        let answer =
            ask(&stack.handler, Shape::Rest, json!({"registryIds": ids}), Some(ACCOUNT)).await;
        assert_eq!(answer.error(), error, "{description}");
        assert!(answer.message().contains(words), "{description}: {answer:?}");
    }
}

#[tokio::test]
async fn whoever_is_not_known_gets_no_token_and_without_a_key_there_is_no_registry() {
    let stack = Stack::start().await;
    let answer = ask(&stack.handler, Shape::Rest, json!({}), None).await;
    assert_eq!(answer.error(), "AccessDeniedException");

    let without_key = stack.handler_with(|config| config.token_key_id = None);
    let answer = ask(&without_key, Shape::Rest, json!({}), Some(ACCOUNT)).await;
    assert_eq!(answer.error(), "UnknownOperationException");
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let answer = pull(&without_key, "GET", "/v2/", Some(&authorization)).await;
    assert_eq!((answer.status, answer.code()), (401, "UNAUTHORIZED"));

    // Whom the gateway lets in may read everything, and so may the holder of a token that was given
    // to it.
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let gateway = stack.handler_with(|config| config.authorization = Authorization::Gateway);
    let answer = ask(&gateway, Shape::Rest, json!({}), None).await;
    let token = answer.body["authorizationData"][0]["authorizationToken"].as_str().unwrap();
    let authorization = format!("Basic {token}");
    assert_eq!(
        pull(&gateway, "GET", "/v2/app/manifests/1", Some(&authorization)).await.status,
        200
    );
    // But nobody without one.
    assert_eq!(pull(&gateway, "GET", "/v2/app/manifests/1", None).await.status, 401);
}

#[tokio::test]
async fn only_a_token_of_this_registry_and_of_this_time_lets_anybody_in() {
    let stack = Stack::start().await;
    let now = SystemTime::now();
    let good = stack.login(ACCOUNT, now).await;
    let token = token_of(&good);
    let (claims, mac) = token.split_once('.').unwrap();
    let decoded: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let claiming = |member: &str, value: Value| {
        let mut claims = decoded.clone();
        claims[member] = value;
        basic(&format!("{}.{mac}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
    };
    let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut wrong_end = token.clone().into_bytes();
    let first_of_mac = claims.len() + 1;
    wrong_end[first_of_mac] = if wrong_end[first_of_mac] == b'A' { b'B' } else { b'A' };
    let wrong_end = String::from_utf8(wrong_end).unwrap();
    // Another stack has another key; a token of it names the same registry.
    let other = Stack::start().await;
    let of_another_key = other.login(ACCOUNT, now).await;
    let of_another_registry = {
        let mut config = stack.local.engines.config();
        config.default_registry_id = layergate_core::types::AccountId::parse(OUTSIDER).unwrap();
        let sdk = stack.local.engines.sdk_config();
        let tokens = layergate::access::token::Tokens::new(&sdk, &config).unwrap();
        let account = layergate_core::types::AccountId::parse(ACCOUNT).unwrap();
        let (token, _) =
            tokens.issue(&account, "arn:aws:iam::000000000000:user/x", now).await.unwrap();
        format!("Basic {}", token.as_basic_credentials())
    };
    let raw = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    let forged = "A".repeat(43);
    let cases = [
        ("a good one", good.clone(), 200, ""),
        ("the scheme in lower case", good.replace("Basic", "basic"), 200, ""),
        ("just before its end", stack.login(ACCOUNT, now - 12 * HOUR + HOUR / 60).await, 200, ""),
        (
            "by a clock that is a little ahead",
            stack.login(ACCOUNT, now + HOUR / 120).await,
            200,
            "",
        ),
        ("expired", stack.login(ACCOUNT, now - 12 * HOUR - HOUR / 60).await, 403, "DENIED"),
        (
            "expired for long, of an old key",
            stack.login(ACCOUNT, now - 72 * HOUR).await,
            401,
            "UNAUTHORIZED",
        ),
        ("of the future", stack.login(ACCOUNT, now + HOUR).await, 401, "UNAUTHORIZED"),
        ("a later end", claiming("expires", (seconds + 24 * 3600).into()), 401, "UNAUTHORIZED"),
        ("an end of now, made up", claiming("expires", (seconds + 60).into()), 401, "UNAUTHORIZED"),
        ("no end in sight", claiming("expires", u64::MAX.into()), 401, "UNAUTHORIZED"),
        ("an end before the beginning", claiming("expires", 0.into()), 401, "UNAUTHORIZED"),
        ("a negative end", claiming("expires", (-1).into()), 401, "UNAUTHORIZED"),
        ("another account", claiming("account", OUTSIDER.into()), 401, "UNAUTHORIZED"),
        (
            "another ARN",
            claiming("arn", "arn:aws:iam::000000000000:root".into()),
            401,
            "UNAUTHORIZED",
        ),
        ("another registry, made up", claiming("registry", OUTSIDER.into()), 401, "UNAUTHORIZED"),
        ("of another registry", of_another_registry, 401, "UNAUTHORIZED"),
        ("of another key", of_another_key, 401, "UNAUTHORIZED"),
        ("the first digit of the MAC wrong", basic(&wrong_end), 401, "UNAUTHORIZED"),
        ("half of the MAC", basic(&token[..token.len() - 20]), 401, "UNAUTHORIZED"),
        ("no MAC", basic(claims), 401, "UNAUTHORIZED"),
        ("an empty MAC", basic(&format!("{claims}.")), 401, "UNAUTHORIZED"),
        ("a MAC of zeros", basic(&format!("{claims}.{forged}")), 401, "UNAUTHORIZED"),
        ("a MAC too long", basic(&format!("{token}AAAA")), 401, "UNAUTHORIZED"),
        ("claims that are no JSON", basic(&format!("e30x.{mac}")), 401, "UNAUTHORIZED"),
        ("empty claims", basic(&format!("e30.{mac}")), 401, "UNAUTHORIZED"),
        ("a megabyte", basic(&"A".repeat(1 << 20)), 401, "UNAUTHORIZED"),
        (
            "a megabyte of claims",
            basic(&format!("{}.{mac}", "A".repeat(1 << 20))),
            401,
            "UNAUTHORIZED",
        ),
        ("another user", raw(&format!("root:{token}")), 401, "UNAUTHORIZED"),
        ("no user", raw(&token), 401, "UNAUTHORIZED"),
        ("an empty password", raw("AWS:"), 401, "UNAUTHORIZED"),
        ("not base64", format!("Basic {token}"), 401, "UNAUTHORIZED"),
        ("bytes that are no text", "Basic //79".to_owned(), 401, "UNAUTHORIZED"),
        ("only the scheme", "Basic".to_owned(), 401, "UNAUTHORIZED"),
        ("the scheme Bearer", format!("Bearer {token}"), 401, "UNAUTHORIZED"),
        (
            "an AWS signature",
            "AWS4-HMAC-SHA256 Credential=A/B, Signature=0".to_owned(),
            401,
            "UNAUTHORIZED",
        ),
        ("nothing", String::new(), 401, "UNAUTHORIZED"),
    ];
    for (description, authorization, status, code) in cases {
        for method in ["GET", "DELETE"] {
            let answer = pull(&stack.handler, method, "/v2/", Some(&authorization)).await;
            let expected = if status == 200 && method == "DELETE" { 405 } else { status };
            assert_eq!(answer.status, expected, "{description}: {answer:?}");
            if status != 200 {
                assert_eq!(answer.code(), code, "{description}");
                // Only the holder of what was a token once is told more.
                let says_expired = answer.body.to_string().contains("has expired");
                assert_eq!(says_expired, status == 403, "{description}");
            }
        }
    }
    let answer = pull(&stack.handler, "GET", "/v2/", None).await;
    assert_eq!((answer.status, answer.code()), (401, "UNAUTHORIZED"));
}

#[tokio::test]
async fn the_stages_authorizer_lets_every_token_through_to_where_it_is_looked_at() {
    let stack = Stack::start().await;
    for stage in ["v2", "Prod"] {
        let event = json!({
            "type": "TOKEN", "authorizationToken": "Basic whatever",
            "methodArn": format!("arn:aws:execute-api:us-east-1:222222222222:a1b2c3d4e5/{stage}/GET/app/manifests/1"),
        });
        let context = lambda_runtime::Context::default();
        let event = LambdaEvent::new(serde_json::value::to_raw_value(&event).unwrap(), context);
        let Ok(answer) = stack.handler.handle(event).await;
        let policy = serde_json::to_value(answer).unwrap();
        let statement = &policy["policyDocument"]["Statement"][0];
        assert_eq!(statement["Effect"], "Allow");
        // The gateway remembers it for the token: it must be good for the next path too. And it
        // must be good for no other stage, whichever asks.
        assert_eq!(
            statement["Resource"], "arn:aws:execute-api:us-east-1:222222222222:a1b2c3d4e5/v2/*",
            "{stage}"
        );
    }
}

#[tokio::test]
async fn the_local_registry_asks_for_a_login_if_it_is_told_to() {
    let stack = Stack::start_with_login().await;
    stack.publish(&Layout::of_layers(&[b"layer"]), "app:1").await;
    let client = reqwest::Client::new();
    let url = format!("{}/v2/app/manifests/1", stack.local.url);
    let challenge = client.get(&url).send().await.unwrap();
    assert_eq!(challenge.status(), 401);
    // The headers of the template's gateway response. The realm is the registry's own URL, as in
    // ECR: some clients send the credentials there.
    let headers = challenge.headers();
    assert_eq!(headers["www-authenticate"], format!("Basic realm=\"{}/\"", stack.local.url));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["docker-distribution-api-version"], "registry/2.0");
    let body: Value = serde_json::from_str(&challenge.text().await.unwrap()).unwrap();
    assert_eq!(body["errors"][0]["code"], "UNAUTHORIZED");

    let login = stack.json(&["login"]).await;
    assert_eq!(login["username"], "AWS");
    let pulled =
        client.get(&url).basic_auth("AWS", login["password"].as_str()).send().await.unwrap();
    assert_eq!(pulled.status(), 200);
    let pair = format!("AWS:{}", login["password"].as_str().unwrap());
    for scheme in ["basic", "BASIC"] {
        let authorization = format!("{scheme} {}", BASE64_STANDARD.encode(&pair));
        let pulled = client.get(&url).header("authorization", authorization).send().await.unwrap();
        assert_eq!(pulled.status(), 200, "{scheme}");
    }
    for authorization in ["Basic", "Basic ", "Bearer x"] {
        let refused = client.get(&url).header("authorization", authorization).send().await.unwrap();
        assert!(refused.headers().contains_key("www-authenticate"), "{authorization}");
    }
    // As text it is the password alone, for docker's --password-stdin.
    let text = stack.layergate(&["login"]).await;
    assert!(text.status.success(), "{}", stderr(&text));
    assert_eq!(String::from_utf8(text.stdout).unwrap().lines().count(), 1);
}

/// Clients log in at `proxyEndpoint`: at a local stack, that is no https.
#[tokio::test]
async fn the_endpoint_of_a_token_is_where_the_client_found_the_api() {
    let stack = Stack::start().await;
    let request = reqwest::Client::new().post(&stack.local.url).header("x-amz-target", GET_TOKEN);
    let answer: Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answer["authorizationData"][0]["proxyEndpoint"], stack.local.url);
}

#[tokio::test]
async fn without_an_api_there_is_no_login() {
    let stack = Stack::start().await;
    let mut command = stack.command(&["login"]);
    let output = command.env_remove("API_URL").output().await.unwrap();
    support::assert_refused(&output, 2, &["API_URL", "make -s outputs"]);
    let mut command = stack.command(&["login"]);
    let output = command.env("API_URL", "http://127.0.0.1:9").output().await.unwrap();
    support::assert_refused(&output, 1, &["cannot log in at http://127.0.0.1:9", "check API_URL"]);
    let foreign = call(&stack.handler, Shape::Rest, Some(GET_TOKEN), b"{}", Some(ACCOUNT)).await;
    assert_eq!(foreign.error(), "ServerException", "an event that does not name the host");
}
