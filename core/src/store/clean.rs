//! Listing what the store has, and deleting what nothing needs.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::upload::{garbled, patience};
use super::{MultipartUpload, Store, fault};
use crate::fault::{Backend, BackendFault, Fault, Kind};
use crate::role::Cleaner;
use crate::types::{Digest, ObjectKey, RegistryId};

/// How long S3 may take to delete a thousand objects.
const DELETION_TIME: Duration = Duration::from_secs(20);

/// An object of the store.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
    /// When it was put there, in seconds since 1970.
    pub modified: u64,
}

/// An upload that nobody has completed or aborted.
#[derive(Debug)]
pub struct UnfinishedUpload {
    /// The upload.
    pub upload: MultipartUpload,
    /// The digest of its layer.
    pub digest: Digest,
    /// When it was started, in seconds since 1970.
    pub started: u64,
}

/// Where a list of uploads goes on.
#[derive(Debug)]
pub struct UploadMarker {
    key: Option<String>,
    id: Option<String>,
}

impl Store<Cleaner> {
    /// The objects whose keys begin with `prefix` and come after `after`, in the order of their
    /// keys, and whether more follow: at most a thousand, in one request. S3 lists what was put
    /// there before, always.
    /// Source: [Amazon S3 data consistency
    /// model](https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel).
    pub async fn list(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<(Vec<StoredObject>, bool), Fault> {
        let list =
            self.client("ListBucket").list_objects_v2().bucket(&self.bucket_name).prefix(prefix);
        let page = list.set_start_after((!after.is_empty()).then(|| after.to_owned())).send();
        let page = page.await.map_err(fault)?;
        let is_truncated = page.is_truncated.ok_or_else(garbled)?;
        let objects = page.contents.unwrap_or_default().into_iter().map(|object| {
            let modified = object.last_modified.ok_or_else(garbled)?.secs();
            Ok(StoredObject {
                key: object.key.ok_or_else(garbled)?,
                size: object.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(garbled)?,
                modified: u64::try_from(modified).unwrap_or_default(),
            })
        });
        Ok((objects.collect::<Result<_, Fault>>()?, is_truncated))
    }

    /// Deletes objects, at most a thousand, in one request, which is not repeated: a repetition's
    /// answer would not tell whether the first one may still arrive. Those that are not there count
    /// as deleted.
    pub async fn delete(&self, keys: impl Iterator<Item = &str>) -> Result<(), Fault> {
        let object =
            |key: &str| ObjectIdentifier::builder().key(key).build().expect("it has a key");
        let objects = Delete::builder().quiet(true).set_objects(Some(keys.map(object).collect()));
        let delete = self
            .client("DeleteObject")
            .delete_objects()
            .bucket(&self.bucket_name)
            .delete(objects.build().expect("it has objects"))
            .customize()
            .config_override(patience(DELETION_TIME).retry_config(RetryConfig::disabled()));
        let done = delete.send().await.map_err(fault)?;
        // A success may be one for some of the objects only.
        match done.errors.unwrap_or_default().into_iter().next() {
            None => Ok(()),
            Some(error) => Err(Fault::Backend(Box::new(BackendFault {
                backend: Backend::S3,
                kind: Kind::Answered,
                status: None,
                code: error.code,
                request_id: None,
                source: error
                    .message
                    .unwrap_or_else(|| "an object was not deleted".to_owned())
                    .into(),
            }))),
        }
    }

    /// The uploads of a registry's layers that nobody has completed or aborted, and where the list
    /// goes on: at most a thousand, in one request.
    pub async fn list_uploads(
        &self,
        registry: &RegistryId,
        from: Option<UploadMarker>,
    ) -> Result<(Vec<UnfinishedUpload>, Option<UploadMarker>), Fault> {
        let mut list = self
            .client("ListBucketMultipartUploads")
            .list_multipart_uploads()
            .bucket(&self.bucket_name);
        list = list.prefix(ObjectKey::layers(registry));
        if let Some(UploadMarker { key, id }) = from {
            list = list.set_key_marker(key).set_upload_id_marker(id);
        }
        let page = list.send().await.map_err(fault)?;
        let is_truncated = page.is_truncated.ok_or_else(garbled)?;
        let next = UploadMarker { key: page.next_key_marker, id: page.next_upload_id_marker };
        let mut uploads = Vec::new();
        for upload in page.uploads.unwrap_or_default() {
            let started = upload.initiated.ok_or_else(garbled)?.secs();
            let id = upload.upload_id.ok_or_else(garbled)?;
            if let Some(digest) =
                ObjectKey::digest_of_layer(registry, &upload.key.ok_or_else(garbled)?)
            {
                let object_key = ObjectKey::of_layer(registry, &digest);
                let started = u64::try_from(started).unwrap_or_default();
                uploads.push(UnfinishedUpload {
                    upload: MultipartUpload { object_key, id },
                    digest,
                    started,
                });
            }
        }
        Ok((uploads, is_truncated.then_some(next)))
    }
}
