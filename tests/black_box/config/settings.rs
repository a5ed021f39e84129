//! The settings: what each takes, and how a bad one is told.

use std::time::Duration;

use layergate_core::config::{Authorization, Config};

fn read(changes: &[(&str, &str)]) -> Result<Config, String> {
    let good = [
        ("TABLE_NAME", "layergate"),
        ("BUCKET_NAME", "layers.example"),
        ("DEFAULT_REGISTRY_ID", "123456789012"),
    ];
    let value = |name: &str| {
        let change = changes.iter().chain(&good).find(|(changed, _)| *changed == name);
        change.map(|(_, value)| (*value).to_owned())
    };
    Config::from_env(value).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = read(&[]).unwrap();
    assert_eq!(config.url_expiry, Duration::from_secs(3600));
    assert_eq!(config.cache_life, Duration::from_secs(10));
    assert_eq!(config.authorization, Authorization::Iam);
    assert_eq!((config.dynamodb_endpoint, config.s3_endpoint), (None, None));
    assert_eq!(config.worker_function_name, None, "nothing is fetched from other registries");
    assert_eq!((config.lambda_endpoint, config.secrets_manager_endpoint), (None, None));
}

#[test]
fn good_values_are_taken() {
    let config = read(&[
        ("URL_EXPIRY_SECONDS", "60"),
        ("AUTHORIZATION", "gateway"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
    ])
    .unwrap();
    assert_eq!(config.url_expiry, Duration::from_secs(60));
    assert_eq!(config.authorization, Authorization::Gateway);
    assert_eq!(config.dynamodb_endpoint.unwrap(), "http://127.0.0.1:8000");
    let worker = |name| read(&[("WORKER_FUNCTION_NAME", name)]).unwrap().worker_function_name;
    for name in
        ["layergate-worker", "arn:aws:lambda:us-east-1:123456789012:function:layergate_worker:7"]
    {
        assert_eq!(worker(name).as_deref(), Some(name));
    }
    assert_eq!(worker(""), None, "empty is unset");
    let endpoints = [
        ("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:8001"),
        (
            "AWS_ENDPOINT_URL_SECRETS_MANAGER",
            "https://vpce-0a.secretsmanager.us-east-1.vpce.amazonaws.com",
        ),
    ];
    let config = read(&endpoints).unwrap();
    assert_eq!(config.lambda_endpoint.as_deref(), Some(endpoints[0].1));
    assert_eq!(config.secrets_manager_endpoint.as_deref(), Some(endpoints[1].1));
    assert_eq!(read(&[("URL_EXPIRY_SECONDS", "604800")]).unwrap().url_expiry.as_secs(), 604_800);
    assert_eq!(read(&[("CACHE_SECONDS", "0")]).unwrap().cache_life, Duration::ZERO);
    assert_eq!(read(&[("CACHE_SECONDS", "300")]).unwrap().cache_life, Duration::from_secs(300));
    assert_eq!(
        read(&[("URL_EXPIRY_SECONDS", "")]).unwrap().url_expiry.as_secs(),
        3600,
        "empty is unset"
    );
}

#[test]
fn all_missing_settings_are_named_at_once() {
    let cases: [(&[&str], &str); 3] = [
        (&["BUCKET_NAME"], "BUCKET_NAME is not set"),
        (&["BUCKET_NAME", "TABLE_NAME"], "TABLE_NAME and BUCKET_NAME are not set"),
        (
            &["DEFAULT_REGISTRY_ID", "TABLE_NAME", "BUCKET_NAME"],
            "TABLE_NAME, BUCKET_NAME and DEFAULT_REGISTRY_ID are not set",
        ),
    ];
    for (missing, sentence) in cases {
        let changes: Vec<_> = missing.iter().map(|name| (*name, "")).collect();
        assert_eq!(read(&changes).map(|_| ()), Err(sentence.to_owned()));
    }
}

#[test]
fn a_bad_value_is_told_with_its_variable() {
    let cases = [
        ("TABLE_NAME", "ab"),
        ("TABLE_NAME", "a table"),
        ("BUCKET_NAME", "Layers"),
        ("BUCKET_NAME", "-layers"),
        ("DEFAULT_REGISTRY_ID", "12345678901"),
        ("URL_EXPIRY_SECONDS", "59"),
        ("URL_EXPIRY_SECONDS", "604801"),
        ("URL_EXPIRY_SECONDS", "1h"),
        ("URL_EXPIRY_SECONDS", "-60"),
        ("CACHE_SECONDS", "301"),
        ("CACHE_SECONDS", "-1"),
        ("AUTHORIZATION", "none"),
        ("AUTHORIZATION", "IAM"),
        ("WORKER_FUNCTION_NAME", "the worker"),
        ("WORKER_FUNCTION_NAME", "layergate/worker"),
        ("AWS_ENDPOINT_URL_LAMBDA", "127.0.0.1:8001"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "secretsmanager"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "127.0.0.1:8000"),
        ("AWS_ENDPOINT_URL_S3", "s3.example"),
        ("AWS_ENDPOINT_URL_S3", "ftp://s3.example"),
    ];
    for (variable, value) in cases {
        let error = read(&[(variable, value)]).map(|_| ()).unwrap_err();
        assert!(
            error.starts_with(variable) && error.contains("must be"),
            "{variable}={value}: {error}"
        );
    }
}
