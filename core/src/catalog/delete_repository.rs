//! Deleting a repository. It is safe to stop between any two of these steps; deleting again does
//! the rest:
//!
//! 1. The repository's record is marked with `deleting`. From then on nothing is published into the
//!    repository. If it is to be deleted only without images, the mark is tentative at first: an
//!    image may have been published after the images were listed. They are listed again. If there
//!    are any, the mark is taken back; if not, it becomes final.
//! 2. The images are deleted, each as in [`delete_image`](super::delete_image).
//! 3. The layers' records are deleted.
//! 4. The repository's record is deleted.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::condition::Condition;
use super::id::UniqueId;
use super::schema::RepositoryRow;
use super::transaction::LARGEST_TRANSACTION;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::Publisher;
use crate::types::{Digest, Repository};

/// How many images are deleted at once.
const IMAGES_AT_ONCE: usize = 8;

/// The outcome of deleting a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum RepositoryDeletion {
    /// It is gone.
    Deleted,
    /// There is no such repository.
    NoRepository,
    /// Nothing was done, because the repository has images.
    HasImages,
}

impl Catalog<Publisher> {
    /// Deletes a repository. If it has images, it is deleted only with `with_images`.
    pub async fn delete_repository(
        &self,
        repository: &Repository,
        with_images: bool,
    ) -> Result<RepositoryDeletion, Fault> {
        let deletion = loop {
            let Some(record) = self.repository(repository).await? else {
                return Ok(RepositoryDeletion::NoRepository);
            };
            let mark = match record.deleting {
                Some(mark) => mark,
                None => {
                    if !with_images && self.has_images(repository).await? {
                        return Ok(RepositoryDeletion::HasImages);
                    }
                    self.mark_repository(repository, with_images).await?;
                    continue;
                }
            };
            if !mark.is_tentative {
                break mark.id;
            }
            let is_refused = !with_images && self.has_images(repository).await?;
            let change = if is_refused { "REMOVE deleting, tentative" } else { "REMOVE tentative" };
            let is_tentative = Condition::is_tentatively_marked(mark.id);
            let mut write = self.table.transaction();
            write.update_if((), is_tentative, schema::repository(repository), change, []);
            if write.commit().await?.is_written() && is_refused {
                return Ok(RepositoryDeletion::HasImages);
            }
        };
        self.delete_listed_images(repository, deletion).await?;
        self.delete_listed_layers(repository, deletion).await?;
        let mut write = self.table.transaction();
        write.delete_if((), Condition::is_marked(deletion), schema::repository(repository));
        write.delete(schema::repository_listing(repository));
        write.commit().await?; // refused if another command has completed the deletion
        Ok(RepositoryDeletion::Deleted)
    }

    async fn has_images(&self, repository: &Repository) -> Result<bool, Fault> {
        let mut images =
            self.table.rows(schema::repository_partition(repository), schema::IMAGE_PREFIX, 1);
        Ok(images.next().await?.is_some())
    }

    /// Marks a repository that is not being deleted.
    async fn mark_repository(&self, repository: &Repository, is_final: bool) -> Result<(), Fault> {
        let mark = [(":deletion", UniqueId::draw().value())];
        let change = match is_final {
            true => "SET deleting = :deletion",
            false => "SET deleting = :deletion, tentative = :deletion",
        };
        let mut write = self.table.transaction();
        write.update_if((), Condition::is_alive(), schema::repository(repository), change, mark);
        write.commit().await.map(|_| ()) // refused if another command has marked it
    }

    async fn delete_listed_images(
        &self,
        repository: &Repository,
        deletion: UniqueId,
    ) -> Result<(), Fault> {
        // Each pass lists from the start, because deleted images are not listed any more.
        while self.is_still_marked(repository, deletion).await? {
            let mut list = self.images(repository);
            let mut images: Vec<Digest> = Vec::new();
            const IMAGES_OF_A_PASS: usize = 500;
            while images.len() < IMAGES_OF_A_PASS
                && let Some(image) = list.next().await?
            {
                images.push(image.digest);
            }
            if images.is_empty() {
                break;
            }
            let deletions = images.iter().map(async |image| {
                self.delete_image_of_deleted_repository(repository, image, deletion).await
            });
            stream::iter(deletions).buffer_unordered(IMAGES_AT_ONCE).try_collect::<()>().await?;
        }
        Ok(())
    }

    async fn is_still_marked(
        &self,
        repository: &Repository,
        deletion: UniqueId,
    ) -> Result<bool, Fault> {
        let mark = self.repository(repository).await?.and_then(|record| record.deleting);
        Ok(mark.is_some_and(|mark| mark.id == deletion))
    }

    async fn delete_listed_layers(
        &self,
        repository: &Repository,
        deletion: UniqueId,
    ) -> Result<(), Fault> {
        const LAYERS_AT_ONCE: usize = (LARGEST_TRANSACTION - 1) / 2;
        let mut layers =
            self.table.rows(schema::repository_partition(repository), schema::LAYER_PREFIX, 500);
        loop {
            let rows = layers.take(LAYERS_AT_ONCE).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut write = self.table.transaction();
            write.check((), Condition::is_marked(deletion), schema::repository(repository));
            for row in &rows {
                if let RepositoryRow::Layer(layer) = RepositoryRow::of(row)? {
                    write.delete(schema::layer(repository, &layer));
                    write.delete(schema::layer_listing(repository, &layer));
                }
            }
            if !write.commit().await?.is_written() {
                return Ok(()); // another command has completed the deletion
            }
        }
    }
}
