//! A stand-in for API Gateway and Lambda, between a client and the handler: it does what a REST API
//! with its stages and the function's runtime do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lambda_runtime::LambdaEvent;
use serde_json::value::{RawValue, to_raw_value};

use layergate::access::token::{self, Tokens};
use layergate::lambda::Handler;
use layergate_core::types::{AccountId, RegistryId};
use layergate_push::Pusher;

use super::{aws_json, context, guard};

/// The function's timeout in the template.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(29);

/// API Gateway's largest payload, in bytes.
/// Source: [API Gateway
/// quotas](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html).
const LARGEST_BODY: usize = 10 * 1024 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the gateway answers requests with.
pub(super) struct Gateway {
    pub(super) handler: Handler,
    /// Answers what writes.
    pub(super) pusher: Pusher,
    /// The gateway's own URL.
    pub(super) url: String,
    /// The registry. Only its own account may push.
    pub(super) registry: RegistryId,
    /// The account that requests come from, unless clients log in.
    pub(super) caller: AccountId,
    /// The tokens that clients log in to the registry with; `None` if they need not.
    pub(super) login: Option<Tokens>,
    /// Whether ECR's API is answered too. It has no login here.
    pub(super) answers_ecr: bool,
    /// How long a client may take to send the body of a request that reads.
    pub(super) patience: Duration,
}

impl Gateway {
    /// Answers every request.
    pub(super) fn router(self) -> Router {
        let gateway = Arc::new(self);
        Router::new().fallback(move |request| answer(gateway.clone(), request))
    }
}

async fn answer(gateway: Arc<Gateway>, request: Request) -> Response {
    if gateway.login.is_none()
        && let Some(why) = guard::refusal(request.headers())
    {
        return gateway_error(StatusCode::FORBIDDEN, why);
    }
    let mut request = request;
    if is_of_registry(request.uri().path()) {
        if gateway.login.is_some() && !has_basic_credentials(request.headers()) {
            return login_wanted(&gateway.url);
        }
        if gateway.may_push(request.headers()).await {
            match gateway.pusher.answer(request).await {
                Ok(response) => return response,
                Err(other) => request = *other,
            }
        }
    } else if request.method() != Method::POST || !gateway.answers_ecr {
        return gateway_error(StatusCode::FORBIDDEN, "Missing Authentication Token");
    }
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(gateway.patience, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return gateway_error(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long"),
        Err(_elapsed) => return gateway_error(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
    };
    match invoke(&gateway, parts, &body).await {
        Ok(response) => response,
        Err(error) => failed(&error),
    }
}

impl Gateway {
    /// Whether a request comes from the registry's own account. What is wrong with a token, the
    /// function says.
    async fn may_push(&self, headers: &HeaderMap) -> bool {
        match &self.login {
            None => self.caller == self.registry,
            Some(tokens) => {
                let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let Some(token) = value.and_then(token::from_basic_credentials) else {
                    return false;
                };
                let caller = tokens.verify(&token, SystemTime::now()).await;
                caller.is_ok_and(|caller| caller.reads_all_of(&self.registry))
            }
        }
    }
}

fn failed(error: &Error) -> Response {
    tracing::error!(%error, "the stand-in for API Gateway failed");
    gateway_error(StatusCode::BAD_GATEWAY, "Internal server error")
}

/// Whether a path belongs to the stage `v2`, which is the registry.
fn is_of_registry(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request has credentials for the authorizer of the registry's stage, as the template's
/// `identityValidationExpression` requires.
fn has_basic_credentials(headers: &HeaderMap) -> bool {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, credentials)| {
        scheme.eq_ignore_ascii_case("basic") && !credentials.is_empty()
    })
}

/// The answer to all other requests of this stage: the template's gateway response `UNAUTHORIZED`,
/// with another realm. The realm here is the registry's URL, as in ECR, because some clients send
/// the credentials to the realm.
fn login_wanted(url: &str) -> Response {
    let mut response = gateway_error(StatusCode::UNAUTHORIZED, "");
    let body = serde_json::json!({
        "errors": [{"code": "UNAUTHORIZED", "message": "Log in to this registry and try again", "detail": null}],
    });
    *response.body_mut() = Body::from(body.to_string());
    let headers = response.headers_mut();
    if let Ok(challenge) = HeaderValue::from_str(&format!("Basic realm=\"{url}/\"")) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let protocol = HeaderName::from_static("docker-distribution-api-version");
    headers.insert(protocol, HeaderValue::from_static("registry/2.0"));
    response
}

/// Calls the handler. Event and answer pass through JSON, as with the runtime.
async fn invoke(gateway: &Gateway, parts: Parts, body: &[u8]) -> Result<Response, Error> {
    let event: Box<RawValue> = to_raw_value(&event(parts, body, gateway))?;
    let Ok(answer) =
        gateway.handler.handle(LambdaEvent::new(event, context(FUNCTION_TIMEOUT))).await;
    let response: ApiGatewayProxyResponse = serde_json::from_slice(&serde_json::to_vec(&answer)?)?;

    let body = response.body.map(|body| Vec::from(body.as_ref())).unwrap_or_default();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(u16::try_from(response.status_code)?)?;
    *answer.headers_mut() = response.headers;
    Ok(answer)
}

/// The REST API's event for a request that its authorizer admitted.
fn event(mut parts: Parts, body: &[u8], gateway: &Gateway) -> ApiGatewayProxyRequest {
    let mut event = ApiGatewayProxyRequest::default();
    let path = parts.uri.path();
    let is_of_registry = is_of_registry(path);
    let below_stage = if is_of_registry { &path["/v2".len()..] } else { path };
    event.path = Some(if below_stage.is_empty() { "/" } else { below_stage }.to_owned());
    event.query_string_parameters =
        parts.uri.query().unwrap_or_default().parse().unwrap_or_default();
    let context = &mut event.request_context;
    context.path = Some(path.to_owned());
    context.domain_name =
        parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    event.http_method = parts.method;
    let scheme = HeaderName::from_static("x-forwarded-proto");
    parts.headers.insert(scheme, HeaderValue::from_static("http"));
    event.multi_value_headers = parts.headers.clone();
    event.headers = parts.headers;
    match std::str::from_utf8(body) {
        Ok("") => {}
        Ok(text) => event.body = Some(text.to_owned()),
        Err(_) => {
            event.body = Some(BASE64_STANDARD.encode(body));
            event.is_base64_encoded = true;
        }
    }
    if is_of_registry && gateway.login.is_some() {
        // The registry's authorizer does not identify the caller.
        let principal = ("principalId".to_owned(), "registry".into());
        event.request_context.authorizer.fields.extend([principal]);
    } else {
        let identity = &mut event.request_context.identity;
        identity.account_id = Some(gateway.caller.to_string());
        identity.user_arn = Some(format!("arn:aws:iam::{}:user/local", gateway.caller));
    }
    event
}

/// API Gateway's own answer, without the function.
fn gateway_error(status: StatusCode, message: &str) -> Response {
    aws_json::response(status, &serde_json::json!({"message": message}))
}
