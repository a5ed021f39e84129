//! Images in other registries.

use std::io::{self, Read};

use layergate_core::types::{Descriptor, Digest, ImageId};
use layergate_upstream as upstream;
use layergate_upstream::manifest::{self, IndexEntry, Platform};
use layergate_upstream::{Danger, Http, Manifest, Trust, Upstream};
use tokio::runtime::Handle;

use super::image::{Contents, collect, for_platform};
use super::{Blob, SourceImage, credentials};
use crate::error::Error;
use crate::reference::UpstreamImage;

/// An image in another registry.
#[derive(Debug)]
pub struct Registry {
    name: String,
    upstream: Upstream,
    /// The manifest of the source itself.
    root: Manifest,
}

impl Registry {
    /// Fetches the manifest of an image, with the user's credentials for the registry.
    pub fn open(image: UpstreamImage, trust: Trust) -> Result<Self, Error> {
        let credentials = credentials::find(&image.repository)?;
        let name = image.repository.to_string();
        let http = Http::through_proxies(trust)
            .map_err(|error| Error::Local(format!("cannot connect to registries: {error}")))?;
        let upstream = Upstream::new(image.repository, credentials, http)
            .map_err(|error| failure(&name, "the image", &error))?;
        let (what, root) = match &image.image {
            ImageId::Tag(tag) => {
                (format!("the tag '{tag}'"), wait_for(upstream.tagged_manifest(tag)))
            }
            ImageId::Digest(digest) => {
                (format!("the image {digest}"), wait_for(upstream.manifest(digest)))
            }
        };
        let root = root.map_err(|error| failure(&name, &what, &error))?;
        Ok(Self { name, upstream, root })
    }

    /// The image, or the one of its index for a platform; after all the images below it.
    pub fn images(&self, platform: Option<&Platform>) -> Result<Vec<SourceImage>, Error> {
        let descriptor = Descriptor {
            digest: self.root.digest.clone(),
            size: self.root.bytes.len() as u64,
            media_type: self.root.media_type.clone(),
        };
        let root = IndexEntry { descriptor, platform: None };
        match platform {
            None => collect(self, &root),
            Some(platform) => collect(self, &for_platform(self, vec![root], platform)?),
        }
    }

    /// Checks that the registry sends a blob, without reading it.
    pub async fn check(&self, blob: &Blob) -> Result<(), Error> {
        self.ask_for(&blob.descriptor)
            .await
            .map_err(|error| blob_error(&self.name, &blob.descriptor.digest, &error))
    }

    async fn ask_for(&self, blob: &Descriptor) -> Result<(), upstream::Error> {
        self.upstream.blob(&blob.digest, blob.size)?.open().await
    }
}

impl Contents for Registry {
    fn name(&self) -> &str {
        &self.name
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        if *digest == self.root.digest {
            return Ok(Some(self.root.bytes.clone()));
        }
        let manifest = wait_for(self.upstream.manifest(digest));
        let bytes = manifest
            .map_err(|error| failure(&self.name, &format!("the image {digest}"), &error))?
            .bytes;
        Ok(Some(bytes))
    }

    /// Asks the registry about foreign layers only. It must have all others; if one is missing,
    /// reading it fails.
    fn blob_size(&self, blob: &manifest::Blob) -> Result<Option<u64>, Error> {
        if !blob.is_foreign {
            return Ok(Some(blob.descriptor.size));
        }
        match wait_for(self.ask_for(&blob.descriptor)) {
            Ok(()) => Ok(Some(blob.descriptor.size)),
            Err(upstream::Error::NotFound) => Ok(None),
            Err(error) => Err(blob_error(&self.name, &blob.descriptor.digest, &error)),
        }
    }

    fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.upstream.blob(&blob.descriptor.digest, blob.descriptor.size)?.into_reader())
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    Handle::current().block_on(future)
}

/// The error for a blob that the registry does not send.
pub fn blob_error(repository: &str, digest: &Digest, error: &upstream::Error) -> Error {
    failure(repository, &format!("the blob {digest}"), error)
}

/// The error for `what` that a repository does not send.
fn failure(repository: &str, what: &str, error: &upstream::Error) -> Error {
    let registry = repository.split('/').next().unwrap_or_default();
    let advice = match error {
        upstream::Error::Denied(_) => {
            format!("check the name, and log in with 'docker login {registry}' if it is not public")
        }
        upstream::Error::NotFound => "check the name, and the tag or digest".to_owned(),
        upstream::Error::WrongContent(_)
        | upstream::Error::TooLarge(_)
        | upstream::Error::RedirectLoop => "layergate publishes nothing of it".to_owned(),
        upstream::Error::Forbidden { host, reason: Danger::PrivateAddress } => {
            format!("if that is right, allow it with --allow-host {host}")
        }
        upstream::Error::Forbidden { reason: Danger::NoTls, .. } => {
            "if that is right, allow it with --plain-http, and --allow-host for another host"
                .to_owned()
        }
        upstream::Error::Forbidden { reason: Danger::OtherRealm, .. } => {
            "do not trust it".to_owned()
        }
        upstream::Error::RateLimited { retry_after: Some(time) } => {
            format!(
                "run it again in {} s, or log in with 'docker login {registry}'",
                time.as_secs()
            )
        }
        upstream::Error::RateLimited { retry_after: None } => {
            format!("run it again later, or log in with 'docker login {registry}'")
        }
        upstream::Error::Busy { .. } => "run it again later".to_owned(),
        upstream::Error::Tls(problem) => {
            problem.advice("give --plain-http", "give --plain-http=false").to_owned()
        }
        upstream::Error::Unreachable(_) | upstream::Error::Unavailable(_) => {
            "check the name and the network, or run it again later".to_owned()
        }
    };
    let sentence = format!("cannot get {what} from {repository}: it {error}; {advice}");
    match error {
        upstream::Error::RateLimited { .. }
        | upstream::Error::Busy { .. }
        | upstream::Error::Unreachable(_)
        | upstream::Error::Tls(_)
        | upstream::Error::Unavailable(_) => Error::Registry(sentence),
        _ => Error::Source(sentence),
    }
}
