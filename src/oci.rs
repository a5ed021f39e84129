//! The registry protocol, for pulls: docker, containerd, podman and others use it.
//!
//! No layer passes through: the function redirects to its object in S3. It answers with manifests,
//! because clients need a manifest's digest beside it.
//!
//! Source: [OCI Distribution
//! Specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md).

mod blobs;
mod error;
mod manifests;
mod response;
mod route;
mod tags;

use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{Method, Response};

use crate::access::Caller;
use crate::access::token::{self, Refused};
use crate::request::Request;
use crate::service::Service;
use crate::subject::Subject;
use route::{Call, Parameters, Route, route};

pub use error::Error;

/// The routes. A method that no route has gets 405, and a path that no route has gets 404.
static ROUTES: [Route; 4] = [
    route(GET, "/v2/", "CheckApi", |call| Box::pin(check(call))),
    route(GET, "/v2/<name>/manifests/<reference>", "GetManifest", |call| {
        Box::pin(manifests::get(call))
    }),
    route(GET, "/v2/<name>/blobs/<digest>", "GetBlob", |call| Box::pin(blobs::get(call))),
    route(GET, "/v2/<name>/tags/list", "ListTags", |call| Box::pin(tags::list(call))),
];

const GET: Method = Method::GET;

/// Answers a request. `caller` is whom the gateway identified. Verifies the token first: a caller
/// without a valid one learns nothing about the registry's content.
pub async fn call(
    service: &Service,
    caller: Caller,
    request: &Request,
    subject: &mut Subject,
) -> Result<Response<String>, Error> {
    let caller = authenticate(service, caller, request).await?;
    subject.caller = caller.arn().map(str::to_owned);
    let (route, path) = find_route(request)?;
    let call =
        Call { service, caller: &caller, request, operation: route.operation, path, subject };
    let mut response = match (route.handler)(call).await {
        Err(Error::BeingFetched) => ask_again(request)?,
        outcome => outcome?,
    };
    if request.method == Method::HEAD {
        response.body_mut().clear();
    }
    Ok(response)
}

/// The route of a request, and the parameters in its path. HEAD uses the route of GET.
fn find_route(request: &Request) -> Result<(&'static Route, Parameters<'_>), Error> {
    let method = if request.method == Method::HEAD { &GET } else { &request.method };
    let mut routes = ROUTES.iter().filter(|route| route.method == *method).peekable();
    routes.peek().ok_or(Error::ReadOnly)?;
    let found = routes.find_map(|route| Some((route, route.parameters(&request.path)?)));
    found.ok_or(Error::NoSuchEndpoint)
}

/// Authenticates a request by its token. Without one, the caller is the IAM identity that the
/// gateway verified. The template's registry has none: docker cannot sign requests.
async fn authenticate(
    service: &Service,
    caller: Caller,
    request: &Request,
) -> Result<Caller, Error> {
    let authorization = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = authorization.and_then(token::from_basic_credentials) else {
        return match caller {
            Caller::Identified { .. } => Ok(caller),
            Caller::Trusted | Caller::Anonymous => Err(Error::Unauthorized),
        };
    };
    let tokens = service.tokens.as_ref().ok_or(Error::Unauthorized)?;
    tokens.verify(&token, SystemTime::now()).await.map_err(|refused| match refused {
        Refused::NotAToken => Error::Unauthorized,
        Refused::Expired => Error::TokenExpired,
        Refused::Fault(fault) => fault.into(),
    })
}

/// Section "Determining Support" of the specification.
async fn check(call: Call<'_>) -> Result<Response<String>, Error> {
    call.subject.operation = Some(call.operation);
    Ok(response::json("{}".to_owned()))
}

/// Redirects a client to the same path, a few times. Most clients stop a pull at the first error,
/// but all of them follow ten redirects, and the last one must lead to S3.
///
/// The query's `waited` counts these redirects.
fn ask_again(request: &Request) -> Result<Response<String>, Error> {
    const MOST_TIMES: u8 = 8;
    let waited = request.query.first("waited");
    let times = waited.and_then(|waited| waited.parse().ok()).unwrap_or(0);
    if times >= MOST_TIMES {
        return Err(Error::BeingFetched);
    }
    // A relative URL keeps the stage and everything else before the path.
    response::temporary_redirect(&format!("?waited={}", times + 1))
}
