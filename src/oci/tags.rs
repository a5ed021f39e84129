//! Section "Listing Tags" of the specification.

use http::Response;
use http::header::LINK;
use serde_json::json;

use super::Error;
use super::response::{header_value, json};
use super::route::Call;
use layergate_core::types::ImageTag;

/// How many tags an answer has at most. A client that wants more follows the link to the next page.
const LONGEST_PAGE: usize = 1000;

/// The tags of a repository, in the order of their bytes. The query's `n` is how many the client
/// wants, its `last` the tag after which to go on.
pub(super) async fn list(mut call: Call<'_>) -> Result<Response<String>, Error> {
    let repository = call.repository()?;
    let count = match call.request.query.first("n").map(str::parse::<usize>) {
        None => LONGEST_PAGE,
        Some(Ok(count)) => count.min(LONGEST_PAGE),
        Some(Err(_)) => return Err(Error::PageInvalid),
    };
    let last = call.request.query.first("last").map(ImageTag::parse).transpose();
    let last = last.map_err(|_| Error::PageInvalid)?;
    // One more than wanted, to see whether there is a next page.
    let tags = call.service.tags(call.caller, &repository, last.as_ref(), count + 1).await;
    let mut tags =
        tags.map_err(|refusal| Error::refused(&repository, refusal, |never| match never {}))?;
    let has_more = tags.len() > count;
    tags.truncate(count);

    let names: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    let mut response = json(json!({"name": repository.name.as_ref(), "tags": names}).to_string());
    if let (true, Some(last)) = (has_more, tags.last()) {
        let next =
            format!("</v2/{}/tags/list?n={count}&last={last}>; rel=\"next\"", repository.name);
        response.headers_mut().insert(LINK, header_value(&next)?);
    }
    Ok(response)
}
