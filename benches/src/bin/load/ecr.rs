//! Calls of ECR's GetDownloadUrlForLayer, and what their answers say.

use layergate_bench::Result;
use layergate_bench::http::{Message, connect, message};
use layergate_bench::stack::{Stack, TARGET};
use serde_json::{Value, json};

use crate::REPOSITORY;
use crate::layer::Outcome;

const GET_TOKEN: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

/// A call for a layer's URL.
pub fn call(digest: &str) -> Vec<u8> {
    let body = json!({"repositoryName": REPOSITORY, "layerDigest": digest});
    message(&head(TARGET), body.to_string().as_bytes())
}

/// Gets credentials for the registry.
pub fn credentials(stack: &Stack) -> Result<String> {
    let mut connection = connect(stack.address)?;
    connection.send(&head(GET_TOKEN), b"{}")?;
    let answer = connection.receive()?.ok_or("the stack closed a connection")?;
    let body: Value = serde_json::from_slice(answer.body)?;
    let credentials = body["authorizationData"][0]["authorizationToken"].as_str();
    credentials.map(str::to_owned).ok_or_else(|| "the stack's answer has no token".into())
}

fn head(target: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {target}")
}

/// What an answer says. `None` if it is not well-formed, or is a server error.
pub fn outcome(answer: &Message, digest: &str) -> Option<Outcome> {
    let body: Value = serde_json::from_slice(answer.body).ok()?;
    let members = body.as_object().filter(|members| members.len() == 2)?;
    let is_json = answer.header("content-type") == Some("application/x-amz-json-1.1");
    let error_type = answer.header("x-amzn-errortype");
    if !is_json || answer.header("x-amzn-requestid").is_none() {
        return None;
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    match answer.word(1) {
        "200" => {
            let hex = digest.strip_prefix("sha256:")?;
            let url = text("downloadUrl")?;
            let right =
                url.contains(hex) && url.contains("X-Amz-Signature=") && error_type.is_none();
            (right && text("layerDigest")? == digest).then_some(Outcome::Given)
        }
        "400" => {
            let code = text("__type")?;
            let right = error_type == Some(code) && !text("message")?.is_empty();
            match code {
                "LayersNotFoundException" => right.then_some(Outcome::NotFound),
                "LayerInaccessibleException" => right.then_some(Outcome::Inaccessible),
                _ => None,
            }
        }
        _ => None,
    }
}
