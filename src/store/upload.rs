//! Putting content into the store, for the tool.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::{LayerStore, fault};
use crate::error::Error;
use crate::types::ObjectKey;

/// A multipart upload that was started. It costs money until it is completed or aborted.
#[derive(Debug, Clone)]
pub struct MultipartUpload {
    object_key: ObjectKey,
    id: String,
}

/// A part that is in the store.
#[derive(Debug)]
pub struct Part(CompletedPart);

impl LayerStore {
    /// Creates the bucket if it is missing. For the local stack: the template makes the bucket of a deployment.
    pub async fn create_bucket_if_missing(&self) -> Result<(), Error> {
        match self.client.head_bucket().bucket(&self.bucket_name).send().await {
            Ok(_) => return Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => {}
            Err(error) => return Err(fault(error)),
        }
        self.client.create_bucket().bucket(&self.bucket_name).send().await.map_err(fault)?;
        Ok(())
    }

    /// Whether an object is there whole. What is in the store under a digest was verified before it got there.
    pub async fn holds(&self, object_key: &ObjectKey, size: u64) -> Result<bool, Error> {
        let head = self.client.head_object().bucket(&self.bucket_name).key(object_key.as_ref());
        match head.send().await {
            Ok(object) => Ok(object.content_length().and_then(|n| u64::try_from(n).ok()) == Some(size)),
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => Ok(false),
            Err(error) => Err(fault(error)),
        }
    }

    /// Puts an object in one request.
    pub async fn put(&self, object_key: &ObjectKey, bytes: Vec<u8>) -> Result<(), Error> {
        let put = self.client.put_object().bucket(&self.bucket_name).key(object_key.as_ref());
        put.body(ByteStream::from(bytes)).send().await.map_err(fault)?;
        Ok(())
    }

    /// Starts to put an object in parts. Nothing is there to download before it is completed.
    pub async fn start_upload(&self, object_key: ObjectKey) -> Result<MultipartUpload, Error> {
        let create = self.client.create_multipart_upload().bucket(&self.bucket_name).key(object_key.as_ref());
        match create.send().await.map_err(fault)?.upload_id {
            Some(id) => Ok(MultipartUpload { object_key, id }),
            None => Err(Error::Server("S3 started an upload and gave it no id".into())),
        }
    }

    /// Puts a part. `number` counts from 1; all parts but the last have 5 MiB or more.
    pub async fn upload_part(
        &self,
        upload: &MultipartUpload,
        number: i32,
        bytes: Vec<u8>,
    ) -> Result<Part, Error> {
        let put = self
            .client
            .upload_part()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id)
            .part_number(number)
            .body(ByteStream::from(bytes));
        let done = put.send().await.map_err(fault)?;
        // S3 wants back the checksum that the SDK added to the part.
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(done.e_tag)
            .set_checksum_crc32(done.checksum_crc32);
        Ok(Part(part.build()))
    }

    /// Makes the object of its parts, in whatever order they are given.
    pub async fn complete_upload(&self, upload: &MultipartUpload, mut parts: Vec<Part>) -> Result<(), Error> {
        parts.sort_by_key(|part| part.0.part_number);
        let parts = parts.into_iter().map(|part| part.0).collect();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        complete.send().await.map_err(fault)?;
        Ok(())
    }

    /// Gives up an upload and deletes its parts.
    pub async fn abort_upload(&self, upload: &MultipartUpload) -> Result<(), Error> {
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id);
        abort.send().await.map_err(fault)?;
        Ok(())
    }
}
