//! [ListImages](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html): the tags of a
//! repository's images, each with the image's digest, and the digests of the images that have no tag.

use serde::Serialize;

use super::filter::Filter;
use super::image_id::ImageIdentifier;
use super::paging::{PageRequest, Paging, token};
use super::{Context, Error, Members, protocol};
use layergate_core::catalog::page::{Counted, ImageFilter, ImagePosition, TaggedImage};
use layergate_core::types::{RegistryId, Repository};

/// The operation's name, as `X-Amz-Target` spells it.
pub const NAME: &str = "ListImages";

/// What is asked for.
#[derive(Debug)]
pub struct Input {
    /// From `registryId` (or the default registry) and `repositoryName`.
    pub repository: Repository,
    filter: ImageFilter,
    page: PageRequest<ImagePosition>,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    image_ids: Vec<ImageIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Input {
    /// Reads the request: the types of all members first, then each member's constraint.
    pub fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.string("repositoryName")?;
        let registry_id = members.string("registryId")?;
        let paging = Paging::read(&mut members)?;
        let filter = Filter::read(&mut members)?;

        let repository = protocol::repository(name, registry_id, default_registry)?;
        let page = paging.parse(ImagePosition::parse)?;
        Ok(Self { repository, filter: filter.parse()?, page })
    }
}

/// Answers a call.
pub async fn call(context: &Context<'_>, input: Input) -> Result<Output, Error> {
    let Input { repository, filter, page: PageRequest { most, after } } = input;
    let (service, caller) = (context.service, context.caller);
    let page = service.image_page(caller, &repository, filter, Counted::Tags, after.as_ref(), most).await;
    let page = page.map_err(|refusal| Error::no_access(context, NAME, &repository, refusal))?;
    let image_ids = page.entries.iter().flat_map(ids).collect();
    Ok(Output { image_ids, next_token: page.end.map(token) })
}

fn ids(TaggedImage { image, tags }: &TaggedImage) -> Vec<ImageIdentifier> {
    let digest = Some(image.digest.canonical());
    match &tags[..] {
        [] => vec![ImageIdentifier { image_digest: digest, image_tag: None }],
        tags => tags
            .iter()
            .map(|tag| ImageIdentifier { image_digest: digest.clone(), image_tag: Some(tag.to_string()) })
            .collect(),
    }
}
