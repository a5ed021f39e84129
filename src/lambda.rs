//! From a Lambda event to an answer. Reads events of three shapes, and the caller in each. Turns a panic or the
//! deadline into an answer, and writes the log line of each request.

use std::borrow::Cow;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse, ApiGatewayV2httpRequest};
use aws_lambda_events::encodings::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use lambda_runtime::LambdaEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::access::Caller;
use crate::config::Authorization;
use crate::ecr::{self, Error, Members, Reply, Subject};
use crate::service::Service;
use crate::types::AccountId;

/// How long before Lambda's deadline a request is given up, so that there is time to send the answer.
const MARGIN: Duration = Duration::from_millis(300);

/// The Lambda function.
#[derive(Debug)]
pub struct Handler {
    service: Service,
    authorization: Authorization,
    warm: AtomicBool,
}

impl Handler {
    /// A handler that answers from `service`.
    pub fn new(service: Service, authorization: Authorization) -> Self {
        Self { service, authorization, warm: AtomicBool::new(false) }
    }

    /// Answers an event of any of the three shapes: REST API (v1), HTTP API (v2), Function URL (v2 as well).
    ///
    /// Every event is answered, even one of another shape. Whatever goes wrong becomes an error of ECR's protocol. If
    /// the function itself failed, the gateway would answer with a 502 that no client understands.
    pub async fn handle(
        &self,
        event: LambdaEvent<Box<RawValue>>,
    ) -> Result<ApiGatewayProxyResponse, Infallible> {
        let started = Instant::now();
        let mut subject = Subject::default();
        let time_left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();

        let call = AssertUnwindSafe(self.call(&event.payload, &mut subject)).catch_unwind();
        let outcome = match tokio::time::timeout(time_left.saturating_sub(MARGIN), call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Error::Server("the handler panicked".into())),
            Err(_elapsed) => Err(Error::Server("the deadline came before the answer".into())),
        };

        let request_id = event.context.request_id;
        let cold_start = !self.warm.swap(true, Ordering::Relaxed);
        log(&request_id, &subject, outcome.as_ref().err(), started.elapsed(), cold_start);
        Ok(response(Reply::render(outcome.as_ref()), &request_id))
    }

    async fn call(&self, event: &RawValue, subject: &mut Subject) -> Result<Value, Error> {
        let request = Request::parse(event)?;
        let caller = match self.authorization {
            Authorization::Gateway => Caller::Trusted,
            Authorization::Iam => request.caller,
        };
        let target =
            request.headers.get("x-amz-target").map(|value| String::from_utf8_lossy(value.as_bytes()));
        let members = || Members::parse(&request.body.read()?);
        ecr::call(&self.service, target.as_deref(), members, &caller, subject).await
    }
}

/// What the shapes of events have in common.
struct Request {
    headers: HeaderMap,
    body: RequestBody,
    caller: Caller,
}

struct RequestBody {
    text: String,
    is_base64: bool,
}

impl RequestBody {
    fn read(self) -> Result<Vec<u8>, Error> {
        match self.is_base64 {
            false => Ok(self.text.into_bytes()),
            true => BASE64_STANDARD
                .decode(self.text)
                .map_err(|_| Error::Serialization("The body is not valid base64".to_owned())),
        }
    }
}

impl Request {
    fn parse(event: &RawValue) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(borrow)]
            version: Option<Cow<'a, str>>,
        }
        let shape: Shape = event_from(event)?;

        let (headers, text, is_base64, identity) = if shape.version.as_deref() == Some("2.0") {
            let event: ApiGatewayV2httpRequest = event_from(event)?;
            let iam = event.request_context.authorizer.and_then(|authorizer| authorizer.iam);
            let identity = iam.map(|iam| (iam.account_id, iam.user_arn));
            (event.headers, event.body, event.is_base64_encoded, identity)
        } else {
            let event: ApiGatewayProxyRequest = event_from(event)?;
            // Not requestContext.accountId: that is the API's owner.
            let identity = event.request_context.identity;
            (
                event.headers,
                event.body,
                event.is_base64_encoded,
                Some((identity.account_id, identity.user_arn)),
            )
        };

        let body = RequestBody { text: text.unwrap_or_default(), is_base64 };
        Ok(Self { headers, body, caller: caller(identity) })
    }
}

fn event_from<'a, T: Deserialize<'a>>(event: &'a RawValue) -> Result<T, Error> {
    serde_json::from_str(event.get()).map_err(|_| {
        Error::Serialization("The event is not one of API Gateway's or of a Function URL's".to_owned())
    })
}

fn caller(identity: Option<(Option<String>, Option<String>)>) -> Caller {
    match identity {
        Some((Some(account), Some(arn))) => match AccountId::parse(&account) {
            Ok(account) => Caller::Identified { account, arn },
            Err(_) => Caller::Anonymous,
        },
        _ => Caller::Anonymous,
    }
}

/// The response, in a form that the gateways of all three shapes accept.
fn response(reply: Reply, request_id: &str) -> ApiGatewayProxyResponse {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(ecr::CONTENT_TYPE));
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id);
    }
    if let Some(error_type) = reply.error_type {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(error_type));
    }
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = reply.status.as_u16().into();
    response.headers = headers;
    response.body = Some(Body::Text(reply.body));
    response
}

/// Writes the one log line of a request. The template's metric filters count by `outcome`.
fn log(request_id: &str, subject: &Subject, error: Option<&Error>, duration: Duration, cold_start: bool) {
    let repository = subject.repository.as_ref();
    let registry = repository.map(|repository| repository.registry.as_ref());
    let repository = repository.map(|repository| repository.name.as_ref());
    let digest = subject.digest.as_ref().map(|digest| format!("{digest:.200}")); // a client may send megabytes
    let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
    macro_rules! line {
        ($level:ident, $outcome:expr $(, $cause:ident)?) => {
            tracing::$level!(
                request_id,
                operation = subject.operation,
                registry,
                repository,
                digest,
                outcome = $outcome,
                $($cause,)?
                duration_ms,
                cold_start,
                "request"
            )
        };
    }
    match error {
        None => line!(info, "OK"),
        Some(error @ (Error::Server(_) | Error::Throttling(_))) => {
            let cause = error.cause();
            line!(error, error.code(), cause);
        }
        Some(error) => line!(info, error.code()),
    }
}
