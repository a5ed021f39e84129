//! A stand-in for API Gateway and Lambda: does what a REST API and the function's runtime do between a client and the
//! handler.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use http::request::Parts;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::{RawValue, to_raw_value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use layergate::lambda::Handler;
use layergate::types::AccountId;

use super::without_delay;

/// The function's timeout in the template.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(6);

/// API Gateway's largest payload, in bytes.
/// Source: [API Gateway quotas](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html).
const LARGEST_BODY: usize = 10 * 1024 * 1024;

/// What requests are answered with.
pub(super) struct Gateway {
    pub(super) handler: Handler,
    /// The account they come from.
    pub(super) caller: AccountId,
}

/// Serves until `stop` is cancelled.
pub(super) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: CancellationToken) {
    let router = Router::new().fallback(move |request| answer(gateway.clone(), request));
    let served = axum::serve(without_delay(listener), router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the stand-in for API Gateway stopped");
    }
}

async fn answer(gateway: Arc<Gateway>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return gateway_error(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long");
    };
    match invoke(&gateway, parts, &body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "the stand-in for API Gateway failed");
            gateway_error(StatusCode::BAD_GATEWAY, "Internal server error")
        }
    }
}

/// Calls the handler through JSON both ways, as the runtime does.
async fn invoke(
    gateway: &Gateway,
    parts: Parts,
    body: &[u8],
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let event: Box<RawValue> = to_raw_value(&event(parts, body, &gateway.caller))?;
    let Ok(response) = gateway.handler.handle(LambdaEvent::new(event, context())).await;
    let response: ApiGatewayProxyResponse = serde_json::from_slice(&serde_json::to_vec(&response)?)?;

    let body = response.body.map(|body| Vec::from(body.as_ref())).unwrap_or_default();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(u16::try_from(response.status_code)?)?;
    *answer.headers_mut() = response.headers;
    Ok(answer)
}

/// The REST API's event for a request that its IAM authorizer let in.
fn event(parts: Parts, body: &[u8], caller: &AccountId) -> ApiGatewayProxyRequest {
    let mut event = ApiGatewayProxyRequest::default();
    event.path = Some(parts.uri.path().to_owned());
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
    let identity = &mut event.request_context.identity;
    identity.account_id = Some(caller.to_string());
    identity.user_arn = Some(format!("arn:aws:iam::{caller}:user/local"));
    event
}

fn context() -> Context {
    let deadline = SystemTime::now() + FUNCTION_TIMEOUT;
    let since_1970 = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut context = Context::default();
    context.request_id = Uuid::new_v4().to_string();
    context.deadline = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    context
}

/// API Gateway's own answer, where the function gave none.
fn gateway_error(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(serde_json::json!({"message": message}).to_string()));
    *response.status_mut() = status;
    response
}
