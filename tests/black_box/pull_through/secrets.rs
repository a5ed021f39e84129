//! The credentials for other registries: what is read from Secrets Manager, and what never comes
//! out of it.

use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use axum::extract::Request;
use axum::response::IntoResponse;
use layergate_core::aws::{self, Patience};
use layergate_core::fault::{Backend, Fault};
use layergate_worker::secrets::{SecretError, Secrets};
use serde_json::{Value, json};

use support::serve;

const ARN: &str =
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/hub-a1b2c3";

/// Secrets Manager, which gives this answer to whoever asks for that secret, and a status
/// otherwise.
async fn secrets(status: u16, answer: Value) -> Secrets {
    let endpoint = serve(move |request: Request| {
        let answer = answer.clone();
        async move {
            assert_eq!(request.headers()["x-amz-target"], "secretsmanager.GetSecretValue");
            let body = axum::body::to_bytes(request.into_body(), 4096).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"SecretId": ARN}));
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (status, [("content-type", "application/x-amz-json-1.1")], answer.to_string())
                .into_response()
        }
    });
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let credentials = SharedCredentialsProvider::new(credentials);
    let sdk = aws::with_credentials("us-east-1".to_owned(), credentials, Patience::CLIENT);
    Secrets::new(&sdk, Some(&endpoint.await))
}

#[tokio::test]
async fn credentials_are_in_the_form_of_ecrs_secrets() {
    for secret in [
        r#"{"username":"alice","accessToken":"pass:word"}"#,
        r#"{"username":"alice","accessToken":"pass:word","note":"rotated in May"}"#,
    ] {
        let secrets = secrets(200, json!({"ARN": ARN, "SecretString": secret})).await;
        let found = secrets.credentials(ARN).await.unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("alice", "pass:word"));
        assert_eq!(found.realm, None);
        let debugged = format!("{found:?} {secrets:?}");
        assert!(!debugged.contains("alice") && !debugged.contains("pass:word"), "{debugged}");
    }
}

#[tokio::test]
async fn a_secret_in_another_form_is_refused_without_repeating_it() {
    let cases = [
        ("a password alone", json!({"SecretString": "my-secret"})),
        ("an empty text", json!({"SecretString": ""})),
        (
            "of another key",
            json!({"SecretString": r#"{"username":"alice","password":"my-secret"}"#}),
        ),
        (
            "no text, but a number",
            json!({"SecretString": r#"{"username":"my-secret","accessToken":5}"#}),
        ),
        ("no user", json!({"SecretString": r#"{"username":"","accessToken":"my-secret"}"#})),
        ("no token", json!({"SecretString": r#"{"username":"my-secret","accessToken":""}"#})),
        ("binary", json!({"SecretBinary": "bXktc2VjcmV0"})),
        ("none", json!({})),
    ];
    for (description, answer) in cases {
        let error = secrets(200, answer).await.credentials(ARN).await.unwrap_err();
        assert!(matches!(error, SecretError::OtherForm), "{description}: {error:?}");
        assert!(error.to_string().contains("accessToken"), "{description}: {error}");
        assert!(!format!("{error} {error:?}").contains("my-secret"), "{description}: {error:?}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_a_fault_of_secrets_manager() {
    let cases = [
        ("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
        (
            "AccessDeniedException",
            "User is not authorized to perform: secretsmanager:GetSecretValue",
        ),
        ("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text"),
    ];
    for (code, message) in cases {
        let secrets = secrets(400, json!({"__type": code, "message": message})).await;
        let error = secrets.credentials(ARN).await.unwrap_err();
        let SecretError::Unreadable(fault) = error else { panic!("{error:?}") };
        assert_eq!(
            fault.with_causes(),
            format!("Secrets Manager answered 400 ({code}): {message}")
        );
        let Fault::Backend(fault) = fault else { panic!("{fault:?}") };
        assert_eq!((fault.backend, fault.code.as_deref()), (Backend::SecretsManager, Some(code)));
    }
}
