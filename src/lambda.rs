//! Answers Lambda events. Decides which API a request is for, turns a panic or the deadline into an
//! error, and writes the log line of each request.

mod event;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_lambda_events::apigw::ApiGatewayProxyResponse;
use aws_lambda_events::encodings::Body;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::access::Caller;
use crate::service::Service;
use crate::subject::Subject;
use crate::{ecr, oci};
use event::{Event, PRINCIPAL, Received};
use layergate_core::config::Authorization;
use layergate_core::fault::{Cause, with_causes};

/// How long before Lambda's deadline the function stops working on a request, so that it has time
/// to send the error.
const MARGIN: Duration = Duration::from_millis(300);

/// The Lambda function.
#[derive(Debug)]
pub struct Handler {
    service: Service,
    authorization: Authorization,
    warm: AtomicBool,
}

/// The function's answer to the gateway. Has no `Debug`, because a response may contain a URL or a
/// token.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The response to a request.
    Response(Box<ApiGatewayProxyResponse>),
    /// The policy that a REST API requires from its authorizer.
    /// Source: [Output from an API Gateway Lambda
    /// authorizer](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html).
    Policy(Value),
}

/// A response of one of the two APIs, without the headers that all responses have.
type Response = http::Response<String>;

/// Why a request was refused, by one of the two APIs.
enum Failure {
    Ecr(ecr::Error),
    Oci(oci::Error),
}

/// Which API a request is for.
#[derive(Debug, Clone, Copy)]
enum Face {
    Ecr,
    Oci { is_head: bool },
}

impl Face {
    fn fault(self, cause: &'static str) -> Failure {
        let cause = Cause::from(cause);
        match self {
            Self::Ecr => Failure::Ecr(ecr::Error::Server(cause)),
            Self::Oci { .. } => Failure::Oci(oci::Error::Server(cause)),
        }
    }

    fn refuse(self, failure: &Failure) -> Response {
        match failure {
            Failure::Ecr(error) => error.response(),
            Failure::Oci(error) => error.response(matches!(self, Self::Oci { is_head: true })),
        }
    }
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::Ecr(error) => error.code(),
            Self::Oci(error) => error.code(),
        }
    }

    /// What only the log says, if the service failed and not the request.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Ecr(ecr::Error::Server(cause) | ecr::Error::Throttling(cause))
            | Self::Oci(oci::Error::Server(cause) | oci::Error::TooManyRequests(cause)) => {
                Some(with_causes(cause.as_ref()))
            }
            _ => None,
        }
    }
}

impl Handler {
    /// A handler that answers from `service`.
    pub fn new(service: Service, authorization: Authorization) -> Self {
        Self { service, authorization, warm: AtomicBool::new(false) }
    }

    /// Answers an event: a request in any of the three forms (REST API, HTTP API, Function URL), or
    /// a REST API's question to its authorizer.
    ///
    /// Answers every event, even one of another form. Every failure becomes an error of the API
    /// that the request is for. If the function itself failed, the gateway would answer with a 502
    /// that no client understands.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Infallible> {
        let started = Instant::now();
        let time_left =
            event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let request_id = event.context.request_id;
        let mut subject = Subject::default();
        let cold_start = !self.warm.swap(true, Ordering::Relaxed);

        // The parser panics if an event has more headers than a map can hold.
        let parsed = std::panic::catch_unwind(|| Event::parse(&event.payload));
        let (face, outcome) = match parsed {
            Ok(Ok(Event::Authorizer { method_arn })) => {
                return Ok(Answer::Policy(policy(&method_arn)));
            }
            Ok(Err(error)) => (Face::Ecr, Err(Failure::Ecr(error))),
            Err(_panic) => (Face::Ecr, Err(Face::Ecr.fault("the event's parser panicked"))),
            Ok(Ok(Event::Request(received))) => {
                let face = received.face;
                let call = AssertUnwindSafe(self.call(*received, &mut subject)).catch_unwind();
                let outcome =
                    match tokio::time::timeout(time_left.saturating_sub(MARGIN), call).await {
                        Ok(Ok(outcome)) => outcome,
                        Ok(Err(_panic)) => Err(face.fault("the handler panicked")),
                        Err(_elapsed) => Err(face.fault("the deadline came before the answer")),
                    };
                (face, outcome)
            }
        };

        log(&request_id, &subject, outcome.as_ref().err(), started.elapsed(), cold_start);
        let response = outcome.unwrap_or_else(|failure| face.refuse(&failure));
        Ok(Answer::Response(Box::new(gateway_response(response, &request_id))))
    }

    async fn call(&self, received: Received, subject: &mut Subject) -> Result<Response, Failure> {
        let Received { face, request, caller, is_let_in_by_any_token } = received;
        match face {
            Face::Oci { .. } => {
                oci::call(&self.service, caller, &request, subject).await.map_err(Failure::Oci)
            }
            Face::Ecr => {
                let caller = match self.authorization {
                    // API Gateway deploys the methods of /v2 to every stage, so a request that was
                    // admitted only by a token may arrive elsewhere.
                    _ if is_let_in_by_any_token => Caller::Anonymous,
                    Authorization::Gateway => Caller::Trusted,
                    Authorization::Iam => caller,
                };
                ecr::call(&self.service, &caller, &request, subject).await.map_err(Failure::Ecr)
            }
        }
    }
}

/// Allows every token to call every method of the registry's stage, and no method of another stage.
/// The function verifies the token in each request, because there it can tell the client what is
/// wrong. An authorizer cannot: its errors have no text.
///
/// The policy names the whole stage because the gateway caches it for the token, not for the
/// method.
fn policy(method_arn: &str) -> Value {
    let api = method_arn.split('/').next().unwrap_or_default();
    json!({
        "principalId": PRINCIPAL,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": format!("{api}/v2/*")},
            ],
        },
    })
}

/// The response in a form that all three gateways accept.
fn gateway_response(response: Response, request_id: &str) -> ApiGatewayProxyResponse {
    let (parts, body) = response.into_parts();
    let mut headers: HeaderMap = parts.headers;
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id);
    }
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = parts.status.as_u16().into();
    response.headers = headers;
    response.body = Some(Body::Text(body));
    response
}

/// Writes the one log line of a request. The template's metric filters count by `outcome`.
fn log(
    request_id: &str,
    subject: &Subject,
    failure: Option<&Failure>,
    duration: Duration,
    cold_start: bool,
) {
    let repository = subject.repository.as_ref();
    let registry = repository.map(|repository| repository.registry.as_ref());
    let repository = repository.map(|repository| repository.name.as_ref());
    // A client may send a digest of megabytes.
    let digest = subject.digest.as_ref().map(|digest| format!("{digest:.200}"));
    let tag = subject.tag.as_ref().map(AsRef::as_ref);
    let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
    let outcome = failure.map_or("OK", Failure::code);
    macro_rules! line {
        ($level:ident $(, $cause:ident)?) => {
            tracing::$level!(
                request_id,
                operation = subject.operation,
                registry,
                repository,
                digest,
                tag,
                caller = subject.caller.as_deref(),
                outcome,
                $($cause,)?
                duration_ms,
                cold_start,
                "request"
            )
        };
    }
    match failure.and_then(Failure::cause) {
        Some(cause) => line!(error, cause),
        None => line!(info),
    }
}
