//! Images in other registries.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use layergate::catalog::ImageId;
use layergate::types::Digest;
use layergate::upstream::{self, Danger, Trust, Upstream, UpstreamRepository};
use oci_spec::image::{Descriptor, MediaType};
use tokio::runtime::Handle;

use super::image::{Contents, collect, is_foreign};
use super::{Blob, SourceImage, credentials};
use crate::error::Error;

/// The most bytes that the manifests of one image may have together. They are all in memory.
const LARGEST_MANIFESTS: usize = 64 * 1024 * 1024;

/// A repository of another registry.
#[derive(Debug)]
pub struct Registry {
    name: String,
    upstream: Upstream,
    /// How many bytes of manifests were fetched.
    fetched: AtomicUsize,
}

impl Registry {
    /// The repository, with the credentials that the user has for its registry.
    pub fn new(repository: UpstreamRepository, trust: Trust) -> Result<Self, Error> {
        let credentials = credentials::find(&repository)?;
        let name = repository.to_string();
        let upstream = Upstream::new(repository, credentials, trust)
            .map_err(|error| Error::Local(format!("cannot connect to registries: {error}")))?;
        Ok(Self { name, upstream, fetched: AtomicUsize::new(0) })
    }

    /// Fetches the manifests of an image, and of all the images below it.
    pub fn images(&self, image: &ImageId) -> Result<Vec<SourceImage>, Error> {
        let (what, manifest) = match image {
            ImageId::Tag(tag) => (format!("the tag '{tag}'"), wait_for(self.upstream.tagged_manifest(tag))),
            ImageId::Digest(digest) => {
                (format!("the image {digest}"), wait_for(self.upstream.manifest(digest)))
            }
        };
        let manifest = manifest.map_err(|error| failure(&self.name, &what, &error))?;
        let digest = oci_spec::image::Digest::try_from(manifest.digest.canonical())
            .map_err(|error| Error::Source(format!("{what} in {} cannot be used: {error}", self.name)))?;
        let size = manifest.bytes.len() as u64;
        let root = Descriptor::new(MediaType::from(manifest.media_type.as_str()), size, digest);
        let mut images = Vec::new();
        collect(self, &root, 0, &mut images)?;
        Ok(images)
    }

    /// Whether the registry gives a blob, as far as can be told without reading it.
    pub async fn check(&self, blob: &Blob) -> Result<(), Error> {
        self.open(blob).await.map_err(|error| blob_error(&self.name, &blob.record.digest, &error))
    }

    async fn open(&self, blob: &Blob) -> Result<(), upstream::Error> {
        self.upstream.blob(&blob.record.digest, blob.record.size)?.open().await
    }
}

impl Contents for Registry {
    fn name(&self) -> &str {
        &self.name
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let manifest = wait_for(self.upstream.manifest(digest));
        let bytes =
            manifest.map_err(|error| failure(&self.name, &format!("the image {digest}"), &error))?.bytes;
        if self.fetched.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > LARGEST_MANIFESTS {
            return Err(Error::Source(format!(
                "the manifests of the image in {} have more than {LARGEST_MANIFESTS} bytes together; publish its \
                 images one by one, by their digests",
                self.name
            )));
        }
        Ok(Some(bytes))
    }

    /// A registry says whether it has a blob when that is read. It need not have foreign layers, so it is asked.
    fn blob_size(&self, blob: &Blob) -> Result<Option<u64>, Error> {
        if !is_foreign(&blob.record.media_type) {
            return Ok(Some(blob.record.size));
        }
        let opened =
            wait_for(async { self.upstream.blob(&blob.record.digest, blob.record.size)?.open().await });
        match opened {
            Ok(()) => Ok(Some(blob.record.size)),
            Err(upstream::Error::NotFound) => Ok(None),
            Err(error) => Err(blob_error(&self.name, &blob.record.digest, &error)),
        }
    }

    fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.upstream.blob(&blob.record.digest, blob.record.size)?.into_reader())
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    Handle::current().block_on(future)
}

/// The sentence for a blob that cannot be had.
pub fn blob_error(repository: &str, digest: &Digest, error: &upstream::Error) -> Error {
    failure(repository, &format!("the blob {digest}"), error)
}

/// The sentence for what cannot be had from a repository.
fn failure(repository: &str, what: &str, error: &upstream::Error) -> Error {
    let registry = repository.split('/').next().unwrap_or_default();
    let advice = match error {
        upstream::Error::Denied(_) => {
            format!("check the name, and log in with 'docker login {registry}' if it is not public")
        }
        upstream::Error::NotFound => "check the name, and the tag or digest".to_owned(),
        upstream::Error::WrongContent(_) | upstream::Error::TooLarge(_) | upstream::Error::RedirectLoop => {
            "layergate publishes nothing of it".to_owned()
        }
        upstream::Error::Forbidden { host, reason: Danger::PrivateAddress } => {
            format!("if that is right, allow it with --allow-host {host}")
        }
        upstream::Error::Forbidden { reason: Danger::NoTls, .. } => {
            "if that is right, allow it with --plain-http, and --allow-host for another host".to_owned()
        }
        upstream::Error::Forbidden { reason: Danger::OtherRealm, .. } => "do not trust it".to_owned(),
        upstream::Error::RateLimited { retry_after: Some(time) } => {
            format!("run it again in {} s, or log in with 'docker login {registry}'", time.as_secs())
        }
        upstream::Error::RateLimited { retry_after: None } => {
            format!("run it again later, or log in with 'docker login {registry}'")
        }
        upstream::Error::Unavailable(_) => "check the name and the network, or run it again later".to_owned(),
    };
    let sentence = format!("cannot get {what} from {repository}: it {error}; {advice}");
    match error {
        upstream::Error::RateLimited { .. } | upstream::Error::Unavailable(_) => Error::Registry(sentence),
        _ => Error::Source(sentence),
    }
}
