//! The events in `events/`: each request of `requests.json`, in the shape of each of `rest.json`,
//! `http.json` and `url.json`. A request is named by its outcome, and has it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use support::{Stack, sample, send, source};

/// A shape's file with a request in it. All requests' bodies are without spaces, as SDKs send them.
fn event(shape: &str, request: &Value) -> String {
    let text = |name: &str| request[name].as_str().unwrap();
    let body = request["body"].to_string();
    let sent = match shape {
        "rest" => body.clone(),
        _ => BASE64_STANDARD.encode(&body), // what HTTP APIs and Function URLs do to bodies of this media type
    };
    std::fs::read_to_string(source("events").join(shape).with_extension("json"))
        .unwrap()
        .replace("OPERATION", text("operation"))
        .replace("ACCOUNT", text("account"))
        .replace("LENGTH", &body.len().to_string())
        .replace("\"BODY\"", &Value::from(sent).to_string())
}

#[tokio::test]
async fn every_request_has_the_outcome_that_it_is_named_by_in_every_shape() {
    let stack = Stack::start().await;
    let sample = sample();
    let sample = sample.to_str().unwrap();
    stack.json(&["publish", "--create-repository", sample, "hello:1.0"]).await;
    stack.json(&["publish", "--create-repository", sample, "retired:1.0"]).await;
    stack.json(&["image", "delete", "retired:1.0"]).await;

    let requests = std::fs::read(source("events/requests.json")).unwrap();
    let requests: Vec<Value> = serde_json::from_slice(&requests).unwrap();
    for shape in ["rest", "http", "url"] {
        for request in &requests {
            let name = request["name"].as_str().unwrap();
            let file = source("events").join(shape).join(format!("{name}.json"));
            let event = event(shape, request);
            if std::env::var_os("WRITE_EVENTS").is_some() {
                std::fs::write(&file, &event).unwrap();
            }
            let is_same = std::fs::read_to_string(&file).is_ok_and(|written| written == event);
            assert!(
                is_same,
                "{} is not what events/requests.json says; run `make events`",
                file.display()
            );

            let answer = send(&stack.handler, &serde_json::from_str(&event).unwrap()).await;
            answer.assert_well_formed();
            let outcome = if answer.status == 200 { "OK" } else { answer.error() };
            // Before the outcome, the operation, if it is not GetDownloadUrlForLayer.
            let named_by = name.rsplit('.').next().unwrap();
            assert_eq!(outcome, named_by, "{}", file.display());
        }
        let files = std::fs::read_dir(source("events").join(shape)).unwrap().count();
        assert_eq!(files, requests.len(), "{shape}: there is a file that no request is for");
    }
}
