//! The first stage: records of images that were never published, and of layers that no image
//! references.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::filter::Filter;
use super::{Cleaning, Run};
use crate::catalog::sweep::Listed;
use crate::catalog::{CleanError, Consistency, LARGEST_CLAIM, LayerState};
use crate::types::{Digest, Repository};

/// How many layers are looked at at once.
const LOOKS_AT_ONCE: usize = 16;

impl Run<'_> {
    /// Cleans the repositories whose names come after `after`. Returns the last one that is done,
    /// if it was stopped.
    pub(super) async fn records(&mut self, after: &str) -> Result<Option<String>, CleanError> {
        let repositories = self.repositories.clone();
        for (n, repository) in repositories.iter().enumerate() {
            if repository.name.as_ref() <= after {
                continue;
            }
            self.repository(repository).await?;
            self.report((n + 1) as f64 / repositories.len() as f64);
            if (self.should_stop)() {
                return Ok(Some(repository.name.to_string()));
            }
        }
        Ok(None)
    }

    async fn repository(&mut self, repository: &Repository) -> Result<(), CleanError> {
        // A listing has the images before the layers. So what the images reference is known when
        // the layers come.
        let mut referenced = Filter::new();
        let mut unreferenced = Vec::new();
        let mut contents = self.cleaning.catalog.contents(repository);
        while let Some(listed) = contents.next().await? {
            self.renew().await?;
            match listed {
                Listed::Image(image) => {
                    let is_unfinished = image.pushed_at.is_none();
                    if !is_unfinished || !self.delete_unfinished(repository, &image.digest).await? {
                        image.layers.iter().for_each(|layer| referenced.insert(&layer.canonical()));
                    }
                }
                Listed::Layer(layer) if referenced.may_have(&layer.canonical()) => {}
                Listed::Layer(layer) => unreferenced.push(layer),
            }
            if unreferenced.len() == LARGEST_CLAIM {
                self.delete_unreferenced(repository, std::mem::take(&mut unreferenced)).await?;
            }
        }
        self.delete_unreferenced(repository, unreferenced).await
    }

    /// Deletes an image whose publishing never ended, if it is old enough and nobody publishes it
    /// now. Returns whether it is gone.
    async fn delete_unfinished(
        &mut self,
        repository: &Repository,
        image: &Digest,
    ) -> Result<bool, CleanError> {
        let Cleaning { catalog, is_dry_run, .. } = self.cleaning;
        let before = self.before;
        if !catalog.delete_unfinished_image(repository, image, before, true).await? {
            return Ok(false);
        }
        let is_free = self.claim(std::slice::from_ref(image)).await?.contains(&image.canonical());
        let is_gone = is_free
            && catalog.delete_unfinished_image(repository, image, before, *is_dry_run).await?;
        self.release().await?;
        if is_gone {
            self.freed.images += 1;
            self.note_gone(repository, image);
        }
        Ok(is_gone)
    }

    /// Deletes the records of layers that no listed image references.
    async fn delete_unreferenced(
        &mut self,
        repository: &Repository,
        mut layers: Vec<Digest>,
    ) -> Result<(), CleanError> {
        if layers.is_empty() {
            return Ok(());
        }
        let catalog = self.cleaning.catalog;
        let free = self.claim(&layers).await?;
        layers.retain(|layer| free.contains(&layer.canonical()));
        if let Some(lease) = &self.lease {
            // The listing has said so already. This looks at the references themselves, before what
            // cannot be undone.
            let look = async |layer| match catalog
                .layer(repository, &layer, Consistency::Strong)
                .await?
            {
                LayerState::Referenced(_) | LayerState::Upstream(_) => Ok::<_, CleanError>(None),
                LayerState::Unreferenced | LayerState::Absent => Ok(Some(layer)),
            };
            let looks = stream::iter(layers).map(look).buffered(LOOKS_AT_ONCE);
            layers = looks.try_filter_map(async |layer| Ok(layer)).try_collect().await?;
            catalog.delete_layers(lease, repository, &layers).await?;
        }
        self.release().await?;
        self.freed.layers += layers.len() as u64;
        layers.iter().for_each(|layer| self.note_gone(repository, layer));
        Ok(())
    }

    /// Remembers a record that a dry run would have removed. Without it, the objects look needed.
    fn note_gone(&mut self, repository: &Repository, digest: &Digest) {
        if self.cleaning.is_dry_run {
            self.gone.insert(&record(repository, digest));
        }
    }

    /// Whether a dry run would have removed the record.
    pub(super) fn is_gone(&self, repository: &Repository, digest: &Digest) -> bool {
        self.cleaning.is_dry_run && self.gone.may_have(&record(repository, digest))
    }
}

fn record(repository: &Repository, digest: &Digest) -> String {
    format!("{repository}@{}", digest.canonical())
}
