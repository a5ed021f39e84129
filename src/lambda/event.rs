//! The function's events: requests in the forms of a REST API, an HTTP API and a Function URL, and
//! a REST API's question to its authorizer.

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use base64::prelude::BASE64_STANDARD;
use base64::{DecodeError, Engine};
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Face;
use crate::access::Caller;
use crate::ecr::Error;
use crate::request::{Origin, Request};
use layergate_core::types::AccountId;

/// The principal that the registry's authorizer returns for each request that it admits.
pub(super) const PRINCIPAL: &str = "registry";

/// An event.
pub(super) enum Event {
    /// A request to one of the two APIs.
    Request(Box<Received>),
    /// A REST API asks whether the holder of a token may call the method with this ARN.
    Authorizer {
        /// `arn:<partition>:execute-api:<region>:<account>:<API>/<stage>/<method>/<path>`.
        method_arn: String,
    },
}

/// A request, and what its gateway says about it.
pub(super) struct Received {
    pub(super) face: Face,
    pub(super) request: Request,
    /// The IAM identity that the gateway verified.
    pub(super) caller: Caller,
    /// Whether the registry's authorizer admitted the request. It accepts every token, valid or
    /// not.
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
        // Not requestContext.accountId, which is the owner of the API.
        let identity = (context.identity.account_id, context.identity.user_arn);
        let authorized_by = context.authorizer.fields.get("principalId").and_then(Value::as_str);
        let is_let_in_by_any_token = authorized_by == Some(PRINCIPAL);
        let paths = [context.path.map(|path| percent_decoded(&path)), event.path];
        let (face, path) = route(&event.http_method, paths);
        let request = Request {
            method: event.http_method,
            path,
            query: event.query_string_parameters,
            origin: context.domain_name.map(|host| origin(host, &event.headers)),
            headers: event.headers,
            body: body(event.body, event.is_base64_encoded),
        };
        Self { face, request, caller: caller(identity), is_let_in_by_any_token }
    }

    fn from_http_api(event: ApiGatewayV2httpRequest) -> Self {
        let context = event.request_context;
        let iam = context.authorizer.and_then(|authorizer| authorizer.iam);
        let caller = iam.map_or(Caller::Anonymous, |iam| caller((iam.account_id, iam.user_arn)));
        let is_function_url =
            context.domain_name.as_ref().is_some_and(|host| host.contains(".lambda-url."));
        let path = match is_function_url {
            true => event.raw_path.map(|path| percent_decoded(&path)),
            false => event.raw_path, // an HTTP API decodes it
        };
        let (face, path) = route(&context.http.method, [path, None]);
        let request = Request {
            method: context.http.method,
            path,
            query: event.query_string_parameters,
            origin: context.domain_name.map(|host| origin(host, &event.headers)),
            headers: event.headers,
            body: body(event.body, event.is_base64_encoded),
        };
        Self { face, request, caller, is_let_in_by_any_token: false }
    }
}

/// Which API the request is for, and its path there. `paths` are without percent-encoding.
///
/// The registry is the REST API's stage `v2`, or a custom domain's base path of that name. Only
/// `requestContext.path` has the stage or the base path, and it is percent-encoded. `sam local` has
/// the resource's path there, and the decoded path of the request in `path`.
fn route(method: &Method, paths: [Option<String>; 2]) -> (Face, String) {
    let below_v2 = paths.iter().flatten().find_map(|path| {
        path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match below_v2 {
        Some(path) => (Face::Oci { is_head: method == Method::HEAD }, path.to_owned()),
        None => (Face::Ecr, paths.into_iter().flatten().next().unwrap_or_default()),
    }
}

/// Decodes a path of a REST API or a Function URL, which hand it on as the client sent it. A path
/// must be decoded only once, because `%2531` means `%31`, not `1`.
fn percent_decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// The address that a client used. AWS's gateways accept only https. The local stack and
/// `sam local` accept http, and say so in this header.
fn origin(host: String, headers: &HeaderMap) -> Origin {
    let is_plain = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "http");
    Origin { scheme: if is_plain { "http" } else { "https" }, host }
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
