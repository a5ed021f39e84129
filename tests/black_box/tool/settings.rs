//! Mistakes in settings, credentials and endpoints.

use std::process::Stdio;

use axum::response::IntoResponse;
use support::{Mistakes, Recorder, mistake, nobody_listens, program, with};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn wrong_settings_are_told_with_what_helps() {
    let mut mistakes = Mistakes::start().await;
    let (nobody, _reserved) = nobody_listens();
    let web = Recorder::start(|_| "<html>It works!</html>".into_response()).await;
    let engines = &mistakes.stack.local.engines;
    let dynamodb = engines.dynamodb_url.strip_prefix("http://").unwrap().to_owned();
    mistakes.values.extend([("nobody", nobody), ("web", web.url), ("dynamodb", dynamodb)]);
    const NO_KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    mistakes.make(&[
        with(
            &[("TABLE_NAME", ""), ("BUCKET_NAME", ""), ("DEFAULT_REGISTRY_ID", "")],
            mistake(
                "no settings",
                "repository list",
                2,
                "layergate: the settings TABLE_NAME, BUCKET_NAME and DEFAULT_REGISTRY_ID are not set; run \
                 '. .layergate/local.env' for a local stack, or 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("BUCKET_NAME", "")],
            mistake(
                "no bucket",
                "repository list",
                2,
                "layergate: the setting BUCKET_NAME is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")],
            mistake(
                "no region",
                "repository list",
                2,
                "layergate: the setting AWS_REGION is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("API_URL", "")],
            mistake(
                "no API_URL",
                "login",
                2,
                "layergate: the setting API_URL is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("API_URL", "https://alice:secret@{host}")],
            mistake(
                "an API_URL with a password",
                "login",
                2,
                "layergate: the setting API_URL must be the URL of ECR's API without a user or a query, such as \
                 https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/Prod",
            ),
        ),
        with(
            NO_KEYS,
            mistake(
                "no credentials",
                "repository list",
                1,
                "layergate: there are no AWS credentials; run 'aws configure' or 'aws sso login', or for a local \
                 stack '. .layergate/local.env'",
            ),
        ),
        with(
            NO_KEYS,
            mistake(
                "no credentials to log in with",
                "login",
                1,
                "layergate: cannot log in at http://{host}: there are no AWS credentials; run 'aws configure' or \
                 'aws sso login', or for a local stack '. .layergate/local.env'",
            ),
        ),
        with(
            &[("API_URL", "{nobody}")],
            mistake(
                "an API that is not there",
                "login",
                1,
                "layergate: cannot log in at {nobody}: the server cannot be reached: Connection refused (os error \
                 111); check API_URL and the network",
            ),
        ),
        with(
            &[("API_URL", "{web}")],
            mistake(
                "another server",
                "login",
                1,
                "layergate: cannot log in at {web}: the server is not a layergate API; check API_URL",
            ),
        ),
        with(
            &[("AWS_ENDPOINT_URL_DYNAMODB", "{nobody}")],
            mistake(
                "a stack that was started again",
                "repository list",
                1,
                "layergate: DynamoDB cannot be reached at {nobody}: Connection refused (os error 111); check the \
                 endpoint AWS_ENDPOINT_URL_DYNAMODB: start the local stack if it does not run, and then run \
                 '. .layergate/local.env' again",
            ),
        ),
        with(
            &[("AWS_ENDPOINT_URL_DYNAMODB", "https://{dynamodb}")],
            mistake(
                "https for a local DynamoDB",
                "repository list",
                1,
                "layergate: DynamoDB at https://{dynamodb} does not speak TLS; check the endpoint \
                 AWS_ENDPOINT_URL_DYNAMODB: begin it with http://",
            ),
        ),
        with(
            &[("DEFAULT_REGISTRY_ID", "111111111111")],
            mistake(
                "another account",
                "repository list",
                0,
                "layergate: there are no repositories in registry 111111111111; if that is wrong, check \
                 DEFAULT_REGISTRY_ID",
            ),
        ),
        with(
            &[("DEFAULT_REGISTRY_ID", "111111111111")],
            mistake(
                "another account's rules",
                "pull-through list",
                0,
                "layergate: there are no pull-through cache rules in registry 111111111111; if that is wrong, check \
                 DEFAULT_REGISTRY_ID",
            ),
        ),
    ])
    .await;
}

/// docker hides what its helpers print. `docs/troubleshooting.md` says how to see it.
#[tokio::test]
async fn the_credential_helper_says_why_there_are_no_credentials() {
    let mistakes = Mistakes::start().await;
    let no_keys = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let mut helper = mistakes.command(&program("docker-credential-layergate"), &no_keys);
    let helper = helper.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut helper = helper.spawn().unwrap();
    let mut stdin = helper.stdin.take().unwrap();
    stdin.write_all(mistakes.filled_in("{host}").as_bytes()).await.unwrap();
    drop(stdin);
    let output = helper.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "cannot log in at http://{host}: there are no AWS credentials; run 'aws configure' or 'aws sso \
                    login', or for a local stack '. .layergate/local.env'";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), mistakes.filled_in(expected));
}
