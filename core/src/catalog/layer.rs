//! Reading layers: whether an image references one, and where its bytes are.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Item, number, string};
use super::{Catalog, Consistency, schema, table};
use crate::fault::Fault;
use crate::role::Role;
use crate::types::{Descriptor, Digest, ObjectKey, RegistryId, Repository};

/// What the catalog knows about a layer in a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum LayerState {
    /// The repository has no such layer.
    Absent,
    /// No image references it.
    Unreferenced,
    /// An image references it, and its bytes are still in another registry.
    Upstream(Descriptor),
    /// An image references it. Its bytes are the object with this key.
    Referenced(ObjectKey),
}

impl<R: Role> Catalog<R> {
    /// What is known about a layer. One request, or none if the cache has the answer.
    pub async fn layer(
        &self,
        repository: &Repository,
        digest: &Digest,
        consistency: Consistency,
    ) -> Result<LayerState, Fault> {
        let pk = schema::layer_partition(repository, digest);
        if !table::may_be_key(&pk) {
            return Ok(LayerState::Absent);
        }
        if let (Consistency::Remembered, Some(referenced)) = (consistency, &self.referenced)
            && let Some(object_key) = referenced.get(&pk)
        {
            return Ok(LayerState::Referenced(object_key));
        }
        let rows = self.table.first_two(pk.clone(), consistency == Consistency::Strong).await?;
        let state = layer_state(&repository.registry, digest, rows)?;
        if let (LayerState::Referenced(object_key), Some(referenced)) = (&state, &self.referenced) {
            referenced.insert(pk, object_key.clone());
        }
        Ok(state)
    }

    /// What is recorded of a layer, if an image references it. Read with strong consistency. One
    /// request.
    pub async fn layer_descriptor(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, Fault> {
        let pk = schema::layer_partition(repository, digest);
        if !table::may_be_key(&pk) {
            return Ok(None);
        }
        let items = self.table.first_two(pk, true).await?;
        let [layer, _reference] = &items[..] else { return Ok(None) };
        is_layer(layer).then(|| descriptor(layer, digest)).transpose()
    }
}

/// Reads the first two items of a layer's partition.
fn layer_state(
    registry: &RegistryId,
    digest: &Digest,
    items: Vec<Item>,
) -> Result<LayerState, Fault> {
    let mut items = items.into_iter();
    let Some(mut layer) = items.next().filter(is_layer) else {
        return Ok(LayerState::Absent);
    };
    if items.next().is_none() {
        return Ok(LayerState::Unreferenced);
    }
    let object_key = match layer.remove("object_key") {
        Some(AttributeValue::S(object_key)) => ObjectKey::parse_layer(registry, object_key),
        None if layer.contains_key("upstream") => {
            return Ok(LayerState::Upstream(descriptor(&layer, digest)?));
        }
        _ => None,
    };
    object_key.map(LayerState::Referenced).ok_or(Fault::BrokenRecord("object_key"))
}

fn is_layer(item: &Item) -> bool {
    string(item, "sk").is_ok_and(|sk| sk == schema::LAYER)
}

/// What the record of a layer says about it.
fn descriptor(layer: &Item, digest: &Digest) -> Result<Descriptor, Fault> {
    Ok(Descriptor {
        digest: digest.clone(),
        size: number(layer, "size")?,
        media_type: string(layer, "media_type")?.to_owned(),
    })
}
