//! [BatchGetImage](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html):
//! the manifests of images.

use serde::Serialize;

use super::image_id::{ImageIdentifier, MOST_IMAGES};
use super::protocol::LARGEST_RESPONSE;
use super::{Context, Error, Members, Operation, members};
use crate::pull_through::WAIT_OF_ECR;
use crate::service::{Mismatch, MissingImage};
use crate::subject::Subject;
use layergate_core::catalog::FillFailure;
use layergate_core::types::{RegistryId, Repository};

/// The most `acceptedMediaTypes`.
const MOST_MEDIA_TYPES: usize = 100;

/// The request.
pub(super) struct BatchGetImage {
    /// From `registryId` (or the default registry) and `repositoryName`.
    repository: Repository,
    image_ids: Vec<ImageIdentifier>,
}

/// The answer. It has the manifests as they were published, whatever `acceptedMediaTypes` says: in
/// another form, a manifest would have another digest.
#[derive(Serialize)]
pub(super) struct Output {
    images: Vec<Image>,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    registry_id: String,
    repository_name: String,
    image_id: ImageIdentifier,
    image_manifest: String,
    image_manifest_media_type: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    image_id: ImageIdentifier,
    failure_code: &'static str,
    failure_reason: String,
}

impl Operation for BatchGetImage {
    const NAME: &'static str = "BatchGetImage";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let name = members.take("repositoryName")?;
        let registry_id = members.take("registryId")?;
        let image_ids = ImageIdentifier::read(&mut members)?;
        let media_types = members.take_list::<String>("acceptedMediaTypes")?;

        let repository = members::repository(name, registry_id, default_registry)?;
        let image_ids = members::required_list("imageIds", image_ids, MOST_IMAGES)?;
        if let Some(media_types) = media_types {
            members::of_length("acceptedMediaTypes", media_types, MOST_MEDIA_TYPES)?;
        }
        Ok(Self { repository, image_ids })
    }

    fn note(&self, subject: &mut Subject) {
        subject.repository = Some(self.repository.clone());
    }

    /// Returns an image or a failure for each name.
    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let Self { repository, image_ids } = self;
        let (mut ids, mut names, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for id in image_ids {
            match id.parse() {
                Ok(name) => {
                    ids.push(id);
                    names.push(name);
                }
                Err(invalid) => failures.push(Failure::new(id, invalid.failure())),
            }
        }

        let service = context.service;
        let found =
            service.images_or_fetched(context.caller, &repository, &names, WAIT_OF_ECR).await;
        let found = found.map_err(|refusal| Error::no_access(context, &repository, refusal))?;
        let (mut found_ids, mut images) = (Vec::new(), Vec::new());
        for (id, image) in ids.into_iter().zip(found) {
            match image {
                Ok(image) => {
                    let image_digest = Some(image.digest.canonical());
                    found_ids.push(ImageIdentifier { image_digest, ..id });
                    images.push(image);
                }
                Err(Mismatch::Missing(MissingImage::NotYet)) => {
                    return Err(Error::BeingFetched("image"));
                }
                Err(Mismatch::Missing(MissingImage::Absent)) => {
                    failures.push(Failure::new(id, not_found()))
                }
                Err(Mismatch::Missing(MissingImage::Upstream(failure))) => {
                    failures.push(Failure::new(id, upstream(failure)));
                }
                Err(Mismatch::OtherDigest) => failures.push(Failure::new(id, other_digest())),
            }
        }

        // Checked before any request to S3, because the answer would be too large.
        if images.iter().map(|image| image.manifest_size).sum::<u64>() > LARGEST_RESPONSE as u64 {
            return Err(Error::LimitExceeded);
        }
        let manifests = service.manifests(&repository, &images).await?;
        let images = found_ids.into_iter().zip(images).zip(manifests).map(
            |((image_id, image), manifest)| Image {
                registry_id: repository.registry.to_string(),
                repository_name: repository.name.to_string(),
                image_id,
                image_manifest: manifest.to_string(),
                image_manifest_media_type: image.media_type,
            },
        );
        Ok(Output { images: images.collect(), failures })
    }
}

impl Failure {
    fn new(
        image_id: ImageIdentifier,
        (failure_code, failure_reason): (&'static str, String),
    ) -> Self {
        Self { image_id, failure_code, failure_reason }
    }
}

fn not_found() -> (&'static str, String) {
    ("ImageNotFound", "Requested image not found".to_owned())
}

fn other_digest() -> (&'static str, String) {
    let reason = "Invalid request parameters: given tag does not map to the given digest";
    ("ImageTagDoesNotMatchDigest", reason.to_owned())
}

/// The code and the reason for an image that the worker could not fetch. ECR's model has a code for
/// each kind of failure.
fn upstream(failure: FillFailure) -> (&'static str, String) {
    let code = match failure {
        FillFailure::NotFound => return not_found(),
        FillFailure::AccessDenied | FillFailure::SecretUnusable | FillFailure::NoRule => {
            "UpstreamAccessDenied"
        }
        FillFailure::NameInvalid => "ImageNotFound",
        FillFailure::TooManyRequests => "UpstreamTooManyRequests",
        _ => "UpstreamUnavailable",
    };
    (code, format!("Unable to get the upstream image: {failure}"))
}
