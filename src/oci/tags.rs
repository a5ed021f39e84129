//! Section "Listing Tags" of the specification.

use http::Response;
use http::header::LINK;
use serde_json::json;

use super::Error;
use super::response::{header_value, json};
use super::route::Call;
use layergate_core::types::ImageTag;

/// The most tags in an answer. For more tags, a client follows the link to the next page.
const LONGEST_PAGE: usize = 1000;

/// The tags of a repository, in the order of their bytes. The query's `n` is how many tags the
/// client wants, and `last` is the tag before the first of them. Clients that build URLs send them
/// empty if they have no value.
pub(super) async fn list(mut call: Call<'_>) -> Result<Response<String>, Error> {
    let repository = call.repository()?;
    let parameter = |name| call.request.query.first(name).filter(|value| !value.is_empty());
    let count = match parameter("n").map(str::parse::<usize>) {
        None => LONGEST_PAGE,
        Some(Ok(count)) => count.min(LONGEST_PAGE),
        Some(Err(_)) => return Err(Error::PageInvalid),
    };
    let last = parameter("last").map(ImageTag::parse).transpose();
    let last = last.map_err(|_| Error::PageInvalid)?;
    // One more tag shows whether there is a next page.
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
