//! [ListImages](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html): the
//! tags of a repository's images, each with the image's digest, and the digests of the images that
//! have no tag.

use serde::Serialize;

use super::filter::Filter;
use super::image_id::ImageIdentifier;
use super::paging::{PageRequest, Paging, token};
use super::{Context, Error, Members, Operation, members};
use crate::subject::Subject;
use layergate_core::catalog::page::{Counted, ImageFilter, ImagePosition, TaggedImage};
use layergate_core::types::{RegistryId, Repository};

/// The request.
pub(super) struct ListImages {
    /// From `registryId` (or the default registry) and `repositoryName`.
    repository: Repository,
    filter: ImageFilter,
    page: PageRequest<ImagePosition>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    image_ids: Vec<ImageIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Operation for ListImages {
    const NAME: &'static str = "ListImages";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.take("repositoryName")?;
        let registry_id = members.take("registryId")?;
        let paging = Paging::read(&mut members)?;
        let filter = Filter::read(&mut members)?;

        let repository = members::repository(name, registry_id, default_registry)?;
        let page = paging.parse(ImagePosition::parse)?;
        Ok(Self { repository, filter: filter.parse()?, page })
    }

    fn note(&self, subject: &mut Subject) {
        subject.repository = Some(self.repository.clone());
    }

    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let Self { repository, filter, page: PageRequest { most, after } } = self;
        let (service, caller) = (context.service, context.caller);
        let page = service
            .image_page(caller, &repository, filter, Counted::Tags, after.as_ref(), most)
            .await;
        let page = page.map_err(|refusal| Error::no_access(context, &repository, refusal))?;
        let image_ids = page.entries.iter().flat_map(ids).collect();
        Ok(Output { image_ids, next_token: page.end.map(token) })
    }
}

fn ids(TaggedImage { image, tags }: &TaggedImage) -> Vec<ImageIdentifier> {
    let digest = Some(image.digest.canonical());
    match &tags[..] {
        [] => vec![ImageIdentifier { image_digest: digest, image_tag: None }],
        tags => tags
            .iter()
            .map(|tag| ImageIdentifier {
                image_digest: digest.clone(),
                image_tag: Some(tag.to_string()),
            })
            .collect(),
    }
}
