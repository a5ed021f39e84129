//! The embedded S3. The library under it answers `InternalError` without a reason when the file
//! system fails. Here the answer and the log say what failed.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// Objects that are files in a directory.
pub(super) struct Objects {
    files: FileSystem,
    directory: PathBuf,
}

impl Objects {
    /// The objects in `directory`, which must exist.
    pub(super) fn new(directory: PathBuf) -> s3s_fs::Result<Self> {
        Ok(Self { files: FileSystem::new(&directory)?, directory })
    }

    /// Gives a failure of the file system its reason. A full disk gets a code of its own, which
    /// S3 does not have, and a status that clients do not retry.
    fn explain(&self, mut error: S3Error) -> S3Error {
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let Some(cause) = cause else { return error };
        let directory = self.directory.display();
        let kind = cause.kind();
        let message = format!("the local stack cannot use {directory}: {cause}");
        tracing::error!(%directory, %cause, "the embedded S3 failed");
        if matches!(
            kind,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        ) {
            error.set_code(S3ErrorCode::Custom("DiskFull".into()));
            error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
        }
        error.set_message(message);
        error
    }
}

macro_rules! explained {
    ($($operation:ident($input:ident) -> $output:ident,)+) => {
        #[async_trait::async_trait]
        impl S3 for Objects {$(
            async fn $operation(
                &self,
                request: S3Request<$input>,
            ) -> S3Result<S3Response<$output>> {
                self.files.$operation(request).await.map_err(|error| self.explain(error))
            }
        )+}
    };
}

// All operations that the library has.
explained! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput,
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput,
    copy_object(CopyObjectInput) -> CopyObjectOutput,
    create_bucket(CreateBucketInput) -> CreateBucketOutput,
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput,
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput,
    delete_object(DeleteObjectInput) -> DeleteObjectOutput,
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput,
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput,
    get_object(GetObjectInput) -> GetObjectOutput,
    head_bucket(HeadBucketInput) -> HeadBucketOutput,
    head_object(HeadObjectInput) -> HeadObjectOutput,
    list_buckets(ListBucketsInput) -> ListBucketsOutput,
    list_objects(ListObjectsInput) -> ListObjectsOutput,
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output,
    list_parts(ListPartsInput) -> ListPartsOutput,
    put_object(PutObjectInput) -> PutObjectOutput,
    upload_part(UploadPartInput) -> UploadPartOutput,
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput,
}
