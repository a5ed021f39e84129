//! What a cleaner reads in the listings, and what it deletes of records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::cleaner::{CleanError, CleaningLease};
use super::list::ListedImage;
use super::schema::{RepositoryRow, digits_in_listing};
use super::table::Rows;
use super::transaction::LARGEST_TRANSACTION;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Cleaner, Role};
use crate::types::{Digest, RegistryId, Repository};

/// How many rows of all listings together are in memory while they are merged, a few megabytes; and
/// of each listing at least and at most.
const ROWS_IN_MEMORY: usize = 20_000;
const SMALLEST_PAGE: usize = 10;
const LARGEST_PAGE: usize = 1000;

/// How many listings are begun at once.
const LISTINGS_AT_ONCE: usize = 16;

/// What a repository's listing has a row of.
#[derive(Debug)]
pub enum Listed {
    /// An image, without its tags.
    Image(ListedImage),
    /// A layer that has a record.
    Layer(Digest),
}

/// The listing of a repository: its images, then its layers.
pub struct Contents(Rows);

impl Contents {
    /// The next row.
    pub async fn next(&mut self) -> Result<Option<Listed>, Fault> {
        while let Some(row) = self.0.next().await? {
            match RepositoryRow::of(&row)? {
                RepositoryRow::Layer(layer) => return Ok(Some(Listed::Layer(layer))),
                RepositoryRow::Image(image) => {
                    return Ok(Some(Listed::Image(ListedImage::read(&row, image)?)));
                }
                RepositoryRow::Repository
                | RepositoryRow::TagOfImage(..)
                | RepositoryRow::Tag(_) => {}
            }
        }
        Ok(None)
    }
}

/// Which digests the repositories of a registry list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Those of layers that have a record.
    Layers,
    /// Those of images.
    Images,
}

/// The digests of one algorithm that the repositories of a registry list, in the order of their
/// digits.
pub struct MergedListings<'a> {
    repositories: &'a [Repository],
    prefix: String,
    listings: Vec<Rows>,
    /// The next row of each listing: its digits, and whose it is.
    next: BinaryHeap<Reverse<(String, usize)>>,
}

impl<'a> MergedListings<'a> {
    /// The repositories that list the digest with these digits. To be asked for one digest after
    /// the other, in ascending order.
    pub async fn repositories_with(&mut self, hex: &str) -> Result<Vec<&'a Repository>, Fault> {
        let mut found = Vec::new();
        while let Some(Reverse((listed, _))) = self.next.peek()
            && listed.as_str() <= hex
            && let Some(Reverse((listed, place))) = self.next.pop()
        {
            if listed == hex {
                found.push(&self.repositories[place]);
            }
            if let Some(digits) = next_digits(&mut self.listings[place], &self.prefix).await? {
                self.next.push(Reverse((digits, place)));
            }
        }
        Ok(found)
    }
}

/// The digits of the next digest of a listing. Passes over the rows of tags.
async fn next_digits(rows: &mut Rows, prefix: &str) -> Result<Option<String>, Fault> {
    while let Some(row) = rows.next().await? {
        if let Some(digits) = digits_in_listing(&row, prefix)? {
            return Ok(Some(digits.to_owned()));
        }
    }
    Ok(None)
}

impl<R: Role> Catalog<R> {
    /// What a repository lists: one request for each megabyte or 500 rows.
    pub fn contents(&self, repository: &Repository) -> Contents {
        Contents(self.table.rows(schema::repository_partition(repository), "", 500))
    }

    /// All repositories of a registry, in the order of their names.
    pub async fn all_repositories(&self, registry: &RegistryId) -> Result<Vec<Repository>, Fault> {
        let mut list = self.repositories(registry);
        let mut repositories = Vec::new();
        while let Some(repository) = list.next().await? {
            repositories.push(repository);
        }
        Ok(repositories)
    }

    /// The listed digests of an algorithm after the one with the digits `after`. One request for
    /// each repository, and one for each further page; the more repositories, the shorter the
    /// pages, so that the memory stays the same.
    pub async fn merged_listings<'a>(
        &self,
        repositories: &'a [Repository],
        listing: Listing,
        algorithm: &str,
        after: &str,
    ) -> Result<MergedListings<'a>, Fault> {
        let kind = match listing {
            Listing::Layers => schema::LAYER_PREFIX,
            Listing::Images => schema::IMAGE_PREFIX,
        };
        let prefix = format!("{kind}{algorithm}:");
        let page = (ROWS_IN_MEMORY / repositories.len().max(1)).clamp(SMALLEST_PAGE, LARGEST_PAGE);
        let page = i32::try_from(page).unwrap_or(i32::MAX);
        let begun = repositories.iter().map(async |repository| {
            let partition = schema::repository_partition(repository);
            let mut rows = self.table.rows(partition, &prefix, page).keys_only();
            if !after.is_empty() {
                rows = rows
                    .after((schema::repository_partition(repository), format!("{prefix}{after}")));
            }
            let first = next_digits(&mut rows, &prefix).await?;
            Ok::<_, Fault>((rows, first))
        });
        let begun: Vec<_> = stream::iter(begun).buffered(LISTINGS_AT_ONCE).try_collect().await?;
        let mut next = BinaryHeap::new();
        let mut listings = Vec::new();
        for (place, (rows, first)) in begun.into_iter().enumerate() {
            next.extend(first.map(|digits| Reverse((digits, place))));
            listings.push(rows);
        }
        Ok(MergedListings { repositories, prefix, listings, next })
    }
}

impl Catalog<Cleaner> {
    /// Deletes the records of layers that no image references, with their rows in the listing. One
    /// request for each 49.
    pub async fn delete_layers(
        &self,
        lease: &CleaningLease,
        repository: &Repository,
        layers: &[Digest],
    ) -> Result<(), CleanError> {
        for layers in layers.chunks((LARGEST_TRANSACTION - 1) / 2) {
            let mut write = self.table.transaction();
            lease.guard(&mut write, ());
            for layer in layers {
                write.delete(schema::layer(repository, layer));
                write.delete(schema::layer_listing(repository, layer));
            }
            if !write.commit().await?.is_written() {
                return Err(CleanError::Lapsed);
            }
        }
        Ok(())
    }
}
