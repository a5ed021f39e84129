//! The store: layers in an S3 bucket.

mod clean;
mod upload;

use std::marker::PhantomData;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;

use crate::config::Config;
use crate::fault::{Backend, Fault};
use crate::role::{Puller, Role};
use crate::types::{DownloadUrl, ObjectKey};

pub use clean::{StoredObject, UnfinishedUpload, UploadMarker};
pub use upload::{MultipartUpload, Part, create_bucket_if_missing};

/// The bucket, with what the role `R` may do with it.
#[derive(Debug, Clone)]
pub struct Store<R> {
    client: Client,
    bucket_name: String,
    url_expiry: Duration,
    role: PhantomData<R>,
}

/// The method of the requests that a URL is signed for. It is good for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Gives the bytes, or a range of them.
    Get,
    /// Gives only the headers.
    Head,
}

impl<R: Role> Store<R> {
    /// The bucket that `config` names. `sdk` has the region, the credentials and the time-outs.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        Self {
            client: client(sdk, config),
            bucket_name: config.bucket_name.clone(),
            url_expiry: config.url_expiry,
            role: PhantomData,
        }
    }

    /// The client, for a request of this action. Panics in a debug build if the role may not do it,
    /// for tests to find it. In a deployment, AWS refuses what the role's policy does not grant.
    fn client(&self, action: &str) -> &Client {
        debug_assert!(R::PERMISSIONS.bucket.contains(&action), "the role may not {action}");
        &self.client
    }
}

impl<R: Role> Store<R> {
    /// Signs a URL of an object. Sends no request, so it does not check that the object exists: the
    /// catalog has only objects that were uploaded.
    pub async fn download_url(
        &self,
        object_key: &ObjectKey,
        method: Method,
    ) -> Result<DownloadUrl, Fault> {
        let expiry = PresigningConfig::expires_in(self.url_expiry)
            .map_err(|error| Fault::not_sent(Backend::S3, error))?;
        let (bucket, key) = (&self.bucket_name, object_key.as_ref());
        // Not .range(): it would become a signed header, and pullers add ranges of their own.
        let request = match method {
            Method::Get => {
                let get = self.client("GetObject").get_object().bucket(bucket).key(key);
                get.presigned(expiry).await.map_err(fault)?
            }
            Method::Head => {
                let head = self.client("GetObject").head_object().bucket(bucket).key(key);
                head.presigned(expiry).await.map_err(fault)?
            }
        };
        Ok(DownloadUrl::new(request.uri().to_owned()))
    }
}

impl Store<Puller> {
    /// An object's bytes, which are as many as `size`. One request.
    pub async fn get(&self, object_key: &ObjectKey, size: u64) -> Result<Vec<u8>, Fault> {
        let get = self
            .client("GetObject")
            .get_object()
            .bucket(&self.bucket_name)
            .key(object_key.as_ref());
        let object = get.send().await.map_err(fault)?;
        if object.content_length().and_then(|length| u64::try_from(length).ok()) != Some(size) {
            return Err(Fault::garbled(Backend::S3));
        }
        let bytes =
            object.body.collect().await.map_err(|error| Fault::broken_off(Backend::S3, error))?;
        Ok(bytes.to_vec())
    }
}

fn client(sdk: &SdkConfig, config: &Config) -> Client {
    let mut builder = aws_sdk_s3::config::Builder::from(sdk);
    if let Some(endpoint) = &config.s3_endpoint {
        // The bucket's name before an endpoint such as localhost would be a host that nobody has.
        builder = builder.endpoint_url(endpoint).force_path_style(true);
    }
    Client::from_conf(builder.build())
}

fn fault<E>(error: SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Fault::of(Backend::S3, error)
}
