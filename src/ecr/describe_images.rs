//! [DescribeImages](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html):
//! tags, size and time of a repository's images, or of some of them.

use std::collections::HashSet;

use serde::Serialize;

use super::filter::Filter;
use super::image_id::{ImageIdentifier, MOST_IMAGES};
use super::paging::{PageRequest, Paging, token};
use super::{Context, Error, Members, Operation, members};
use crate::service::ImageName;
use crate::subject::Subject;
use layergate_core::catalog::page::{Counted, ImageFilter, ImagePosition, TaggedImage};
use layergate_core::types::{RegistryId, Repository};

/// The request.
pub(super) struct DescribeImages {
    /// From `registryId` (or the default registry) and `repositoryName`.
    repository: Repository,
    images: Images,
}

/// The images to describe.
#[derive(Debug)]
enum Images {
    /// Those of `imageIds`: as the request spells them, and parsed.
    Named(Vec<ImageIdentifier>, Vec<ImageName>),
    /// Those of one page.
    Page(ImageFilter, PageRequest<ImagePosition>),
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    image_details: Vec<ImageDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageDetail {
    registry_id: String,
    repository_name: String,
    image_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image_tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_size_in_bytes: Option<u64>,
    /// In seconds since 1970.
    image_pushed_at: u64,
    image_manifest_media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_media_type: Option<String>,
    image_status: &'static str,
}

impl Operation for DescribeImages {
    const NAME: &'static str = "DescribeImages";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.take("repositoryName")?;
        let registry_id = members.take("registryId")?;
        let ids = ImageIdentifier::read(&mut members)?;
        let paging = Paging::read(&mut members)?;
        let filter = Filter::read(&mut members)?;

        let repository = members::repository(name, registry_id, default_registry)?;
        let images = match ids {
            None => Images::Page(filter.parse()?, paging.parse(ImagePosition::parse)?),
            Some(ids) => {
                let ids = members::of_length("imageIds", ids, MOST_IMAGES)?;
                paging.refuse_with("imageIds")?;
                filter.parse()?;
                let names = ids.iter().map(ImageIdentifier::parse).collect::<Result<_, _>>();
                let names = names.map_err(|invalid| Error::InvalidParameter {
                    member: "imageIds",
                    constraint: invalid.constraint(),
                })?;
                Images::Named(ids, names)
            }
        };
        Ok(Self { repository, images })
    }

    fn note(&self, subject: &mut Subject) {
        subject.repository = Some(self.repository.clone());
    }

    /// Describes an image only once, even if the request names it several times.
    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let Self { repository, images } = self;
        let (service, caller) = (context.service, context.caller);
        let refused = |refusal| Error::no_access(context, &repository, refusal);
        let (images, end) = match images {
            Images::Named(ids, names) => {
                let found = service.images(caller, &repository, &names).await.map_err(refused)?;
                let mut images = Vec::new();
                let mut seen = HashSet::new();
                for (id, image) in ids.into_iter().zip(found) {
                    let repository = repository.clone();
                    let image =
                        image.map_err(|_| Error::ImageNotFound { image: id, repository })?;
                    if seen.insert(image.digest.canonical()) {
                        images.push(image);
                    }
                }
                (service.with_tags(&repository, images).await?, None)
            }
            Images::Page(filter, PageRequest { most, after }) => {
                let page = service.image_page(
                    caller,
                    &repository,
                    filter,
                    Counted::Images,
                    after.as_ref(),
                    most,
                );
                let page = page.await.map_err(refused)?;
                (page.entries, page.end)
            }
        };
        let image_details = images.into_iter().map(|image| detail(&repository, image)).collect();
        Ok(Output { image_details, next_token: end.map(token) })
    }
}

fn detail(repository: &Repository, TaggedImage { image, tags }: TaggedImage) -> ImageDetail {
    ImageDetail {
        registry_id: repository.registry.to_string(),
        repository_name: repository.name.to_string(),
        image_digest: image.digest.canonical(),
        image_tags: tags.iter().map(ToString::to_string).collect(),
        image_size_in_bytes: image.size,
        image_pushed_at: image.pushed_at,
        image_manifest_media_type: image.media_type,
        artifact_media_type: image.config_media_type,
        image_status: "ACTIVE",
    }
}
