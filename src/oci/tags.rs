//! Section "Listing Tags" of the specification.

use http::header::LINK;
use http::{HeaderValue, Response};
use serde_json::json;

use super::{Error, Request, json};
use crate::access::Caller;
use crate::service::Service;
use layergate_core::types::{ImageTag, Repository};

/// How many tags an answer has at most. A client that wants more follows the link to the next page.
const LONGEST_PAGE: usize = 1000;

/// The tags of a repository, in the order of their bytes: the request's `n` first ones after `last`.
pub(super) async fn list(
    service: &Service,
    caller: &Caller,
    repository: &Repository,
    request: &Request<'_>,
) -> Result<Response<String>, Error> {
    let count = match request.n.map(str::parse::<usize>) {
        None => LONGEST_PAGE,
        Some(Ok(count)) => count.min(LONGEST_PAGE),
        Some(Err(_)) => return Err(Error::PageInvalid),
    };
    let last = request.last.map(ImageTag::parse).transpose().map_err(|_| Error::PageInvalid)?;
    // One more than wanted, to see whether there is a next page.
    let tags = service.tags(caller, repository, last.as_ref(), count + 1).await;
    let mut tags = tags.map_err(|refusal| Error::refused(repository, refusal, |never| match never {}))?;
    let has_more = tags.len() > count;
    tags.truncate(count);

    let names: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    let mut response = json(json!({"name": repository.name.as_ref(), "tags": names}).to_string());
    if let (true, Some(last)) = (has_more, tags.last()) {
        let next = format!("</v2/{}/tags/list?n={count}&last={last}>; rel=\"next\"", repository.name);
        let next = HeaderValue::from_str(&next).map_err(|error| Error::Server(error.into()))?;
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}
