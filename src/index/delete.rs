//! Deleting from the index, in the opposite order of publishing. Every stop between two steps is safe, and
//! deleting it again completes it:
//!
//! 1. What goes is decided by a look at the whole repository, and all of it gets `deleting` at once, unless the
//!    repository's `changes` show that something was added since that look. There is no way back from here, and
//!    nothing is added to it any more.
//! 2. The references to its layers go.
//! 3. Its record goes together with its tags, by which it was found.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::contents::{Contents, ImageRecord};
use super::transaction::{LARGEST_TRANSACTION, Outcome, nanoseconds_since_1970, number_value};
use super::{Key, LayerIndex, keys, layer_partition, repository_key, string};
use crate::error::Error;
use crate::types::{Digest, ImageTag, Repository};

/// The condition that a record is still that of this deletion. If not, somebody else has ended it, and what is there
/// now is another life of it.
const IS_MARKED: &str = "deleting = :mark";

/// How an image is named.
#[derive(Debug, Clone)]
pub enum ImageId {
    /// By a tag.
    Tag(ImageTag),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// How deleting an image went.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageDeletion {
    /// These are gone: the image, and if it was an index those of its images that nothing else names.
    Done(Vec<Digest>),
    /// Only the tag is gone, because the image has others.
    Untagged(ImageTag),
    /// There is no such image.
    Missing,
    /// There is no such repository.
    NoRepository,
    /// Nothing was done, because the image is one of an index's.
    PartOf {
        /// The image.
        image: Digest,
        /// The index.
        index: Digest,
    },
}

/// How deleting a repository went.
#[derive(Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// There is no such repository.
    Missing,
    /// It has so many images, and that was not to be.
    HasImages(usize),
}

impl LayerIndex {
    /// Deletes an image with its tags; if it is named by a tag and has others, only that tag. The layers are
    /// inaccessible from then on, but for those that another image references.
    pub async fn delete_image(&self, repository: &Repository, id: &ImageId) -> Result<ImageDeletion, Error> {
        let mut id = id.clone();
        loop {
            let contents = self.contents(repository).await?;
            if contents.record.is_none() {
                return Ok(ImageDeletion::NoRepository);
            }
            let deletion = deletion_of(&id, &contents);
            let going: Vec<_> = match &deletion {
                ImageDeletion::Missing | ImageDeletion::NoRepository | ImageDeletion::PartOf { .. } => {
                    return Ok(deletion);
                }
                ImageDeletion::Untagged(_) => Vec::new(),
                ImageDeletion::Done(images) => {
                    images.iter().filter_map(|image| contents.image(image)).collect()
                }
            };
            let mark = nanoseconds_since_1970();
            let mut items = Vec::new();
            if let ImageDeletion::Untagged(tag) = &deletion {
                items.push(self.delete(keys::tag(repository, tag.as_ref())));
            }
            for image in going.iter().filter(|image| image.deleting.is_none()) {
                items.push(self.mark(
                    keys::image(repository, &image.digest),
                    mark,
                    "attribute_exists(pk)",
                    [],
                ));
            }
            let written = self.change_since(repository, contents.changes, &items).await?;
            if written < items.len() {
                if let (Some(image), true) = (going.first(), written > 0) {
                    id = ImageId::Digest(image.digest.clone()); // it goes, whatever has its tag meanwhile
                }
                continue;
            }
            // The index last: by it the others are found if this is stopped.
            for image in going.into_iter().rev() {
                let mark = image.deleting.unwrap_or(mark);
                let key = keys::image(repository, &image.digest);
                let references =
                    image.layers.iter().map(|layer| keys::reference(repository, layer, &image.digest));
                self.delete_records(references.collect(), &key, mark).await?;
                self.delete_image_record(repository, &image.digest, mark, &contents).await?;
            }
            return Ok(deletion);
        }
    }

    /// Writes `items` if the repository's `changes` are these; gives how many, as there may be other changes in
    /// between.
    async fn change_since(
        &self,
        repository: &Repository,
        changes: u64,
        items: &[TransactWriteItem],
    ) -> Result<usize, Error> {
        let mut written = 0;
        for (changes, items) in (changes..).zip(items.chunks(LARGEST_TRANSACTION - 1)) {
            let next = ("changes", number_value(changes + 1));
            let seen = [(":seen", number_value(changes))];
            let mut transaction = items.to_vec();
            transaction.push(self.set(repository_key(repository), next, "changes = :seen", seen));
            if self.transact(transaction).await? == Outcome::Refused {
                break;
            }
            written += items.len();
        }
        Ok(written)
    }

    /// Deletes an image's record together with its tags.
    async fn delete_image_record(
        &self,
        repository: &Repository,
        image: &Digest,
        mark: u64,
        contents: &Contents,
    ) -> Result<(), Error> {
        let record = keys::image(repository, image);
        let is_marked = [(":mark", number_value(mark))];
        let mut tags: Vec<_> = contents.tags_of(image).map(str::to_owned).collect();
        loop {
            let some = tags.len().min(LARGEST_TRANSACTION - 1);
            let is_all = some == tags.len();
            let items = tags[..some].iter().map(|tag| self.delete_tag_of(repository, tag, image));
            let mut items: Vec<_> = items.collect();
            items.push(match is_all {
                true => self.delete_if(record.clone(), IS_MARKED, is_marked.clone()),
                false => self.check(record.clone(), IS_MARKED, is_marked.clone()),
            });
            if self.transact(items).await? == Outcome::Written {
                if is_all {
                    return Ok(());
                }
                tags.drain(..some);
                continue;
            }
            // Another image has got one of the tags meanwhile, and keeps it; or somebody else has ended this.
            let contents = self.contents(repository).await?;
            if contents.image(image).is_none_or(|image| image.deleting != Some(mark)) {
                return Ok(());
            }
            tags.retain(|tag| contents.tags.get(tag) == Some(image));
        }
    }

    /// Deletes a repository; one that has images only if `with_images` says so.
    pub async fn delete_repository(
        &self,
        repository: &Repository,
        with_images: bool,
    ) -> Result<Deletion, Error> {
        let key = repository_key(repository);
        let mark = loop {
            let contents = self.contents(repository).await?;
            let Some(record) = contents.record else { return Ok(Deletion::Missing) };
            if let Some(mark) = record.deleting {
                break mark;
            }
            if !contents.images.is_empty() && !with_images {
                return Ok(Deletion::HasImages(contents.images.len()));
            }
            let mark = nanoseconds_since_1970();
            let seen = [(":seen", number_value(contents.changes))];
            let item = self.mark(key.clone(), mark, "changes = :seen", seen);
            if self.transact(vec![item]).await? == Outcome::Written {
                break mark;
            }
        };
        let is_marked = [(":mark", number_value(mark))];
        // No image is begun any more; those that were are marked, so that nothing is added to them.
        for image in self.contents(repository).await?.images {
            let item = self.mark(keys::image(repository, &image.digest), mark, "attribute_exists(pk)", []);
            let is_marked = self.check(key.clone(), IS_MARKED, is_marked.clone());
            self.transact(vec![item, is_marked]).await?; // refused if the image is gone already
        }
        let contents = self.contents(repository).await?;
        for layer in &contents.layers {
            let pk = layer_partition(repository, layer);
            let mut records = Vec::new();
            for item in self.partition(pk.clone()).await? {
                records.push((pk.clone(), string(&item, "sk")?.to_owned()));
            }
            self.delete_records(records, &key, mark).await?;
        }
        let layers = contents.layers.iter().map(|layer| keys::layer_listing(repository, layer));
        let tags = contents.tags.keys().map(|tag| keys::tag(repository, tag));
        let images = contents.images.iter().map(|image| keys::image(repository, &image.digest));
        self.delete_records(layers.chain(tags).chain(images).collect(), &key, mark).await?;
        let listing = self.delete(keys::repository_listing(repository));
        self.transact(vec![listing, self.delete_if(key, IS_MARKED, is_marked)]).await?;
        Ok(Deletion::Done)
    }

    /// An item that marks a record for which `condition`, with these values, holds.
    fn mark<const N: usize>(
        &self,
        record: Key,
        mark: u64,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        self.set(record, ("deleting", number_value(mark)), condition, values)
    }

    /// Deletes what belongs to the record at `owner`, while that has this mark.
    async fn delete_records(&self, records: Vec<Key>, owner: &Key, mark: u64) -> Result<(), Error> {
        for records in records.chunks(LARGEST_TRANSACTION - 1) {
            let mut items: Vec<_> = records.iter().map(|key| self.delete(key.clone())).collect();
            items.push(self.check(owner.clone(), IS_MARKED, [(":mark", number_value(mark))]));
            if self.transact(items).await? == Outcome::Refused {
                break; // somebody else has deleted it
            }
        }
        Ok(())
    }
}

/// What deleting an image comes to, as things are.
fn deletion_of(id: &ImageId, contents: &Contents) -> ImageDeletion {
    let digest = match id {
        ImageId::Digest(digest) => Some(digest),
        ImageId::Tag(tag) => contents.tagged(tag),
    };
    let Some(image) = digest.and_then(|digest| contents.image(digest)) else { return ImageDeletion::Missing };
    if image.deleting.is_none() {
        if let ImageId::Tag(tag) = id
            && contents.tags_of(&image.digest).count() > 1
        {
            return ImageDeletion::Untagged(tag.clone());
        }
        if let Some(index) = index_of(image, contents, &[]) {
            return ImageDeletion::PartOf { image: image.digest.clone(), index: index.digest.clone() };
        }
    }
    ImageDeletion::Done(goes_with(image, contents))
}

/// The image, and if it is an index those of its images that go with it: no tag has them, and no other index; or
/// they are being deleted. An index comes before its images.
fn goes_with(image: &ImageRecord, contents: &Contents) -> Vec<Digest> {
    let mut going = vec![image.digest.clone()];
    let mut next = 0;
    while let Some(index) = going.get(next).and_then(|digest| contents.image(digest)) {
        for child in index.images.iter().filter_map(|child| contents.image(child)) {
            let is_named = contents.tags_of(&child.digest).next().is_some()
                || index_of(child, contents, &going).is_some();
            if (child.deleting.is_some() || !is_named) && !going.contains(&child.digest) {
                going.push(child.digest.clone());
            }
        }
        next += 1;
    }
    going
}

/// An index that the image belongs to, other than those that are `going` or being deleted.
fn index_of<'a>(image: &ImageRecord, contents: &'a Contents, going: &[Digest]) -> Option<&'a ImageRecord> {
    contents.images.iter().find(|index| {
        index.images.contains(&image.digest) && index.deleting.is_none() && !going.contains(&index.digest)
    })
}
