//! Pages of lists: so many entries and no more, at a bounded cost, however much the list holds.

use std::fmt;

use super::item::{Item, optional_number};
use super::schema::{self, Key, RepositoryRow};
use super::{Catalog, Image, list};
use crate::fault::Fault;
use crate::role::Role;
use crate::types::{Digest, ImageTag, RegistryId, Repository, RepositoryName};

/// How many rows one query reads at most.
const ROWS: i32 = 500;

/// How many queries one page of images costs at most. DynamoDB ends each after 1 MB.
const MOST_QUERIES: usize = 8;

/// How many tags of one image are read at most; as many as ECR lets an image have.
/// Source: [Amazon ECR service
/// quotas](https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html).
pub const MOST_TAGS: usize = 1000;

/// Which images a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFilter {
    /// All that are published.
    All,
    /// Those with a tag.
    Tagged,
    /// Those without.
    Untagged,
    /// None at all.
    Nothing,
}

/// What `most` of a page counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Images, each with its tags, up to [`MOST_TAGS`] of them.
    Images,
    /// Tags, and images without any. An image may continue on the next page.
    Tags,
}

impl Counted {
    fn count(self, entry: &TaggedImage) -> usize {
        match self {
            Self::Images => 1,
            Self::Tags => entry.tags.len().max(1),
        }
    }
}

/// A published image, with its tags in the order of their bytes.
#[derive(Debug)]
pub struct TaggedImage {
    /// The image.
    pub image: Image,
    /// Its tags, or some of them.
    pub tags: Vec<ImageTag>,
}

/// Where a page of images ended. Written as `<digest>` or `<digest>#<tag>`.
#[derive(Debug, Clone)]
pub struct ImagePosition {
    /// The last image that the page dealt with.
    image: Digest,
    /// The last of its tags that the page has, if others may follow.
    tag: Option<ImageTag>,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T, P> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where it ended, if there may be more.
    pub end: Option<P>,
}

/// A page of images.
pub type ImagePage = Page<TaggedImage, ImagePosition>;

/// A page of repositories, which ends at a name.
pub type RepositoryPage = Page<ListedRepository, RepositoryName>;

/// A repository in a list.
#[derive(Debug)]
pub struct ListedRepository {
    /// The repository.
    pub repository: Repository,
    /// When it was created, in seconds since 1970; `None` if it was listed before this was recorded
    /// there.
    pub created_at: Option<u64>,
}

impl ListedRepository {
    fn read(row: &Item, registry: &RegistryId) -> Result<Self, Fault> {
        let name = list::repository_name(row)?;
        let repository = Repository { registry: registry.clone(), name };
        Ok(Self { repository, created_at: optional_number(row, "created_at")? })
    }
}

/// The longest digest of an image in the table: that of SHA-512.
const LONGEST_DIGEST: usize = "sha512:".len() + 128;

impl ImagePosition {
    /// Reads what [`Display`](fmt::Display) wrote; `None` if this is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (image, tag) = match text.split_once('#') {
            Some((image, tag)) => (image, Some(ImageTag::parse(tag).ok()?)),
            None => (text, None),
        };
        let image = (image.len() <= LONGEST_DIGEST).then(|| Digest::parse(image).ok())??;
        Some(Self { image, tag })
    }

    /// The key after which the next page's rows are.
    fn key(&self, repository: &Repository) -> Key {
        match &self.tag {
            Some(tag) => schema::tag_listing(repository, &self.image, tag),
            None => schema::end_of_image_listing(repository, &self.image),
        }
    }
}

impl fmt::Display for ImagePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.image.canonical())?;
        match &self.tag {
            Some(tag) => write!(f, "#{tag}"),
            None => Ok(()),
        }
    }
}

/// The image whose rows are being read.
struct Current {
    digest: Digest,
    /// `None` if it is not published.
    image: Option<Image>,
    /// How many of its tags were seen, besides those that are in `tags`.
    seen: usize,
    tags: Vec<ImageTag>,
}

impl Current {
    fn read(row: &Item, digest: Digest) -> Result<Self, Fault> {
        Ok(Self { image: Image::read(row, &digest)?, digest, seen: 0, tags: Vec::new() })
    }

    fn is_tagged(&self) -> bool {
        self.seen > 0 || !self.tags.is_empty()
    }

    /// Whether its tags belong on the page.
    fn shows_tags(&self, filter: ImageFilter) -> bool {
        self.image.is_some() && filter != ImageFilter::Untagged
    }

    fn into_entry(self, filter: ImageFilter) -> Option<TaggedImage> {
        let is_wanted = match filter {
            ImageFilter::All => !self.is_tagged() || !self.tags.is_empty(),
            ImageFilter::Tagged => !self.tags.is_empty(),
            ImageFilter::Untagged => !self.is_tagged(),
            ImageFilter::Nothing => false,
        };
        self.image.filter(|_| is_wanted).map(|image| TaggedImage { image, tags: self.tags })
    }
}

impl<R: Role> Catalog<R> {
    /// A page of the published images of a repository, in the order of their digests: the first
    /// one, or the one after `after`. It has at most `most` of what is counted, and fewer if
    /// finding more would cost too much. Empty if there is no such repository. At most eight
    /// queries of 500 rows or 1 MB, and one request more if `after` is in the middle of an image.
    pub async fn image_page(
        &self,
        repository: &Repository,
        filter: ImageFilter,
        counted: Counted,
        after: Option<&ImagePosition>,
        most: usize,
    ) -> Result<ImagePage, Fault> {
        if filter == ImageFilter::Nothing {
            return Ok(Page { entries: Vec::new(), end: None });
        }
        let all = || {
            self.table.rows(schema::repository_partition(repository), schema::IMAGE_PREFIX, ROWS)
        };
        let mut rows = after.map_or_else(all, |position| all().after(position.key(repository)));
        let mut current = match after {
            Some(ImagePosition { image, tag: Some(_) }) => {
                self.listed_image(repository, image).await?
            }
            _ => None,
        };
        let mut page = Page { entries: Vec::new(), end: after.cloned() };
        let mut count = 0;
        let mut queries = 0;
        while count < most {
            if rows.needs_query() {
                if queries == MOST_QUERIES {
                    break;
                }
                queries += 1;
            }
            let Some(row) = rows.next().await? else {
                page.entries.extend(current.and_then(|image| image.into_entry(filter)));
                return Ok(Page { end: None, ..page });
            };
            let done = match (RepositoryRow::of(&row)?, &mut current) {
                (RepositoryRow::Image(digest), _) => current.replace(Current::read(&row, digest)?),
                // Of an image that is gone since the page before.
                (RepositoryRow::TagOfImage(..), None) => None,
                (RepositoryRow::TagOfImage(_, tag), Some(image)) => {
                    if counted == Counted::Tags && image.shows_tags(filter) {
                        if count + image.tags.len() == most {
                            break;
                        }
                        image.tags.push(tag);
                        None
                    } else if image.seen + image.tags.len() < MOST_TAGS {
                        match image.shows_tags(filter) {
                            true => image.tags.push(tag),
                            false => image.seen += 1,
                        }
                        None
                    } else {
                        // Its other tags do not matter.
                        rows = all().after(schema::end_of_image_listing(repository, &image.digest));
                        current.take()
                    }
                }
                _ => return Err(Fault::BrokenRecord("sk")),
            };
            if let Some(image) = done {
                page.end = Some(ImagePosition { image: image.digest.clone(), tag: None });
                let entry = image.into_entry(filter);
                count += entry.as_ref().map_or(0, |entry| counted.count(entry));
                page.entries.extend(entry);
            }
        }
        // The rest of this image is for the next page.
        if counted == Counted::Tags
            && let Some(image) = current
            && let Some(tag) = image.tags.last().cloned()
        {
            page.end = Some(ImagePosition { image: image.digest.clone(), tag: Some(tag) });
            page.entries.extend(image.into_entry(filter));
        }
        Ok(page)
    }

    /// An image that is listed and has tags.
    async fn listed_image(
        &self,
        repository: &Repository,
        image: &Digest,
    ) -> Result<Option<Current>, Fault> {
        let row = self.table.record(schema::image_listing(repository, image)).await?;
        let current = row.map(|row| Current::read(&row, image.clone())).transpose()?;
        Ok(current.map(|current| Current { seen: 1, ..current }))
    }

    /// A page of the repositories of a registry, in the order of their names: the first one, or the
    /// one after `after`, which need not exist. One query for each 500.
    pub async fn repository_page(
        &self,
        registry: &RegistryId,
        after: Option<&RepositoryName>,
        most: usize,
    ) -> Result<RepositoryPage, Fault> {
        let mut rows =
            self.table.rows(schema::registry_partition(registry), schema::REPOSITORY_PREFIX, ROWS);
        if let Some(name) = after {
            let last = Repository { registry: registry.clone(), name: name.clone() };
            rows = rows.after(schema::repository_listing(&last));
        }
        // One more than wanted, to see whether there is a next page.
        let rows = rows.take(most + 1).await?;
        let entries = rows.iter().take(most).map(|row| ListedRepository::read(row, registry));
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        let last = entries.last().map(|last| last.repository.name.clone());
        Ok(Page { entries, end: last.filter(|_| rows.len() > most) })
    }
}
