//! Finds an image: in the catalog, or through the worker in another registry.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Refusal, Service, a_few_at_once};
use crate::access::{Access, Caller};
use crate::pull_through::{PullThrough, WAIT_OF_ECR, Wait, Waited};
use layergate_core::catalog::page::{
    Counted, ImageFilter, ImagePage, ImagePosition, MOST_TAGS, TaggedImage,
};
use layergate_core::catalog::{Consistency, FillFailure, Image};
use layergate_core::fault::{Backend, Fault};
use layergate_core::store::Method;
use layergate_core::types::{
    Digest, DownloadUrl, ImageId, ObjectKey, Repository, Wanted, seconds_since_1970,
};

/// Why there is no image.
#[derive(Debug)]
pub enum MissingImage {
    /// The repository has no such image.
    Absent,
    /// The worker is still fetching it from another registry.
    NotYet,
    /// The worker could not fetch it from another registry.
    Upstream(FillFailure),
}

/// An image's name: a tag, a digest, or both.
#[derive(Debug, Clone)]
pub struct ImageName {
    /// The tag or the digest for the lookup.
    pub id: ImageId,
    /// The digest that the image must have, if `id` is a tag.
    pub digest: Option<Digest>,
}

/// Why a name has no image.
#[derive(Debug)]
pub enum Mismatch {
    /// There is no image with that tag or that digest.
    Missing(MissingImage),
    /// The image with that tag has another digest.
    OtherDigest,
}

impl ImageName {
    /// The image, if it has the digest in the name.
    fn check(&self, image: Image) -> Result<Image, Mismatch> {
        match &self.digest {
            Some(digest) if image.digest != *digest => Err(Mismatch::OtherDigest),
            _ => Ok(image),
        }
    }
}

/// How long a tag of another registry is used before it is looked up there again. As in ECR.
/// Source: [Sync an upstream
/// registry](https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html).
const TAG_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

impl Service {
    /// A published image. If a pull-through cache rule applies to the repository, the worker
    /// fetches a missing image, and once a day looks up a tag of another registry again. One
    /// request by digest, two by tag; for a caller from another account, one more.
    pub async fn image(
        &self,
        caller: &Caller,
        repository: &Repository,
        id: &ImageId,
        longest_wait: Duration,
    ) -> Result<Image, Refusal<MissingImage>> {
        let until = Instant::now() + longest_wait;
        let found = self.stored_image(caller, repository, id).await;
        match (&found, &self.pull_through) {
            (Ok(image), Some(pull_through))
                if is_due(image)
                    && self.is_under_rule(caller, repository, false).await.unwrap_or(false) =>
            {
                let fetched =
                    self.fetched_image(pull_through, repository, id, found.ok(), until).await?;
                fetched.map_err(Refusal::Missing)
            }
            (
                Err(refusal @ (Refusal::Denied | Refusal::NoRepository | Refusal::Missing(_))),
                Some(pull_through),
            ) if may_exist(id)
                && self
                    .is_under_rule(caller, repository, matches!(refusal, Refusal::Denied))
                    .await? =>
            {
                let fetched = self.fetched_image(pull_through, repository, id, None, until).await?;
                fetched.map_err(Refusal::Missing)
            }
            _ => found,
        }
    }

    /// An image that the worker fetches from another registry. `stored` is the image that the tag
    /// names so far, if the tag must be looked up again.
    async fn fetched_image(
        &self,
        pull_through: &PullThrough,
        repository: &Repository,
        id: &ImageId,
        stored: Option<Image>,
        until: Instant,
    ) -> Result<Result<Image, MissingImage>, Fault> {
        let lookup = || async {
            let image = self.catalog.published_image(repository, id, Consistency::Strong).await?;
            Ok(image.filter(|image| !is_due(image)))
        };
        // The stored image can be used, so this wait is short.
        let until = if stored.is_some() { until.min(Instant::now() + WAIT_OF_ECR) } else { until };
        let wanted = (repository, &Wanted::Image(id.clone()));
        let wait = Wait { until, takes_redirect: false };
        let waited = pull_through.wait_for(&self.catalog, wanted, lookup, wait).await;
        match (waited, stored) {
            (Ok(Waited::Here(image)), _) | (_, Some(image)) => Ok(Ok(image)),
            (Err(fault), None) => Err(fault),
            (Ok(Waited::NotYet | Waited::AtUpstream(_)), None) => Ok(Err(MissingImage::NotYet)),
            (Ok(Waited::Failed(failure)), None) => Ok(Err(MissingImage::Upstream(failure))),
        }
    }

    async fn stored_image(
        &self,
        caller: &Caller,
        repository: &Repository,
        id: &ImageId,
    ) -> Result<Image, Refusal<MissingImage>> {
        let image = self.catalog.published_image(repository, id, Consistency::Eventual);
        let image = self.if_readable(caller, repository, image);
        let layout = async { Ok(self.catalog.layout().await?) };
        match tokio::try_join!(image, layout)?.0 {
            Some(image) => Ok(image),
            None => {
                let image = self.catalog.published_image(repository, id, Consistency::Strong);
                self.confirmed(repository, image)
                    .await?
                    .ok_or(Refusal::Missing(MissingImage::Absent))
            }
        }
    }

    /// Whether the worker may fetch a missing image of this repository for this caller. This needs
    /// a rule. The worker does not fetch into a repository that was created here: otherwise the
    /// owner of the same name in the upstream could add images to it. `is_denied`: the caller may
    /// read no such repository so far. One query; one more request if a rule allows the caller to
    /// read.
    async fn is_under_rule(
        &self,
        caller: &Caller,
        repository: &Repository,
        is_denied: bool,
    ) -> Result<bool, Fault> {
        let access = caller.access(repository);
        if access == Access::Denied {
            return Ok(false);
        }
        let Some(rule) = self.catalog.rule_for(repository).await? else { return Ok(false) };
        match access {
            // A new repository gets the rule's grants. An existing one has its own.
            Access::IfGrantedTo(account) if is_denied => Ok(rule.accounts.contains(account)
                && self.catalog.repository(repository).await?.is_none()),
            _ => {
                Ok(self.catalog.repository(repository).await?.is_none_or(|record| record.is_cache))
            }
        }
    }

    /// A URL to download an image's manifest from, for requests with this method. The download's
    /// `Content-Type` is the manifest's media type. No request.
    pub async fn manifest_url(
        &self,
        repository: &Repository,
        image: &Image,
        method: Method,
    ) -> Result<DownloadUrl, Fault> {
        let object_key = ObjectKey::of_manifest(&repository.registry, &image.digest);
        self.store.download_url(&object_key, method).await
    }

    /// The published images of these names, in their order. One request for each digest and two for
    /// each tag, a few at once.
    pub async fn images(
        &self,
        caller: &Caller,
        repository: &Repository,
        names: &[ImageName],
    ) -> Result<Vec<Result<Image, Mismatch>>, Refusal<Infallible>> {
        self.readable(caller, repository).await?;
        let images = names.iter().map(|name| self.named_image(repository, name)).collect();
        Ok(a_few_at_once(images).await.into_iter().collect::<Result<_, _>>()?)
    }

    /// The same as [`images`](Self::images), but lets the worker fetch missing images, as
    /// [`image`](Self::image) does; a few at once. One more query if images are missing.
    pub async fn images_or_fetched(
        &self,
        caller: &Caller,
        repository: &Repository,
        names: &[ImageName],
        longest_wait: Duration,
    ) -> Result<Vec<Result<Image, Mismatch>>, Refusal<Infallible>> {
        let found = self.images(caller, repository, names).await;
        let Some(pull_through) = &self.pull_through else { return found };
        let until = Instant::now() + longest_wait;
        let needs_upstream = |name: &ImageName, found: &Result<Image, Mismatch>| match found {
            Ok(image) => is_due(image),
            Err(Mismatch::Missing(_)) => may_exist(&name.id),
            Err(Mismatch::OtherDigest) => false,
        };
        let is_complete = match &found {
            Ok(found) => !names.iter().zip(found).any(|(name, found)| needs_upstream(name, found)),
            Err(refusal) => !matches!(refusal, Refusal::Denied | Refusal::NoRepository),
        };
        let is_denied = matches!(found, Err(Refusal::Denied));
        if is_complete || !self.is_under_rule(caller, repository, is_denied).await? {
            return found;
        }
        let absent = || Err(Mismatch::Missing(MissingImage::Absent));
        let found = found.unwrap_or_else(|_| names.iter().map(|_| absent()).collect());
        let images = names.iter().zip(found).map(|(name, found)| async move {
            if !needs_upstream(name, &found) {
                return Ok(found);
            }
            let fetched =
                self.fetched_image(pull_through, repository, &name.id, found.ok(), until).await?;
            Ok(fetched.map_err(Mismatch::Missing).and_then(|image| name.check(image)))
        });
        Ok(a_few_at_once(images.collect()).await.into_iter().collect::<Result<_, Fault>>()?)
    }

    async fn named_image(
        &self,
        repository: &Repository,
        name: &ImageName,
    ) -> Result<Result<Image, Mismatch>, Fault> {
        let image = self.catalog.published_image(repository, &name.id, Consistency::Strong).await?;
        Ok(image.ok_or(Mismatch::Missing(MissingImage::Absent)).and_then(|image| name.check(image)))
    }

    /// The unchanged manifests of images that the caller may read, in their order. One request to
    /// S3 for each, a few at once.
    pub async fn manifests(
        &self,
        repository: &Repository,
        images: &[Image],
    ) -> Result<Vec<Arc<str>>, Fault> {
        let manifests = images.iter().map(|image| self.manifest(repository, image)).collect();
        a_few_at_once(manifests).await.into_iter().collect()
    }

    /// The manifest of an image that the caller may read, byte for byte. One request to S3, or none
    /// if this function instance has read it lately.
    pub async fn manifest(
        &self,
        repository: &Repository,
        image: &Image,
    ) -> Result<Arc<str>, Fault> {
        let object_key = ObjectKey::of_manifest(&repository.registry, &image.digest);
        if let Some(manifest) = self.manifests.get(&object_key) {
            return Ok(manifest);
        }
        let bytes = self.store.get(&object_key, image.manifest_size).await?;
        let manifest = String::from_utf8(bytes).map_err(|_| Fault::garbled(Backend::S3))?.into();
        self.manifests.insert(object_key, &manifest);
        Ok(manifest)
    }

    /// Images that the caller may read, in their order, with their tags, up to [`MOST_TAGS`] each.
    /// One query for each image and each 1 MB of its tags, a few at once.
    pub async fn with_tags(
        &self,
        repository: &Repository,
        images: Vec<Image>,
    ) -> Result<Vec<TaggedImage>, Fault> {
        let tags =
            images.iter().map(|image| self.catalog.tags_of(repository, &image.digest, MOST_TAGS));
        let tags = a_few_at_once(tags.collect()).await;
        let tagged = images.into_iter().zip(tags);
        tagged.map(|(image, tags)| Ok(TaggedImage { image, tags: tags? })).collect()
    }

    /// A page of a repository's published images:
    /// [`Catalog::image_page`](layergate_core::catalog::Catalog::image_page).
    pub async fn image_page(
        &self,
        caller: &Caller,
        repository: &Repository,
        filter: ImageFilter,
        counted: Counted,
        after: Option<&ImagePosition>,
        most: usize,
    ) -> Result<ImagePage, Refusal<Infallible>> {
        self.readable(caller, repository).await?;
        Ok(self.catalog.image_page(repository, filter, counted, after, most).await?)
    }
}

/// Whether the tag must be looked up again in the other registry.
fn is_due(image: &Image) -> bool {
    let now = seconds_since_1970(SystemTime::now());
    image.checked_at.is_some_and(|checked_at| now.saturating_sub(checked_at) > TAG_LIFE.as_secs())
}

/// Whether another registry could have such an image.
fn may_exist(id: &ImageId) -> bool {
    match id {
        ImageId::Tag(_) => true,
        ImageId::Digest(digest) => digest.is_verifiable(),
    }
}
