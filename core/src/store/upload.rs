//! Putting content into the store.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};

use super::{Store, client, fault};
use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::role::{Publisher, Role};
use crate::types::ObjectKey;

/// How long S3 may take to answer a request that sends bytes, in addition to the time that the
/// bytes take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The slowest rate at which a request may send, in bytes a second. Four requests at once need one
/// megabit a second.
const SLOWEST: usize = 32 * 1024;

/// How long S3 may take to make an object of its parts.
/// Source:
/// [CompleteMultipartUpload](https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html),
/// "several minutes".
const COMPLETION_TIME: Duration = Duration::from_secs(300);

/// The SDK computes this checksum of each part, and S3 verifies it. The whole object's checksum is
/// made from those of the parts. S3 refuses to complete an upload whose parts have a checksum of
/// another algorithm than the upload was created with, so the algorithm is named in each request.
/// Source: [Checking object
/// integrity](https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
const CHECKSUM: ChecksumAlgorithm = ChecksumAlgorithm::Crc32;
const CHECKSUM_TYPE: ChecksumType = ChecksumType::Composite;

/// A multipart upload that was started. It costs money until it is completed or aborted.
#[derive(Debug, Clone)]
pub struct MultipartUpload {
    /// The object that it makes.
    pub object_key: ObjectKey,
    pub(super) id: String,
}

/// A part that is in the store.
#[derive(Debug)]
pub struct Part(CompletedPart);

impl Store<Publisher> {
    /// How many bytes an object has; `None` if it is not there. They need no check, because they
    /// were verified before they were put there. One request.
    pub async fn size_of(&self, object_key: &ObjectKey) -> Result<Option<u64>, Fault> {
        let head = self.client("GetObject").head_object();
        let head = head.bucket(&self.bucket_name).key(object_key.as_ref());
        match head.send().await {
            Ok(object) => Ok(object.content_length().and_then(|length| u64::try_from(length).ok())),
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    /// Whether an object of this size is there. One request.
    pub async fn holds(&self, object_key: &ObjectKey, size: u64) -> Result<bool, Fault> {
        Ok(self.size_of(object_key).await? == Some(size))
    }

    /// Puts an object in one request. If there is a media type, downloads of the object have it as
    /// their `Content-Type`.
    pub async fn put(
        &self,
        object_key: &ObjectKey,
        media_type: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<(), Fault> {
        let time = sending_time(bytes.len());
        let put = self
            .client("PutObject")
            .put_object()
            .bucket(&self.bucket_name)
            .key(object_key.as_ref())
            .set_content_type(media_type.map(str::to_owned))
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(patience(time));
        let done = put.send().await.map_err(fault)?;
        done.e_tag.map(|_| ()).ok_or_else(garbled)
    }

    /// Starts to put an object in parts. The object does not exist before the upload is completed.
    pub async fn start_upload(&self, object_key: ObjectKey) -> Result<MultipartUpload, Fault> {
        let create = self
            .client("PutObject")
            .create_multipart_upload()
            .bucket(&self.bucket_name)
            .key(object_key.as_ref())
            .checksum_algorithm(CHECKSUM)
            .checksum_type(CHECKSUM_TYPE);
        let id = create.send().await.map_err(fault)?.upload_id.ok_or_else(garbled)?;
        Ok(MultipartUpload { object_key, id })
    }

    /// Puts a part. `number` counts from 1; all parts but the last have 5 MiB or more.
    pub async fn upload_part(
        &self,
        upload: &MultipartUpload,
        number: i32,
        bytes: Vec<u8>,
    ) -> Result<Part, Fault> {
        let time = sending_time(bytes.len());
        let put = self
            .client("PutObject")
            .upload_part()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id)
            .part_number(number)
            .checksum_algorithm(CHECKSUM)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(patience(time));
        let done = put.send().await.map_err(fault)?;
        // S3 wants back the checksum that the SDK added to the part.
        let part = CompletedPart::builder()
            .part_number(number)
            .e_tag(done.e_tag.ok_or_else(garbled)?)
            .set_checksum_crc32(done.checksum_crc32);
        Ok(Part(part.build()))
    }

    /// Makes the object of its parts, which may be given in any order.
    pub async fn complete_upload(
        &self,
        upload: &MultipartUpload,
        mut parts: Vec<Part>,
    ) -> Result<(), Fault> {
        parts.sort_by_key(|part| part.0.part_number);
        let parts = parts.into_iter().map(|part| part.0).collect();
        let complete = self
            .client("PutObject")
            .complete_multipart_upload()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id)
            .checksum_type(CHECKSUM_TYPE)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(patience(COMPLETION_TIME));
        complete.send().await.map_err(fault)?.e_tag.map(|_| ()).ok_or_else(garbled)
    }

    /// The uploads to an object that anybody has started and nobody has completed or aborted; at
    /// most the first thousand.
    pub async fn unfinished_uploads(
        &self,
        object_key: &ObjectKey,
    ) -> Result<Vec<MultipartUpload>, Fault> {
        let list = self
            .client("ListBucketMultipartUploads")
            .list_multipart_uploads()
            .bucket(&self.bucket_name)
            .prefix(object_key.as_ref());
        let uploads = list.send().await.map_err(fault)?.uploads.unwrap_or_default();
        let uploads =
            uploads.into_iter().filter(|upload| upload.key() == Some(object_key.as_ref()));
        let ids = uploads.filter_map(|upload| upload.upload_id);
        Ok(ids.map(|id| MultipartUpload { object_key: object_key.clone(), id }).collect())
    }
}

impl<R: Role> Store<R> {
    /// Gives up an upload and deletes its parts. Succeeds also if the upload has ended already.
    pub async fn abort_upload(&self, upload: &MultipartUpload) -> Result<(), Fault> {
        let abort = self
            .client("AbortMultipartUpload")
            .abort_multipart_upload()
            .bucket(&self.bucket_name)
            .key(upload.object_key.as_ref())
            .upload_id(&upload.id);
        match abort.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_upload() => Ok(()),
            Err(error) => Err(fault(error)),
        }
    }
}

/// Creates the bucket if it is missing. For the local stack: the template makes the bucket of a
/// deployment.
pub async fn create_bucket_if_missing(sdk: &SdkConfig, config: &Config) -> Result<(), Fault> {
    let client = client(sdk, config);
    match client.head_bucket().bucket(&config.bucket_name).send().await {
        Ok(_) => return Ok(()),
        Err(SdkError::ServiceError(error)) if error.err().is_not_found() => {}
        Err(error) => return Err(fault(error)),
    }
    client.create_bucket().bucket(&config.bucket_name).send().await.map_err(fault)?;
    Ok(())
}

fn sending_time(bytes: usize) -> Duration {
    ANSWER_TIME + Duration::from_secs((bytes / SLOWEST) as u64)
}

/// Time-outs for an operation: `time` for each attempt, twice that for all attempts together.
pub(super) fn patience(time: Duration) -> config::Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(time)
        .operation_timeout(time * 2)
        .build();
    config::Builder::new().timeout_config(timeouts)
}

pub(super) fn garbled() -> Fault {
    Fault::garbled(Backend::S3)
}
