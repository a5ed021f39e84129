//! The events that the function is called with: requests in the forms of a REST API, an HTTP API and a Function URL, and
//! what a REST API asks its authorizer.

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::access::Caller;
use crate::ecr::Error;
use layergate_core::types::AccountId;

/// Whom the registry's authorizer says it has let in.
pub(super) const PRINCIPAL: &str = "registry";

/// An event.
pub(super) enum Event {
    /// A request to be answered.
    Request(Box<Request>),
    /// A REST API asks whether the holder of a token may call the method with this ARN.
    Authorizer {
        /// `arn:<partition>:execute-api:<region>:<account>:<API>/<stage>/<method>/<path>`.
        method_arn: String,
    },
}

/// What the forms of a request have in common.
pub(super) struct Request {
    pub(super) method: Method,
    /// Where the registry's path is looked for.
    paths: [Option<String>; 2],
    /// These parameters of the query.
    pub(super) n: Option<String>,
    pub(super) last: Option<String>,
    pub(super) waited: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: RequestBody,
    /// The IAM identity that the gateway verified.
    pub(super) caller: Caller,
    /// Whether the registry's authorizer let the request in, which lets in whoever sends anything.
    pub(super) is_let_in_by_any_token: bool,
    /// The name that the client reached the API by.
    pub(super) host: Option<String>,
}

pub(super) struct RequestBody {
    text: String,
    is_base64: bool,
}

impl RequestBody {
    pub(super) fn read(self) -> Result<Vec<u8>, Error> {
        match self.is_base64 {
            false => Ok(self.text.into_bytes()),
            true => BASE64_STANDARD
                .decode(self.text)
                .map_err(|_| Error::Serialization("The body is not valid base64".to_owned())),
        }
    }
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
            // Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html
            (_, Some("TOKEN"), Some(method_arn)) => Ok(Self::Authorizer { method_arn }),
            (Some("2.0"), ..) => Ok(Self::Request(Box::new(Request::from_http_api(event_from(event)?)))),
            _ => Ok(Self::Request(Box::new(Request::from_rest_api(event_from(event)?)))),
        }
    }
}

impl Request {
    fn from_rest_api(event: ApiGatewayProxyRequest) -> Self {
        let context = event.request_context;
        // Not requestContext.accountId: that is the API's owner.
        let identity = (context.identity.account_id, context.identity.user_arn);
        let authorized_by = context.authorizer.fields.get("principalId").and_then(Value::as_str);
        Self {
            is_let_in_by_any_token: authorized_by == Some(PRINCIPAL),
            method: event.http_method,
            paths: [context.path, event.path],
            n: event.query_string_parameters.first("n").map(str::to_owned),
            last: event.query_string_parameters.first("last").map(str::to_owned),
            waited: event.query_string_parameters.first("waited").map(str::to_owned),
            headers: event.headers,
            body: RequestBody { text: event.body.unwrap_or_default(), is_base64: event.is_base64_encoded },
            caller: caller(identity),
            host: context.domain_name,
        }
    }

    fn from_http_api(event: ApiGatewayV2httpRequest) -> Self {
        let context = event.request_context;
        let iam = context.authorizer.and_then(|authorizer| authorizer.iam);
        Self {
            is_let_in_by_any_token: false,
            method: context.http.method,
            paths: [event.raw_path, None],
            n: event.query_string_parameters.first("n").map(str::to_owned),
            last: event.query_string_parameters.first("last").map(str::to_owned),
            waited: event.query_string_parameters.first("waited").map(str::to_owned),
            headers: event.headers,
            body: RequestBody { text: event.body.unwrap_or_default(), is_base64: event.is_base64_encoded },
            caller: iam.map_or(Caller::Anonymous, |iam| caller((iam.account_id, iam.user_arn))),
            host: context.domain_name,
        }
    }

    /// The path, without the leading `/v2`, if it is one of the registry's.
    ///
    /// The registry is the REST API's stage `v2`, or a custom domain's base path of that name. Both are in
    /// `requestContext.path` alone. `sam local` gives the path below the stage there and in `path` what the client sent.
    pub(super) fn registry_path(&self) -> Option<&str> {
        let paths = self.paths.iter().flatten();
        let mut below = paths.filter_map(|path| path.strip_prefix("/v2"));
        below.find(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn event_from<'a, T: Deserialize<'a>>(event: &'a RawValue) -> Result<T, Error> {
    serde_json::from_str(event.get()).map_err(|_| {
        Error::Serialization("The event is not one of API Gateway's or of a Function URL's".to_owned())
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
