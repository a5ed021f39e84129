//! The decisions, whichever API asks: whether this caller may have this layer or this image, and where its bytes are.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use futures_util::{StreamExt, stream};

use crate::access::token::Tokens;
use crate::access::{Access, Caller};
use crate::catalog::page::{
    Counted, ImageFilter, ImagePage, ImagePosition, MOST_TAGS, RepositoryPage, TaggedImage,
};
use crate::catalog::{
    Catalog, Consistency, FillFailure, Image, ImageId, LayerDescription, LayerState, RepositoryRecord, Wanted,
};
use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::pull_through::{PullThrough, WAIT_OF_ECR, Wait, Waited};
use crate::store::{Method, Store};
use crate::types::{Digest, DownloadUrl, ImageTag, ObjectKey, RegistryId, Repository, RepositoryName};

/// What the operations of an API work on.
#[derive(Debug)]
pub struct Service {
    catalog: Catalog,
    store: Store,
    /// What asks for images and layers that are not here; `None` if there is no worker to ask.
    pull_through: Option<PullThrough>,
    /// What clients log in to the registry with; `None` if there is no registry to log in to.
    pub tokens: Option<Tokens>,
    /// The registry of a request that names none.
    pub default_registry_id: RegistryId,
    /// The region that this runs in.
    pub region: String,
}

/// Why a caller does not get what it asked for. `Missing` says in which ways the thing itself can be missing.
#[derive(Debug)]
pub enum Refusal<Missing> {
    /// The caller may not read that repository. Does not tell whether it exists.
    Denied,
    /// There is no such repository.
    NoRepository,
    /// The repository does not have what was asked for.
    Missing(Missing),
    /// DynamoDB or S3 failed, so the answer is not known.
    Fault(Fault),
}

impl<Missing> From<Fault> for Refusal<Missing> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Why there is no URL for a layer.
#[derive(Debug)]
pub enum MissingLayer {
    /// The repository has no such layer.
    Absent,
    /// The repository has the layer, and no image references it.
    NotReferenced,
    /// It is on its way from another registry.
    NotYet,
    /// Another registry should have it, and does not give it.
    Upstream(FillFailure),
}

/// Why there is no image.
#[derive(Debug)]
pub enum MissingImage {
    /// The repository has no such image.
    Absent,
    /// It is on its way from another registry.
    NotYet,
    /// Another registry should have it, and does not give it.
    Upstream(FillFailure),
}

/// How an image is named: by a tag, by a digest, or by both.
#[derive(Debug, Clone)]
pub struct ImageName {
    /// What it is looked up by.
    pub id: ImageId,
    /// The digest that the image has to have, if `id` is a tag.
    pub digest: Option<Digest>,
}

/// Why there is no image of a name.
#[derive(Debug)]
pub enum Mismatch {
    /// There is no image with that tag or that digest.
    Missing(MissingImage),
    /// The image with that tag has another digest.
    OtherDigest,
}

impl ImageName {
    /// The image that was found, if it has the digest that the name says.
    fn check(&self, image: Image) -> Result<Image, Mismatch> {
        match &self.digest {
            Some(digest) if image.digest != *digest => Err(Mismatch::OtherDigest),
            _ => Ok(image),
        }
    }
}

/// After what time an upstream is asked again which image a tag names. As in ECR.
/// Source: [Sync an upstream registry](https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html).
const TAG_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many things are looked up at once for one call.
const AT_ONCE: usize = 10;

impl Service {
    /// A service for the table and the bucket that `config` names. `sdk` has the region, the credentials and the
    /// time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            catalog: Catalog::new(sdk, config),
            store: Store::new(sdk, config),
            pull_through: PullThrough::new(sdk, config),
            tokens: Tokens::new(sdk, config),
            default_registry_id: config.default_registry_id.clone(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does what would make a first call slow: reads certificates and credentials, connects to DynamoDB, and checks
    /// that the table has the layout that this code reads. One request.
    pub async fn make_ready(&self) -> Result<(), Fault> {
        self.catalog.layout().await.map(|_| ())
    }

    /// A URL to download a layer from, for requests with this method. One query, if the layer is stored; for a caller from
    /// another account, one more request before. A layer that is still in another registry is waited for.
    pub async fn layer_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        digest: &Digest,
        method: Method,
        longest_wait: Duration,
    ) -> Result<DownloadUrl, Refusal<MissingLayer>> {
        let consistency = match caller.access(repository) {
            Access::Allowed => Consistency::Remembered,
            // Not from the cache: an answer from there is quicker, so an outsider could tell which layers exist.
            Access::IfGrantedTo(_) | Access::Denied => Consistency::Eventual,
        };
        let state = self.catalog.layer(repository, digest, consistency);
        let mut state = self.if_readable(caller, repository, state).await?;
        if let LayerState::Absent | LayerState::Unreferenced = state {
            // What an eventually consistent read did not see may have been written a moment ago.
            let lookup = self.catalog.layer(repository, digest, Consistency::Strong);
            state = self.confirmed(repository, lookup).await?;
        }
        if let (LayerState::Upstream(_), Some(pull_through)) = (&state, &self.pull_through) {
            let lookup = || async {
                let state = self.catalog.layer(repository, digest, Consistency::Strong).await?;
                Ok(Some(state).filter(|state| !matches!(state, LayerState::Upstream(_))))
            };
            let wait = Wait { until: Instant::now() + longest_wait, takes_redirect: method == Method::Get };
            let wanted = (repository, &Wanted::Layer(digest.clone()));
            state = match pull_through.wait_for(&self.catalog, wanted, lookup, wait).await? {
                Waited::Here(state) => state,
                Waited::AtUpstream(url) => return Ok(url),
                Waited::NotYet => return Err(Refusal::Missing(MissingLayer::NotYet)),
                Waited::Failed(failure) => return Err(Refusal::Missing(MissingLayer::Upstream(failure))),
            };
        }
        match state {
            LayerState::Absent => Err(Refusal::Missing(MissingLayer::Absent)),
            LayerState::Unreferenced => Err(Refusal::Missing(MissingLayer::NotReferenced)),
            // There is no worker any more that could fetch it.
            LayerState::Upstream(_) => Err(Refusal::Missing(MissingLayer::Upstream(FillFailure::NoRule))),
            LayerState::Referenced(object_key) => Ok(self.store.download_url(&object_key, method).await?),
        }
    }

    /// A published image. One request by digest, two by tag; for a caller from another account, one more. An image that is
    /// not here is fetched, if a pull through cache rule is for the repository; and a tag that came from another registry
    /// is looked up there again once a day.
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
                if is_due(image) && self.is_under_rule(caller, repository, false).await.unwrap_or(false) =>
            {
                let fetched = self.fetched_image(pull_through, repository, id, found.ok(), until).await?;
                fetched.map_err(Refusal::Missing)
            }
            (
                Err(refusal @ (Refusal::Denied | Refusal::NoRepository | Refusal::Missing(_))),
                Some(pull_through),
            ) if may_exist(id)
                && self.is_under_rule(caller, repository, matches!(refusal, Refusal::Denied)).await? =>
            {
                let fetched = self.fetched_image(pull_through, repository, id, None, until).await?;
                fetched.map_err(Refusal::Missing)
            }
            _ => found,
        }
    }

    /// An image from another registry. `stored` is the one that is here, if its tag is to be looked up again.
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
        // An image that is here need not be waited for as long as one that is not.
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
        match self.if_readable(caller, repository, image).await? {
            Some(image) => Ok(image),
            None => {
                let image = self.catalog.published_image(repository, id, Consistency::Strong);
                self.confirmed(repository, image).await?.ok_or(Refusal::Missing(MissingImage::Absent))
            }
        }
    }

    /// Whether a rule is for a repository that does not have an image, and lets the caller read what comes. A repository that
    /// was created here is not filled from elsewhere: whoever has its name there could put images into it. `is_denied` says
    /// that there is no repository that the caller may read. One query, and one request more if there is a rule, and it
    /// lets the caller read.
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
            // The rule's grants are those of a repository that it makes. One that is there has its own.
            Access::IfGrantedTo(account) if is_denied => {
                Ok(rule.accounts.contains(account) && self.catalog.repository(repository).await?.is_none())
            }
            _ => Ok(self.catalog.repository(repository).await?.is_none_or(|record| record.is_cache)),
        }
    }

    /// A URL to download an image's manifest from, for requests with this method, and the manifest's digest. The
    /// download's `Content-Type` is the manifest's media type. The same requests as [`image`](Self::image).
    pub async fn manifest_url(
        &self,
        caller: &Caller,
        repository: &Repository,
        id: &ImageId,
        method: Method,
        longest_wait: Duration,
    ) -> Result<(Digest, DownloadUrl), Refusal<MissingImage>> {
        let Image { digest, .. } = self.image(caller, repository, id, longest_wait).await?;
        let object_key = ObjectKey::of_manifest(&repository.registry, &digest);
        Ok((digest, self.store.download_url(&object_key, method).await?))
    }

    /// Some tags of a repository, at most `count`, in the order of their bytes: the first ones, or those after `last`.
    pub async fn tags(
        &self,
        caller: &Caller,
        repository: &Repository,
        last: Option<&ImageTag>,
        count: usize,
    ) -> Result<Vec<ImageTag>, Refusal<Infallible>> {
        let tags = self.catalog.tags(repository, last, count);
        let tags = self.if_readable(caller, repository, tags).await?;
        match tags.is_empty() {
            true => self.confirmed(repository, async { Ok(tags) }).await,
            false => Ok(tags),
        }
    }

    /// The published images of these names, in their order. One request for each digest and two for each tag, a few
    /// at once.
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

    /// The same as [`images`](Self::images), and images that are not here are fetched, as [`image`](Self::image) does; a few
    /// at once. One query more if there are any.
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
            let fetched = self.fetched_image(pull_through, repository, &name.id, found.ok(), until).await?;
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

    /// The manifests of images that the caller may read, byte for byte, in their order. One request to S3 for each, a
    /// few at once.
    pub async fn manifests(&self, repository: &Repository, images: &[Image]) -> Result<Vec<String>, Fault> {
        let manifests = images.iter().map(|image| self.manifest(repository, image)).collect();
        a_few_at_once(manifests).await.into_iter().collect()
    }

    async fn manifest(&self, repository: &Repository, image: &Image) -> Result<String, Fault> {
        let object_key = ObjectKey::of_manifest(&repository.registry, &image.digest);
        let bytes = self.store.get(&object_key, image.manifest_size).await?;
        String::from_utf8(bytes).map_err(|_| Fault::garbled(Backend::S3))
    }

    /// Images that the caller may read, in their order, with their tags, up to [`MOST_TAGS`] each. One query for each
    /// image and each 1 MB of its tags, a few at once.
    pub async fn with_tags(
        &self,
        repository: &Repository,
        images: Vec<Image>,
    ) -> Result<Vec<TaggedImage>, Fault> {
        let tags = images.iter().map(|image| self.catalog.tags_of(repository, &image.digest, MOST_TAGS));
        let tags = a_few_at_once(tags.collect()).await;
        let tagged = images.into_iter().zip(tags);
        tagged.map(|(image, tags)| Ok(TaggedImage { image, tags: tags? })).collect()
    }

    /// A page of a repository's published images: [`Catalog::image_page`].
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

    /// What is recorded of each of these layers, in their order; `None` for those that cannot be downloaded. One
    /// query for each, a few at once.
    pub async fn layer_descriptions(
        &self,
        caller: &Caller,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<Option<LayerDescription>>, Refusal<Infallible>> {
        self.readable(caller, repository).await?;
        let layers = digests.iter().map(|digest| self.catalog.layer_description(repository, digest));
        Ok(a_few_at_once(layers.collect()).await.into_iter().collect::<Result<_, _>>()?)
    }

    /// The records of these repositories, in their order; or the first of them that the caller does not get, and why.
    /// One request for each, a few at once.
    pub async fn repositories(
        &self,
        caller: &Caller,
        repositories: &[Repository],
    ) -> Result<Vec<RepositoryRecord>, (Repository, Refusal<Infallible>)> {
        // All are read before one is refused: what a refusal costs does not tell which of them exist.
        let records = repositories.iter().map(|repository| self.readable(caller, repository)).collect();
        let records = a_few_at_once(records).await.into_iter().zip(repositories);
        records.map(|(record, repository)| record.map_err(|refusal| (repository.clone(), refusal))).collect()
    }

    /// A page of a registry's repositories, for who reads all of them: [`Catalog::repository_page`].
    pub async fn repository_page(
        &self,
        caller: &Caller,
        registry: &RegistryId,
        after: Option<&RepositoryName>,
        most: usize,
    ) -> Result<RepositoryPage, Refusal<Infallible>> {
        if !caller.reads_all_of(registry) {
            return Err(Refusal::Denied);
        }
        let page = self.catalog.repository_page(registry, after, most);
        let (page, _) = tokio::try_join!(page, self.catalog.layout())?;
        Ok(page)
    }

    /// The record of a repository, if the caller may read that. One request; none if nobody knows the caller.
    async fn readable<Missing>(
        &self,
        caller: &Caller,
        repository: &Repository,
    ) -> Result<RepositoryRecord, Refusal<Missing>> {
        match caller.access(repository) {
            Access::Allowed => {
                self.catalog.confirmed_repository(repository).await?.ok_or(Refusal::NoRepository)
            }
            Access::IfGrantedTo(account) => {
                let record = self.catalog.repository(repository).await?;
                record.filter(|record| record.grants(account)).ok_or(Refusal::Denied)
            }
            Access::Denied => Err(Refusal::Denied),
        }
    }

    /// What `lookup` finds in the repository, if the caller may read that.
    async fn if_readable<T, Missing>(
        &self,
        caller: &Caller,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        match caller.access(repository) {
            Access::Allowed => Ok(lookup.await?),
            // Not both at once: an outsider would learn from the time how much was looked up.
            Access::IfGrantedTo(_) => {
                self.readable(caller, repository).await?;
                Ok(lookup.await?)
            }
            Access::Denied => Err(Refusal::Denied),
        }
    }

    /// What `lookup` finds in a repository that is there. To be asked with reads that see every write that was answered
    /// before them.
    async fn confirmed<T, Missing>(
        &self,
        repository: &Repository,
        lookup: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Refusal<Missing>> {
        let (found, record) = tokio::try_join!(lookup, self.catalog.confirmed_repository(repository))?;
        record.map(|_| found).ok_or(Refusal::NoRepository)
    }
}

/// Whether a tag is to be looked up again where it comes from.
fn is_due(image: &Image) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    image.checked_at.is_some_and(|checked_at| now.saturating_sub(checked_at) > TAG_LIFE.as_secs())
}

/// Whether another registry could have such an image.
fn may_exist(id: &ImageId) -> bool {
    match id {
        ImageId::Tag(_) => true,
        ImageId::Digest(digest) => digest.is_verifiable(),
    }
}

/// What these lookups give, in their order.
async fn a_few_at_once<F: Future>(lookups: Vec<F>) -> Vec<F::Output> {
    stream::iter(lookups).buffered(AT_ONCE).collect().await
}
