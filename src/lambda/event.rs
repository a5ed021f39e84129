//! The events that the function is called with: requests in the forms of a REST API, an HTTP API
//! and a Function URL, and what a REST API asks its authorizer.

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use base64::prelude::BASE64_STANDARD;
use base64::{DecodeError, Engine};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Face;
use crate::access::Caller;
use crate::ecr::Error;
use crate::request::Request;
use layergate_core::types::AccountId;

/// The principal that the registry's authorizer names for each request that it lets in.
pub(super) const PRINCIPAL: &str = "registry";

/// An event.
pub(super) enum Event {
    /// A request to be answered.
    Request(Box<Received>),
    /// A REST API asks whether the holder of a token may call the method with this ARN.
    Authorizer {
        /// `arn:<partition>:execute-api:<region>:<account>:<API>/<stage>/<method>/<path>`.
        method_arn: String,
    },
}

/// A request, and what its gateway says of it.
pub(super) struct Received {
    pub(super) face: Face,
    pub(super) request: Request,
    /// The IAM identity that the gateway verified.
    pub(super) caller: Caller,
    /// Whether the registry's authorizer let the request in. It accepts any token, good or not.
    pub(super) is_let_in_by_any_token: bool,
}

impl Event {
    pub(super) fn parse(event: &RawValue) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape<'a> {
            #[serde(borrow)]
            version: Option<Cow<'a, str>>,
            #[serde(borrow, rename = "type")]
            kind: Option<Cow<'a, str>>,
            method_arn: Option<String>,
        }
        let shape: Shape = event_from(event)?;
        match (shape.version.as_deref(), shape.kind.as_deref(), shape.method_arn) {
            // Source:
            // https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html
            (_, Some("TOKEN"), Some(method_arn)) => Ok(Self::Authorizer { method_arn }),
            (Some("2.0"), ..) => {
                Ok(Self::Request(Box::new(Received::from_http_api(event_from(event)?))))
            }
            _ => Ok(Self::Request(Box::new(Received::from_rest_api(event_from(event)?)))),
        }
    }
}

impl Received {
    fn from_rest_api(event: ApiGatewayProxyRequest) -> Self {
        let context = event.request_context;
        // Not requestContext.accountId: that is the API's owner.
        let identity = (context.identity.account_id, context.identity.user_arn);
        let authorized_by = context.authorizer.fields.get("principalId").and_then(Value::as_str);
        let is_let_in_by_any_token = authorized_by == Some(PRINCIPAL);
        let (face, path) = route(&event.http_method, [context.path, event.path]);
        let request = Request {
            method: event.http_method,
            path,
            query: event.query_string_parameters,
            headers: event.headers,
            body: body(event.body, event.is_base64_encoded),
            host: context.domain_name,
        };
        Self { face, request, caller: caller(identity), is_let_in_by_any_token }
    }

    fn from_http_api(event: ApiGatewayV2httpRequest) -> Self {
        let context = event.request_context;
        let iam = context.authorizer.and_then(|authorizer| authorizer.iam);
        let caller = iam.map_or(Caller::Anonymous, |iam| caller((iam.account_id, iam.user_arn)));
        let (face, path) = route(&context.http.method, [event.raw_path, None]);
        let request = Request {
            method: context.http.method,
            path,
            query: event.query_string_parameters,
            headers: event.headers,
            body: body(event.body, event.is_base64_encoded),
            host: context.domain_name,
        };
        Self { face, request, caller, is_let_in_by_any_token: false }
    }
}

/// Which API the request is for, and its path there.
///
/// The registry is the REST API's stage `v2`, or a custom domain's base path of that name. Both are
/// in `requestContext.path` alone. `sam local` has the path below the stage there, and what the
/// client sent in `path`.
fn route(method: &Method, paths: [Option<String>; 2]) -> (Face, String) {
    let below_v2 = paths.iter().flatten().find_map(|path| {
        path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match below_v2 {
        Some(path) => (Face::Oci { is_head: method == Method::HEAD }, path.to_owned()),
        None => (Face::Ecr, paths.into_iter().flatten().next().unwrap_or_default()),
    }
}

fn body(text: Option<String>, is_base64: bool) -> Result<Vec<u8>, DecodeError> {
    let text = text.unwrap_or_default();
    match is_base64 {
        true => BASE64_STANDARD.decode(text),
        false => Ok(text.into_bytes()),
    }
}

fn event_from<'a, T: Deserialize<'a>>(event: &'a RawValue) -> Result<T, Error> {
    serde_json::from_str(event.get()).map_err(|_| {
        Error::Serialization(
            "The event is not one of API Gateway's or of a Function URL's".to_owned(),
        )
    })
}

fn caller(identity: (Option<String>, Option<String>)) -> Caller {
    match identity {
        (Some(account), Some(arn)) => match AccountId::parse(&account) {
            Ok(account) => Caller::Identified { account, arn },
            Err(_) => Caller::Anonymous,
        },
        _ => Caller::Anonymous,
    }
}
