//! A stand-in for API Gateway and Lambda: does what a REST API with its stages and the function's
//! runtime do between a client and the handler.

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
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use lambda_runtime::LambdaEvent;
use serde_json::value::{RawValue, to_raw_value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use layergate::access::token::{self, Tokens};
use layergate::lambda::Handler;
use layergate_core::types::{AccountId, RegistryId};
use layergate_push::Pusher;

use super::{aws_json, context, guard, without_delay};

/// The function's timeout in the template.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(29);

/// API Gateway's largest payload, in bytes.
/// Source: [API Gateway
/// quotas](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html).
const LARGEST_BODY: usize = 10 * 1024 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What requests are answered with.
pub(super) struct Gateway {
    pub(super) handler: Handler,
    /// Answers what writes.
    pub(super) pusher: Pusher,
    /// The registry. Only its own account may push.
    pub(super) registry: RegistryId,
    /// The account that requests come from, unless clients log in.
    pub(super) caller: AccountId,
    /// The tokens that clients log in to the registry with; `None` if they need not.
    pub(super) login: Option<Tokens>,
    /// Whether ECR's API is answered too. It has no login here.
    pub(super) answers_ecr: bool,
}

/// Serves until `stop` is cancelled.
pub(super) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: CancellationToken) {
    let router = Router::new().fallback(move |request| answer(gateway.clone(), request));
    let served =
        axum::serve(without_delay(listener), router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the stand-in for API Gateway stopped");
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
            return login_wanted();
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
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return gateway_error(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long");
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

/// Whether a path is of the stage `v2`, which is the registry.
fn is_of_registry(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request has what the authorizer of the registry's stage wants to see.
fn has_basic_credentials(headers: &HeaderMap) -> bool {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Basic "))
        .is_some_and(|credentials| !credentials.is_empty())
}

/// The answer of the stage to a request that has not.
fn login_wanted() -> Response {
    let mut response = gateway_error(StatusCode::UNAUTHORIZED, "");
    let body = serde_json::json!({
        "errors": [{"code": "UNAUTHORIZED", "message": "Log in to this registry and try again", "detail": null}],
    });
    *response.body_mut() = Body::from(body.to_string());
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"layergate\""));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Calls the handler through JSON both ways, as the runtime does.
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

/// The REST API's event for a request that its authorizer let in.
fn event(parts: Parts, body: &[u8], gateway: &Gateway) -> ApiGatewayProxyRequest {
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
        // The registry's authorizer knows nobody.
        let principal = ("principalId".to_owned(), "registry".into());
        event.request_context.authorizer.fields.extend([principal]);
    } else {
        let identity = &mut event.request_context.identity;
        identity.account_id = Some(gateway.caller.to_string());
        identity.user_arn = Some(format!("arn:aws:iam::{}:user/local", gateway.caller));
    }
    event
}

/// API Gateway's own answer, where the function gave none.
fn gateway_error(status: StatusCode, message: &str) -> Response {
    aws_json::response(status, &serde_json::json!({"message": message}))
}
