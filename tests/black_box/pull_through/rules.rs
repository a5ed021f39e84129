//! Pull through cache rules as the tool manages them: what is taken, what is refused, what the
//! worker says about one, and what stays when one is deleted.

use std::path::Path;

use axum::response::IntoResponse;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use support::upstream::{basic, is_authorized};
use support::{Layout, OUTSIDER, Recorder, Stack, assert_refused, headed, stderr};

const ARN: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/hub";

/// The rules, without the times of their creation.
async fn rules(stack: &Stack) -> Vec<Value> {
    let list = stack.json(&["pull-through", "list"]).await;
    let rules = list["pullThroughCacheRules"].as_array().unwrap().iter().cloned();
    rules.map(without_time).collect()
}

fn without_time(mut rule: Value) -> Value {
    let created_at = rule.as_object_mut().unwrap().remove("createdAt").unwrap();
    assert!(created_at.as_u64().unwrap() > 1_700_000_000, "{created_at}");
    rule
}

/// Writes a secret of the local stack.
fn write_secret(stack: &Stack, name: &str, secret: &str) {
    let path = stack.folder.path().join("secrets").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, secret).unwrap();
}

/// A registry that takes alice's credentials alone.
async fn registry_of_alice() -> Recorder {
    Recorder::start(|request| match is_authorized(request, &basic()) {
        true => "{}".into_response(),
        false => headed(401, "www-authenticate", "Basic realm=\"registry\""),
    })
    .await
}

#[tokio::test]
async fn a_rule_is_created_shown_listed_and_deleted() {
    let stack = Stack::start().await;
    assert_eq!(rules(&stack).await, [Value::Null; 0]);
    let hub = json!({
        "ecrRepositoryPrefix": "docker-hub",
        "upstreamRegistryUrl": "https://registry-1.docker.io",
        "upstreamRepositoryPrefix": "team",
        "credentialArn": ARN,
        "registryId": ACCOUNT,
        "beforeStored": "wait",
        "accounts": ["111111111111", "333333333333"],
        "allowedHosts": ["[fd00::1]", "mirror.internal"],
    });
    let create = "pull-through create docker-hub/ --upstream https://docker.io --upstream-prefix team --before-stored wait \
                  --grant 333333333333 --grant 111111111111 --grant 333333333333 --allow-host mirror.internal \
                  --allow-host [fd00::1] --credential-arn";
    let create: Vec<_> = create.split_whitespace().chain([ARN]).collect();
    assert_eq!(without_time(stack.json(&create).await), hub);
    let smallest = json!({
        "ecrRepositoryPrefix": "ROOT",
        "upstreamRegistryUrl": "http://registry:5000",
        "registryId": ACCOUNT,
        "beforeStored": "redirect",
        "accounts": [],
        "allowedHosts": [],
    });
    let created = stack
        .json(&["pull-through", "create", "ROOT", "--upstream", "http://registry:5000/"])
        .await;
    assert_eq!(without_time(created), smallest);

    assert_eq!(rules(&stack).await, [smallest, hub.clone()], "in the order of their prefixes");
    assert_eq!(without_time(stack.json(&["pull-through", "show", "docker-hub"]).await), hub);
    let shown = stack.layergate(&["pull-through", "show", "docker-hub"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    for what in
        ["https://registry-1.docker.io/team", "wait", ARN, OUTSIDER, "mirror.internal", "[fd00::1]"]
    {
        assert!(shown.contains(what), "'{what}' is not in: {shown}");
    }

    let again = stack
        .layergate(&["pull-through", "create", "docker-hub", "--upstream", "https://quay.io"])
        .await;
    assert_refused(&again, 5, &["docker-hub", "already", "delete it first"]);
    assert_eq!(
        without_time(stack.json(&["pull-through", "show", "docker-hub"]).await),
        hub,
        "unchanged"
    );

    assert_eq!(without_time(stack.json(&["pull-through", "delete", "docker-hub"]).await), hub);
    for command in ["show", "delete", "validate"] {
        let refused = stack.layergate(&["pull-through", command, "docker-hub"]).await;
        assert_refused(&refused, 4, &["no rule 'docker-hub'", ACCOUNT, "pull-through list"]);
    }
    assert_eq!(rules(&stack).await.len(), 1);
}

#[tokio::test]
async fn bad_input_is_refused_in_one_sentence_and_makes_no_rule() {
    let stack = Stack::start().await;
    let url = "https://quay.io";
    let cases: [(&str, &[&str], &[&str]); 27] = [
        ("no prefix", &["--upstream", url], &["PREFIX"]),
        ("no upstream", &["quay"], &["--upstream"]),
        ("a prefix of one character", &["q", "--upstream", url], &["the prefix", "2"]),
        (
            "a prefix of 31",
            &["a23456789012345678901234567890x", "--upstream", url],
            &["the prefix", "30"],
        ),
        ("upper case", &["Quay", "--upstream", url], &["the prefix", "lower-case"]),
        ("a path upwards", &["../quay", "--upstream", url], &["the prefix"]),
        ("a host for a URL", &["quay", "--upstream", "quay.io"], &["https://"]),
        ("a URL with a path", &["quay", "--upstream", "https://quay.io/v2/team"], &["https://"]),
        (
            "a URL with a user",
            &["quay", "--upstream", "https://alice:secret@quay.io"],
            &["https://"],
        ),
        ("another scheme", &["quay", "--upstream", "ftp://quay.io"], &["https://"]),
        ("two upstreams", &["quay", "--upstream", url, "--upstream", url], &["--upstream"]),
        (
            "a bad upstream prefix",
            &["quay", "--upstream", url, "--upstream-prefix", "Team/"],
            &["name"],
        ),
        (
            "a bad way",
            &["quay", "--upstream", url, "--before-stored", "never"],
            &["redirect", "wait"],
        ),
        ("a bad account", &["quay", "--upstream", url, "--grant", "1234"], &["account", "12"]),
        (
            "a host with a port",
            &["quay", "--upstream", url, "--allow-host", "mirror:5000"],
            &["mirror:5000"],
        ),
        (
            "a URL for a host",
            &["quay", "--upstream", url, "--allow-host", "http://mirror"],
            &["--allow-host"],
        ),
        (
            "no ARN",
            &["quay", "--upstream", url, "--credential-arn", "hub"],
            &["ecr-pullthroughcache/NAME"],
        ),
        (
            "an ARN of IAM",
            &["--credential-arn", "arn:aws:iam::123456789012:role/hub"],
            &["secretsmanager"],
        ),
        (
            "a secret that is not for this",
            &["--credential-arn", &arn("prod/db")],
            &["ecr-pullthroughcache/"],
        ),
        ("a prefix alone", &["--credential-arn", &arn("ecr-pullthroughcache/")], &["NAME"]),
        ("another character", &["--credential-arn", &arn("ecr-pullthroughcache/a b")], &["NAME"]),
        ("a colon", &["--credential-arn", &arn("ecr-pullthroughcache/a:b")], &["NAME"]),
        ("no region", &["--credential-arn", &ARN.replace("us-east-1", "")], &["REGION"]),
        ("no account", &["--credential-arn", &ARN.replace("000000000000", "")], &["ACCOUNT"]),
        ("a short account", &["--credential-arn", &ARN.replace("000000000000", "0")], &["ACCOUNT"]),
        ("another partition", &["--credential-arn", &ARN.replace("aws", "gcp")], &["arn:aws"]),
        ("a line break", &["--credential-arn", &format!("{ARN}\n")], &["NAME"]),
    ];
    for (description, arguments, words) in cases {
        let begin: &[&str] = match arguments[0] {
            "--credential-arn" => &["pull-through", "create", "quay", "--upstream", url],
            _ => &["pull-through", "create"],
        };
        let output = stack.layergate(&[begin, arguments].concat()).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{description}: {said}");
        for word in words {
            assert!(said.contains(word), "{description}: '{word}' is not in: {said}");
        }
    }
    assert_eq!(rules(&stack).await, [Value::Null; 0]);
    for command in ["show", "delete", "validate"] {
        let output = stack.layergate(&["pull-through", command, "Quay"]).await;
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

fn arn(name: &str) -> String {
    ARN.replace("ecr-pullthroughcache/hub", name)
}

#[tokio::test]
async fn partitions_other_than_aws_have_secrets_too() {
    let stack = Stack::start().await;
    for (prefix, partition) in [("china", "aws-cn"), ("gov", "aws-us-gov")] {
        let arn = ARN.replace("arn:aws:", &format!("arn:{partition}:"));
        let create = [
            "pull-through",
            "create",
            prefix,
            "--upstream",
            "https://quay.io",
            "--credential-arn",
            &arn,
        ];
        assert_eq!(stack.json(&create).await["credentialArn"], arn);
    }
}

#[tokio::test]
async fn rules_survive_a_restart() {
    let stack = Stack::start().await;
    for prefix in ["quay", "team/mirror"] {
        stack
            .json(&[
                "pull-through",
                "create",
                prefix,
                "--upstream",
                "https://quay.io",
                "--grant",
                OUTSIDER,
            ])
            .await;
    }
    let before = rules(&stack).await;
    let stack = Stack::start_on_copy(&stack.stop().await).await;
    assert_eq!(rules(&stack).await, before);
    assert_eq!(before.len(), 2);
}

#[tokio::test]
async fn what_a_rule_made_outlives_it() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[b"layer"]);
    let upstream = Recorder::registry(&layout, |_| None).await;
    stack
        .json(&[
            "pull-through",
            "create",
            "cache",
            "--upstream",
            &upstream.url,
            "--grant",
            OUTSIDER,
        ])
        .await;
    let manifest = "/v2/cache/team/app/manifests/1";
    let pulled = stack.pull("GET", manifest).await;
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let repository = stack.json(&["repository", "show", "cache/team/app"]).await;
    assert_eq!(repository["accounts"], json!([OUTSIDER]), "it has the rule's grants");
    let images = stack.json(&["image", "list", "cache/team/app"]).await;
    assert_eq!(images["images"][0]["imageTags"], json!(["1"]));

    stack.json(&["pull-through", "delete", "cache"]).await;
    let asked = upstream.asked();
    assert_eq!(stack.json(&["image", "list", "cache/team/app"]).await, images);
    assert_eq!(stack.json(&["repository", "show", "cache/team/app"]).await, repository);
    let again = stack.pull("GET", manifest).await;
    assert_eq!(again.headers["docker-content-digest"], pulled.headers["docker-content-digest"]);
    let other = stack.pull("GET", "/v2/cache/team/other/manifests/1").await;
    assert_eq!((other.status, upstream.asked()), (404, asked), "nothing is fetched any more");
}

#[tokio::test]
async fn the_worker_says_whether_a_rules_upstream_lets_it_in() {
    let stack = Stack::start().await;
    write_secret(
        &stack,
        "ecr-pullthroughcache/hub",
        r#"{"username":"alice","accessToken":"pass:word"}"#,
    );
    write_secret(
        &stack,
        "ecr-pullthroughcache/old",
        r#"{"username":"alice","accessToken":"old-password"}"#,
    );
    write_secret(&stack, "ecr-pullthroughcache/text", "my-password");
    write_secret(&stack, "other", r#"{"username":"alice","accessToken":"pass:word"}"#);
    std::fs::create_dir(stack.folder.path().join("secrets/ecr-pullthroughcache/folder")).unwrap();
    let registry = registry_of_alice().await;
    let cases: [(&str, &str, Option<&str>); 8] = [
        ("alice", ARN, None),
        ("old", &arn("ecr-pullthroughcache/old"), Some("refused")),
        ("anonymous", "", Some("refused")),
        ("text", &arn("ecr-pullthroughcache/text"), Some("secret")),
        ("missing", &arn("ecr-pullthroughcache/missing"), Some("ResourceNotFoundException")),
        ("folder", &arn("ecr-pullthroughcache/folder"), Some("ResourceNotFoundException")),
        ("above", &arn("ecr-pullthroughcache/../other"), Some("ResourceNotFoundException")),
        (
            "outside",
            &arn("ecr-pullthroughcache/../../secrets/ecr-pullthroughcache/hub"),
            Some("ResourceNotFoundException"),
        ),
    ];
    for (prefix, arn, failure) in cases {
        let mut create = vec!["pull-through", "create", prefix, "--upstream", &registry.url];
        if !arn.is_empty() {
            create.extend(["--credential-arn", arn]);
        }
        stack.json(&create).await;
        let output =
            stack.layergate(&["--output", "json", "pull-through", "validate", prefix]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = format!("{answer}{}", stderr(&output));
        assert_eq!(
            (&answer["ecrRepositoryPrefix"], &answer["registryId"]),
            (&prefix.into(), &ACCOUNT.into())
        );
        match failure {
            None => assert_eq!(
                (output.status.code(), &answer["isValid"]),
                (Some(0), &true.into()),
                "{said}"
            ),
            Some(failure) => {
                assert_eq!(
                    (output.status.code(), &answer["isValid"]),
                    (Some(1), &false.into()),
                    "{said}"
                );
                assert!(answer["failure"].as_str().unwrap().contains(failure), "{prefix}: {said}");
                assert!(
                    stderr(&output).starts_with(&format!("layergate: the rule '{prefix}'")),
                    "{said}"
                );
            }
        }
        for secret in ["pass:word", "old-password", "my-password"] {
            assert!(!said.contains(secret), "{prefix}: {said}");
        }
    }
    let text = stack.layergate(&["pull-through", "validate", "alice"]).await;
    assert_eq!(String::from_utf8(text.stdout).unwrap(), "alice is valid\n");
}

#[tokio::test]
async fn the_token_server_that_sees_the_credentials_is_shown_once_it_is_known() {
    let stack = Stack::start().await;
    write_secret(
        &stack,
        "ecr-pullthroughcache/hub",
        r#"{"username":"alice","accessToken":"pass:word"}"#,
    );
    let token_server =
        Recorder::start(|_| axum::Json(json!({"token": "the-token"})).into_response()).await;
    let realm = token_server.url;
    let challenge = format!("Bearer realm=\"{realm}/token\",service=\"registry\"");
    let registry =
        Recorder::start(move |request| match is_authorized(request, "Bearer the-token") {
            true => "{}".into_response(),
            false => headed(401, "www-authenticate", &challenge),
        })
        .await;
    stack
        .json(&[
            "pull-through",
            "create",
            "hub",
            "--upstream",
            &registry.url,
            "--credential-arn",
            ARN,
        ])
        .await;
    assert_eq!(stack.json(&["pull-through", "show", "hub"]).await["realm"], Value::Null);
    stack.json(&["pull-through", "validate", "hub"]).await;
    assert_eq!(stack.json(&["pull-through", "show", "hub"]).await["realm"], realm);
    let text = stack.layergate(&["pull-through", "show", "hub"]).await;
    assert!(String::from_utf8(text.stdout).unwrap().contains(&realm));
}

#[tokio::test]
async fn a_rule_cannot_be_validated_without_a_worker_that_runs() {
    let stack = Stack::start().await;
    stack.json(&["pull-through", "create", "quay", "--upstream", "https://quay.io"]).await;
    let validate = |name: &str, value: &str| {
        let mut command = stack.command(&["pull-through", "validate", "quay"]);
        command.env(name, value);
        async move { command.output().await.unwrap() }
    };
    assert_refused(
        &validate("WORKER_FUNCTION_NAME", "").await,
        2,
        &["WORKER_FUNCTION_NAME is not set"],
    );
    let refused = validate("WORKER_FUNCTION_NAME", "another").await;
    assert_refused(
        &refused,
        1,
        &["Lambda answered 404 (ResourceNotFoundException)", "WORKER_FUNCTION_NAME"],
    );
    let failing = Recorder::start(|_| headed(200, "x-amz-function-error", "Unhandled")).await;
    let refused = validate("AWS_ENDPOINT_URL_LAMBDA", &failing.url).await;
    assert_refused(
        &refused,
        1,
        &["Lambda answered 200 (Unhandled)", "the function failed", "worker's log"],
    );
    let other = Recorder::start(|_| "<html>".into_response()).await;
    let refused = validate("AWS_ENDPOINT_URL_LAMBDA", &other.url).await;
    assert_refused(&refused, 1, &["Lambda", "check the endpoint"]);
}

/// A stack that is stopped does not wait for an upstream that does not answer.
#[tokio::test]
async fn a_stack_stops_while_its_worker_fetches() {
    let stack = Stack::start().await;
    let upstream = support::serve(async |_: axum::extract::Request| {
        std::future::pending::<axum::response::Response>().await
    });
    stack.json(&["pull-through", "create", "cache", "--upstream", &upstream.await]).await;
    let pulled = stack.pull("GET", "/v2/cache/team/app/manifests/1");
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(1), pulled).await.is_err(),
        "it waits"
    );
    let stopping = stack.stop();
    let folder = tokio::time::timeout(std::time::Duration::from_secs(20), stopping).await.unwrap();
    assert!(Path::exists(&folder.path().join("dynamodb.sqlite")));
}
