//! Lists: what a registry and a repository hold, read page by page.

use super::item::{Item, digests, number, optional_number, string};
use super::schema::{RegistryRow, RepositoryRow};
use super::table::Rows;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::Role;
use crate::types::{Digest, ImageTag, RegistryId, Repository, RepositoryName};

/// How many rows a page of a list has at most. Few enough for a slow line.
const PAGE: i32 = 500;

/// An image in a list.
#[derive(Debug)]
pub struct ListedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// How many bytes the manifest has.
    pub size: u64,
    /// When it was published, in seconds since 1970; `None` if its publishing or deleting has not
    /// ended.
    pub pushed_at: Option<u64>,
    /// Its layers.
    pub layers: Vec<Digest>,
    /// The images of an index.
    pub images: Vec<Digest>,
    /// Its tags.
    pub tags: Vec<ImageTag>,
}

impl ListedImage {
    /// Reads an image's row in the listing.
    pub(super) fn read(row: &Item, digest: Digest) -> Result<Self, Fault> {
        Ok(Self {
            digest,
            media_type: string(row, "media_type")?.to_owned(),
            size: number(row, "manifest_size")?,
            pushed_at: optional_number(row, "pushed_at")?,
            layers: digests(row, "layers")?,
            images: digests(row, "images")?,
            tags: Vec::new(),
        })
    }
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
            match RepositoryRow::of(&row)? {
                RepositoryRow::Image(digest) => {
                    let next = ListedImage::read(&row, digest)?;
                    if let Some(image) = self.image.replace(next) {
                        return Ok(Some(image));
                    }
                }
                RepositoryRow::TagOfImage(_, tag) => {
                    self.image.as_mut().ok_or(Fault::BrokenRecord("sk"))?.tags.push(tag);
                }
                _ => return Err(Fault::BrokenRecord("sk")),
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

impl<R: Role> Catalog<R> {
    /// The repositories of a registry.
    pub fn repositories(&self, registry: &RegistryId) -> RepositoryList {
        let rows =
            self.table.rows(schema::registry_partition(registry), schema::REPOSITORY_PREFIX, PAGE);
        RepositoryList { rows, registry: registry.clone() }
    }

    /// The images of a repository, unfinished ones too; none if there is no such repository.
    pub fn images(&self, repository: &Repository) -> ImageList {
        let rows =
            self.table.rows(schema::repository_partition(repository), schema::IMAGE_PREFIX, PAGE);
        ImageList { rows, image: None }
    }

    /// Some tags of a repository, at most `count`, in the order of their bytes: the first ones, or
    /// those after `last`, which need not exist. None if there is no such repository.
    pub async fn tags(
        &self,
        repository: &Repository,
        last: Option<&ImageTag>,
        count: usize,
    ) -> Result<Vec<ImageTag>, Fault> {
        let page = i32::try_from(count).unwrap_or(PAGE).min(PAGE);
        let mut rows =
            self.table.rows(schema::repository_partition(repository), schema::TAG_PREFIX, page);
        if let Some(last) = last {
            rows = rows.after(schema::tag_name_listing(repository, last));
        }
        let tag = |row: &Item| match RepositoryRow::of(row)? {
            RepositoryRow::Tag(tag) => Ok(tag),
            _ => Err(Fault::BrokenRecord("sk")),
        };
        rows.take(count).await?.iter().map(tag).collect()
    }
}

/// The name in a row of a registry's listing.
pub(super) fn repository_name(row: &Item) -> Result<RepositoryName, Fault> {
    match RegistryRow::of(row)? {
        RegistryRow::Repository(name) => Ok(name),
        _ => Err(Fault::BrokenRecord("sk")),
    }
}
