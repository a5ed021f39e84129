//! The log lines of pulls through the cache: all that an operator needs, and nothing that is
//! secret.

use std::process::Stdio;
use std::time::Duration;

use axum::response::IntoResponse;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use support::upstream::{basic, is_authorized};
use support::{Layout, Recorder, headed, layergate, sha256, start_local};

const SECRET: &str = r#"{"username":"alice","accessToken":"pass:word"}"#;

#[tokio::test]
async fn no_log_line_has_a_secret_a_token_or_a_url() {
    let layout = Layout::of_layers(&[b"given", b"refused", b"broken"]);
    let contents = layout.contents();
    let elsewhere = Recorder::start(move |request| {
        let digest = request.uri.path().trim_start_matches('/');
        match () {
            () if digest == sha256(b"refused") => headed(403, "x", "x"),
            () if digest == sha256(b"broken") => {
                "the body says X-Amz-Signature=secret".into_response()
            }
            () => contents[digest].clone().into_response(),
        }
    })
    .await;
    let token_server =
        Recorder::start(|_| axum::Json(json!({"token": "the-token"})).into_response()).await;
    let (realm, target) = (token_server.url.clone(), elsewhere.url.clone());
    let registry = Recorder::registry(&layout, move |request| {
        if !is_authorized(request, "Bearer the-token") {
            let realm = format!(r#"Bearer realm="{realm}/token?account=alice",service="registry""#);
            return Some(headed(401, "www-authenticate", &realm));
        }
        let (_, digest) = request.uri.path().split_once("/blobs/")?;
        Some(headed(307, "location", &format!("{target}/{digest}?X-Amz-Signature=signature")))
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets/ecr-pullthroughcache");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("hub"), SECRET).unwrap();
    let (local, environment) = start_local(folder.path(), Stdio::piped()).await;
    let arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/hub";
    let create =
        ["pull-through", "create", "hub", "--upstream", &registry.url, "--credential-arn", arn];
    layergate(&environment, &create).await;

    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = &environment["API_URL"];
    let get = async |what: &str| {
        let answer = client.get(format!("{url}/v2/hub/team/app/{what}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("manifests/1").await.0, 200);
    assert_eq!(get(&format!("blobs/{}", sha256(b"given"))).await.0, 307);
    let refused = [
        get(&format!("blobs/{}", sha256(b"refused"))).await,
        get(&format!("blobs/{}", sha256(b"broken"))).await,
        get("manifests/2").await,
    ];
    assert_eq!(refused.each_ref().map(|answer| answer.0), [403, 424, 404], "{refused:?}");
    tokio::time::timeout(Duration::from_secs(20), async {
        while elsewhere.asked().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let pid = Pid::from_raw(local.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = local.wait_with_output().await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();

    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes =
        lines.iter().filter(|line| line["message"] == "fill").map(|line| line["outcome"].as_str());
    let mut outcomes: Vec<_> = outcomes.map(Option::unwrap).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["AccessDenied", "NotFound", "OK", "OK", "WrongContent"], "{log}");
    let answers = lines.iter().filter(|line| line["operation"] == "GetBlob").count();
    assert_eq!(answers, 3, "{log}");
    let secrets = ["alice", "pass:word", "the-token", "ignature", "http://", "https://", "X-Amz"];
    for secret in secrets.into_iter().chain([basic().split_once(' ').unwrap().1]) {
        assert!(!log.contains(secret), "{secret} is in {log}");
        assert!(
            !refused.iter().any(|answer| answer.1.contains(secret)),
            "{secret} is in {refused:?}"
        );
    }
}
