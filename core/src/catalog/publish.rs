//! Writing images. It is safe to stop between any two of these steps; publishing again does the
//! rest:
//!
//! 1. [`Catalog::begin_image`], after all the image's bytes are in the store: the image has a
//!    record, unfinished.
//! 2. [`Catalog::add_layers`]: its layers have records, and the references that make them
//!    downloadable.
//! 3. [`Catalog::name_images`]: each image of an index has a row that names the index. From then on
//!    it cannot be deleted alone.
//! 4. [`Catalog::finish_image`]: the image is published.
//! 5. [`Catalog::tag_image`].
//!
//! The image's record comes first, so that all references that a stopped publishing leaves can be
//! found and deleted. Each later step checks, in the transaction that does it, that the image's
//! deletion has not begun. Steps 1, 2 and 4 check in the same way that the publishing's [`Intent`]
//! still counts: so no cleaner has removed what they rely on.
//!
//! Right after step 1, a strongly consistent read checks that the repository is not being deleted.
//! Deleting a repository writes its mark first, and lists the images afterwards. So at least one of
//! the two sees the other. A condition on the repository's record would do the same. But DynamoDB
//! cancels one of two transactions at once that have an item in common, and all publishing into a
//! repository would have that record in common.
//!
//! Source: [Transaction conflict
//! handling](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling).

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

use super::condition::Condition;
use super::id::UniqueId;
use super::image::count_change;
use super::intent::{Claimed, Intent};
use super::item::{digest_values, now, number_value, string};
use super::table::{fault, garbled, key_attributes};
use super::transaction::{LARGEST_TRANSACTION, Outcome, Transaction};
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::Publisher;
use crate::types::{Descriptor, Digest, ObjectKey, Repository};

/// The most keys of one BatchGetItem.
/// Source:
/// [BatchGetItem](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html).
const LARGEST_BATCH: usize = 100;

/// An image to publish.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// How many bytes the manifest has.
    pub size: u64,
    /// Its layers that are in the store, each once, the config blob first. Empty for an index.
    pub layers: Vec<Descriptor>,
    /// Its layers that are not in the store. There may be references to them, from an earlier
    /// publishing that had their bytes.
    pub absent_layers: Vec<Digest>,
    /// The images of an index, such as those for its platforms, each once. Empty for a single
    /// image.
    pub images: Vec<Digest>,
    /// The repository of another registry that it comes from, if its layers and the images of an
    /// index are still there.
    pub upstream: Option<String>,
}

impl NewImage {
    /// What its publishing relies on: its manifest and its layers in the store.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.layers.iter().map(|layer| &layer.digest).chain([&self.digest]).cloned()
    }

    /// Whether its record would be larger than DynamoDB's 400 KB for an item.
    /// Source: [Quotas in
    /// DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html).
    pub fn is_too_large(&self) -> bool {
        const MOST_DIGEST_BYTES: usize = 350 * 1000;
        let layers = self.layers.iter().map(|layer| &layer.digest).chain(&self.absent_layers);
        layers.chain(&self.images).map(|digest| digest.canonical().len()).sum::<usize>()
            > MOST_DIGEST_BYTES
    }
}

/// An image whose publishing has begun.
#[derive(Debug)]
pub struct Begun<'a> {
    repository: &'a Repository,
    image: &'a NewImage,
    intent: &'a Intent,
    begun_at: UniqueId,
}

/// What must hold for a step of publishing.
enum Guard {
    /// The image is the one whose publishing has begun.
    Image,
    /// The publishing's intent still counts.
    Intent,
    /// The record of a layer is not there yet.
    Layer,
    /// An image of an index is as it was read.
    ImageOfIndex,
}

/// Why a step of publishing was not done.
#[derive(Debug)]
pub enum PublishError {
    /// There is no such repository.
    NoRepository,
    /// The repository is being deleted.
    RepositoryDeleted,
    /// This image, or one of its images if it is an index, is being deleted or was deleted
    /// meanwhile.
    ImageDeleted(Digest),
    /// The publishing took so long that a cleaner gave it up, and may have removed what it relies
    /// on.
    GivenUp,
    /// A cleaner is removing this, which the publishing relies on.
    BeingCleaned(Claimed),
    /// It could not be written.
    Fault(Fault),
}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Catalog<Publisher> {
    /// Step 1: writes the image's record, unfinished.
    pub async fn begin_image<'a>(
        &self,
        repository: &'a Repository,
        image: &'a NewImage,
        intent: &'a Intent,
    ) -> Result<Begun<'a>, PublishError> {
        let (begun_at, revision, is_new) = loop {
            let record = self.image(repository, &image.digest).await?;
            let (begun_at, revision, condition) = match &record {
                None => (UniqueId::draw(), UniqueId::draw(), Condition::is_absent()),
                Some(record) if record.deletion.is_some() => {
                    return Err(PublishError::ImageDeleted(image.digest.clone()));
                }
                // The image is published again: its record and its references stay.
                Some(record) => (
                    record.begun_at,
                    record.revision.next(),
                    Condition::has_revision(record.revision),
                ),
            };
            let mut write = self.table.transaction();
            write_image(&mut write, condition, repository, image, (begun_at, revision));
            intent.guard(&mut write, Guard::Intent);
            match write.commit().await? {
                Outcome::Written => break (begun_at, revision, record.is_none()),
                Outcome::Refused(Guard::Intent) => return Err(PublishError::GivenUp),
                Outcome::Refused(_) => {} // the image was changed meanwhile
            }
        };
        let refusal = match self.repository(repository).await? {
            None => PublishError::NoRepository,
            Some(record) if record.deleting.is_some() => PublishError::RepositoryDeleted,
            Some(_) => return Ok(Begun { repository, image, intent, begun_at }),
        };
        if is_new {
            // The deletion of the repository may have listed its images before this one was
            // written, and would miss it. Refused if somebody else has continued with this image.
            let as_begun = Condition::has_revision(revision);
            let mut write = self.table.transaction();
            write.delete_if((), as_begun, schema::image(repository, &image.digest));
            write.delete(schema::image_listing(repository, &image.digest));
            write.commit().await?;
        }
        Err(refusal)
    }

    /// Step 2: writes the layers' records and references.
    pub async fn add_layers(&self, begun: &Begun<'_>) -> Result<(), PublishError> {
        let Begun { repository, image, intent, begun_at } = begun;
        let digests: Vec<_> = image.layers.iter().map(|layer| layer.digest.clone()).collect();
        let mut known = self.known_layers(repository, &digests).await?;
        let mut next = 0;
        while next < image.layers.len() {
            let key = schema::image(repository, &image.digest);
            let mut write = self.table.transaction();
            write.check(Guard::Image, Condition::began_as(*begun_at), key);
            intent.guard(&mut write, Guard::Intent);
            let first = next;
            const MOST_FOR_A_LAYER: usize = 3;
            while next < image.layers.len() && write.len() + MOST_FOR_A_LAYER <= LARGEST_TRANSACTION
            {
                let layer = &image.layers[next];
                write.put(schema::reference(repository, &layer.digest, &image.digest), []);
                // A record that is there is not written again. Otherwise images that share a layer
                // would have an item in common. One without the object's key gets it, if this
                // image's layers are stored.
                match (
                    known.get(&schema::layer_partition(repository, &layer.digest)),
                    &image.upstream,
                ) {
                    (Some(true), _) | (Some(false), Some(_)) => {}
                    _ => write_layer(&mut write, repository, layer, image.upstream.as_ref()),
                }
                next += 1;
            }
            match write.commit().await? {
                Outcome::Written => {}
                Outcome::Refused(Guard::Image) => {
                    return Err(PublishError::ImageDeleted(image.digest.clone()));
                }
                Outcome::Refused(Guard::Intent) => return Err(PublishError::GivenUp),
                // Another publisher has just written the record of one of the layers.
                Outcome::Refused(Guard::Layer | Guard::ImageOfIndex) => {
                    known = self.known_layers(repository, &digests).await?;
                    next = first;
                }
            }
        }
        Ok(())
    }

    /// The partition keys of those layers that have a record in the repository, and whether they
    /// are stored.
    ///
    /// Such a record stays while this image is not being deleted. Deleting the repository removes
    /// it only after all images are marked, and a cleaner does not while the intent counts.
    async fn known_layers(
        &self,
        repository: &Repository,
        layers: &[Digest],
    ) -> Result<HashMap<String, bool>, Fault> {
        let mut known = HashMap::new();
        for layers in layers.chunks(LARGEST_BATCH) {
            let keys = layers.iter().map(|layer| schema::layer(repository, layer));
            let keys = keys.inspect(|key| self.table.permit("BatchGetItem", key));
            let keys = keys.map(key_attributes);
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys.collect()))
                .projection_expression("pk, object_key")
                .consistent_read(true)
                .build();
            let mut wanted =
                HashMap::from([(self.table.name.clone(), wanted.expect("it has keys"))]);
            let mut longest_wait = Duration::from_millis(25);
            while !wanted.is_empty() {
                let batch = self.table.client.batch_get_item().set_request_items(Some(wanted));
                let found = batch.send().await.map_err(fault)?;
                let rows = found.responses.ok_or_else(garbled)?;
                for row in rows.values().flatten() {
                    known.insert(string(row, "pk")?.to_owned(), row.contains_key("object_key"));
                }
                // The keys that DynamoDB was too busy to read. It reads at least one, or the
                // request fails as throttled. So this loop ends.
                wanted = found.unprocessed_keys.unwrap_or_default();
                if !wanted.is_empty() {
                    tokio::time::sleep(longest_wait.mul_f64(fastrand::f64())).await;
                    longest_wait *= 2;
                }
            }
        }
        Ok(known)
    }

    /// Step 3: gives each image of an index a row that names the index. If the index comes from
    /// another registry, its images need not be here yet.
    pub async fn name_images(&self, begun: &Begun<'_>) -> Result<(), PublishError> {
        let Begun { repository, image: index, begun_at, .. } = begun;
        const ITEMS_PER_IMAGE: usize = 2;
        for images in index.images.chunks((LARGEST_TRANSACTION - 1) / ITEMS_PER_IMAGE) {
            loop {
                let key = schema::image(repository, &index.digest);
                let mut write = self.table.transaction();
                write.check(Guard::Image, Condition::began_as(*begun_at), key);
                for image in images {
                    let may_be_absent = index.upstream.is_some();
                    let is_absent = may_be_absent && self.image(repository, image).await?.is_none();
                    let guard = Guard::ImageOfIndex;
                    match (is_absent, may_be_absent) {
                        (true, _) => {
                            write.check(
                                guard,
                                Condition::is_absent(),
                                schema::image(repository, image),
                            );
                        }
                        (false, true) => {
                            count_change(&mut write, guard, Condition::exists(), repository, image);
                        }
                        (false, false) => {
                            count_change(
                                &mut write,
                                guard,
                                Condition::is_published(),
                                repository,
                                image,
                            );
                        }
                    }
                    write.put(schema::index_of_image(repository, image, &index.digest), []);
                }
                match write.commit().await? {
                    Outcome::Written => break,
                    // One of the images came or went meanwhile.
                    Outcome::Refused(Guard::ImageOfIndex) if index.upstream.is_some() => {}
                    Outcome::Refused(_) => {
                        return Err(PublishError::ImageDeleted(index.digest.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Step 4: marks the image as published.
    pub async fn finish_image(&self, begun: &Begun<'_>) -> Result<(), PublishError> {
        let Begun { repository, image, intent, begun_at } = begun;
        let now = [(":now", now())];
        let is_still_begun = Condition::began_as(*begun_at);
        const PUSHED: &str = "SET pushed_at = :now";
        let mut write = self.table.transaction();
        let record = schema::image(repository, &image.digest);
        write.update_if(Guard::Image, is_still_begun, record, PUSHED, now.clone());
        write.update(schema::image_listing(repository, &image.digest), PUSHED, now);
        intent.guard(&mut write, Guard::Intent);
        match write.commit().await? {
            Outcome::Written => Ok(()),
            Outcome::Refused(Guard::Intent) => Err(PublishError::GivenUp),
            Outcome::Refused(_) => Err(PublishError::ImageDeleted(image.digest.clone())),
        }
    }
}

/// Writes an image's record and its row in the listing, for the first time or again.
fn write_image(
    write: &mut Transaction<'_, Guard>,
    condition: Condition,
    repository: &Repository,
    image: &NewImage,
    (begun_at, revision): (UniqueId, UniqueId),
) {
    // All layers that it may reference, so that deleting it removes every reference.
    let layers = image.layers.iter().map(|layer| &layer.digest).chain(&image.absent_layers);
    let image_size = image.layers.iter().map(|layer| layer.size).sum();
    let config = image.layers.first();
    let config_media_type = config.map(|config| config.media_type.clone()).unwrap_or_default();
    let description = [
        (":media_type", AttributeValue::S(image.media_type.clone())),
        (":config_media_type", AttributeValue::S(config_media_type)),
        (":manifest_size", number_value(image.size)),
        (":image_size", number_value(image_size)),
        (":layers", digest_values(layers)),
        (":images", digest_values(&image.images)),
    ];
    let ids = [(":begun_at", begun_at.value()), (":revision", revision.value())];
    let upstream =
        image.upstream.clone().map(|upstream| (":upstream", AttributeValue::S(upstream)));
    const DESCRIBED: &str = "SET media_type = :media_type, \
                             config_media_type = :config_media_type, \
                             manifest_size = :manifest_size, image_size = :image_size, \
                             layers = :layers, images = :images";
    let change = format!(
        "{DESCRIBED}, begun_at = :begun_at, revision = :revision{}",
        if upstream.is_some() { ", upstream = :upstream" } else { " REMOVE upstream" }
    );
    let values = description.clone().into_iter().chain(ids).chain(upstream);
    write.update_if(
        Guard::Image,
        condition,
        schema::image(repository, &image.digest),
        &change,
        values,
    );
    write.update(schema::image_listing(repository, &image.digest), DESCRIBED, description);
}

/// Writes a layer's record and its row in the listing.
fn write_layer(
    write: &mut Transaction<'_, Guard>,
    repository: &Repository,
    layer: &Descriptor,
    upstream: Option<&String>,
) {
    let key = schema::layer(repository, &layer.digest);
    let description = [
        ("size", number_value(layer.size)),
        ("media_type", AttributeValue::S(layer.media_type.clone())),
    ];
    match upstream {
        // Never in place of a record that has the object's key.
        Some(upstream) => {
            let upstream = [("upstream", AttributeValue::S(upstream.clone()))];
            let record = upstream.into_iter().chain(description);
            write.put_if(Guard::Layer, Condition::is_absent(), key, record);
        }
        None => {
            let object_key = ObjectKey::of_layer(&repository.registry, &layer.digest);
            let object_key = [("object_key", AttributeValue::S(object_key.to_string()))];
            write.put(key, object_key.into_iter().chain(description));
        }
    }
    write.put(schema::layer_listing(repository, &layer.digest), []);
}
