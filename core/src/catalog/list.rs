//! Lists: what a registry and a repository hold, read page by page.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;

use super::keys::Key;
use super::transaction::key_attributes;
use super::{Catalog, Item, digest, digests, fault, garbled, keys, number, optional_number, string};
use crate::fault::Fault;
use crate::types::{Digest, ImageTag, RegistryId, Repository, RepositoryName};

/// How many rows a page of a list has at most. Few enough for a slow line.
const PAGE: i32 = 500;

/// The records of one partition whose sort keys share a prefix, in the order of the keys, read with strong
/// consistency.
pub(super) struct Rows {
    query: QueryFluentBuilder,
    /// Records that were read but not returned yet.
    page: std::vec::IntoIter<Item>,
    is_last_page: bool,
}

impl Rows {
    /// Reads nothing but the sort keys.
    pub(super) fn keys_only(mut self) -> Self {
        self.query = self.query.projection_expression("sk");
        self
    }

    /// The same records, but only those after this key, which need not be there.
    pub(super) fn after(mut self, key: Key) -> Self {
        self.query = self.query.set_exclusive_start_key(Some(key_attributes(key)));
        self
    }

    /// Whether the next record costs a query.
    pub(super) fn needs_query(&self) -> bool {
        self.page.as_slice().is_empty() && !self.is_last_page
    }

    /// The next record.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.is_last_page {
                return Ok(None);
            }
            let page = self.query.clone().send().await.map_err(fault)?;
            self.page = page.items.ok_or_else(garbled)?.into_iter();
            self.is_last_page = page.last_evaluated_key.is_none();
            self.query = self.query.clone().set_exclusive_start_key(page.last_evaluated_key);
        }
    }

    /// The next records, at most `count`.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<Item>, Fault> {
        let mut rows = Vec::new();
        while rows.len() < count
            && let Some(row) = self.next().await?
        {
            rows.push(row);
        }
        Ok(rows)
    }
}

/// An image in a list.
#[derive(Debug)]
pub struct ListedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// How many bytes the manifest has.
    pub size: u64,
    /// When it was published, in seconds since 1970; `None` if its publishing or deleting has not ended.
    pub pushed_at: Option<u64>,
    /// Its layers.
    pub layers: Vec<Digest>,
    /// The images of an index.
    pub images: Vec<Digest>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// The images of a repository, in the order of their digests.
pub struct ImageList {
    rows: Rows,
    /// An image that was read but not returned yet, because rows with its tags may follow.
    image: Option<ListedImage>,
}

impl ImageList {
    /// The next image.
    pub async fn next(&mut self) -> Result<Option<ListedImage>, Fault> {
        while let Some(row) = self.rows.next().await? {
            let sk = string(&row, "sk")?;
            let name = sk.strip_prefix(keys::IMAGE_PREFIX).ok_or(Fault::BrokenRecord("sk"))?;
            match name.split_once('#') {
                None => {
                    let next = listed_image(&row, name)?;
                    if let Some(image) = self.image.replace(next) {
                        return Ok(Some(image));
                    }
                }
                Some((_, tag)) => {
                    let tag = tag.strip_prefix(keys::TAG_PREFIX).ok_or(Fault::BrokenRecord("sk"))?;
                    let image = self.image.as_mut().ok_or(Fault::BrokenRecord("sk"))?;
                    image.tags.push(tag.to_owned());
                }
            }
        }
        Ok(self.image.take())
    }
}

/// The repositories of a registry, in the order of their names.
pub struct RepositoryList {
    rows: Rows,
    registry: RegistryId,
}

impl RepositoryList {
    /// The next repository.
    pub async fn next(&mut self) -> Result<Option<Repository>, Fault> {
        let Some(row) = self.rows.next().await? else { return Ok(None) };
        Ok(Some(Repository { registry: self.registry.clone(), name: repository_name(&row)? }))
    }
}

impl Catalog {
    /// The repositories of a registry.
    pub fn repositories(&self, registry: &RegistryId) -> RepositoryList {
        let rows = self.rows(keys::registry_partition(registry), keys::REPOSITORY_PREFIX, PAGE);
        RepositoryList { rows, registry: registry.clone() }
    }

    /// The images of a repository, unfinished ones too; none if there is no such repository.
    pub fn images(&self, repository: &Repository) -> ImageList {
        let rows = self.rows(keys::repository_partition(repository), keys::IMAGE_PREFIX, PAGE);
        ImageList { rows, image: None }
    }

    /// Some tags of a repository, at most `count`, in the order of their bytes: the first ones, or those after `last`,
    /// which need not exist. None if there is no such repository.
    pub async fn tags(
        &self,
        repository: &Repository,
        last: Option<&ImageTag>,
        count: usize,
    ) -> Result<Vec<ImageTag>, Fault> {
        let page = i32::try_from(count).unwrap_or(PAGE).min(PAGE);
        let mut rows = self.rows(keys::repository_partition(repository), keys::TAG_PREFIX, page);
        if let Some(last) = last {
            rows = rows.after(keys::tag_name_listing(repository, last));
        }
        rows.take(count).await?.iter().map(|row| tag(string(row, "sk")?)).collect()
    }

    /// The records of a partition whose sort keys begin with `prefix`, in pages of up to `page` records.
    pub(super) fn rows(&self, pk: String, prefix: &str, page: i32) -> Rows {
        let mut query = self.client.query().table_name(&self.table_name).consistent_read(true);
        query = query.expression_attribute_values(":pk", AttributeValue::S(pk));
        query = match prefix {
            "" => query.key_condition_expression("pk = :pk"),
            prefix => query
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned())),
        };
        Rows { query: query.limit(page), page: Vec::new().into_iter(), is_last_page: false }
    }
}

/// The tag in a sort key, or in the end of one, that is `tag#<tag>`.
pub(super) fn tag(sk: &str) -> Result<ImageTag, Fault> {
    let tag = sk.strip_prefix(keys::TAG_PREFIX);
    tag.and_then(|tag| ImageTag::parse(tag).ok()).ok_or(Fault::BrokenRecord("sk"))
}

/// The name in a row of a registry's listing.
pub(super) fn repository_name(row: &Item) -> Result<RepositoryName, Fault> {
    let name = string(row, "sk")?.strip_prefix(keys::REPOSITORY_PREFIX);
    name.and_then(|name| RepositoryName::parse(name).ok()).ok_or(Fault::BrokenRecord("sk"))
}

/// Reads an image's row in the listing.
pub(super) fn listed_image(row: &Item, image: &str) -> Result<ListedImage, Fault> {
    Ok(ListedImage {
        digest: digest(image)?,
        media_type: string(row, "media_type")?.to_owned(),
        size: number(row, "manifest_size")?,
        pushed_at: optional_number(row, "pushed_at")?,
        layers: digests(row, "layers")?,
        images: digests(row, "images")?,
        tags: Vec::new(),
    })
}
