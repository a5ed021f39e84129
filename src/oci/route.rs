//! Routes: a method, the pattern of a path, and the handler that answers.

use futures_util::future::BoxFuture;
use http::{Method, Response};

use super::Error;
use crate::access::Caller;
use crate::request::Request;
use crate::service::Service;
use crate::subject::Subject;
use layergate_core::store;
use layergate_core::types::{Digest, ImageId, ImageTag, Repository, RepositoryName};

/// An endpoint of the registry.
pub(super) struct Route {
    pub(super) method: Method,
    /// The path, as the specification writes it.
    pub(super) pattern: &'static str,
    /// Its name in the log.
    pub(super) operation: &'static str,
    pub(super) handler: Handler,
}

/// Answers a request.
type Handler = for<'a> fn(Call<'a>) -> BoxFuture<'a, Result<Response<String>, Error>>;

/// A row of the table of routes.
pub(super) const fn route(
    method: Method,
    pattern: &'static str,
    operation: &'static str,
    handler: Handler,
) -> Route {
    Route { method, pattern, operation, handler }
}

/// The parts of a path that its route's pattern has in angle brackets, as the client sent them:
/// nothing in a name, a tag or a digest needs a percent-escape. Parts that the pattern does not
/// have are empty.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    name: &'a str,
    reference: &'a str,
}

/// A request, with what its handler needs.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) caller: &'a Caller,
    pub(super) request: &'a Request,
    pub(super) operation: &'static str,
    pub(super) path: Parameters<'a>,
    pub(super) subject: &'a mut Subject,
}

impl Route {
    /// What a path names, if this route's pattern matches it.
    pub(super) fn parameters<'a>(&self, path: &'a str) -> Option<Parameters<'a>> {
        let pattern = self.pattern.strip_prefix("/v2/")?;
        let path = path.strip_prefix('/').unwrap_or_default();
        // A name may have slashes, and parts such as `blobs`, so the path is read from its end.
        let mut parts = path.rsplitn(pattern.split('/').count(), '/');
        let mut parameters = Parameters::default();
        for expected in pattern.rsplit('/') {
            let part = parts.next()?;
            match expected {
                "<name>" => parameters.name = part,
                "<reference>" | "<digest>" => parameters.reference = part,
                _ if part == expected => {}
                _ => return None,
            }
        }
        Some(parameters)
    }
}

/// What the path names. Each of these also notes it for the log line, once all of it is valid.
impl Call<'_> {
    /// The repository, for a path that ends in no parameter.
    pub(super) fn repository(&mut self) -> Result<Repository, Error> {
        let repository = self.parse_name()?;
        self.note(&repository);
        Ok(repository)
    }

    /// The repository and the image, for a path that ends in `<reference>`.
    pub(super) fn image(&mut self) -> Result<(Repository, ImageId), Error> {
        let repository = self.parse_name()?;
        let image = match self.path.reference.contains(':') {
            true => ImageId::Digest(self.parse_digest()?),
            false => ImageId::Tag(ImageTag::parse(self.path.reference).map_err(Error::TagInvalid)?),
        };
        self.note(&repository);
        match &image {
            ImageId::Digest(digest) => self.subject.digest = Some(digest.clone()),
            ImageId::Tag(tag) => self.subject.tag = Some(tag.clone()),
        }
        Ok((repository, image))
    }

    /// The repository and the digest, for a path that ends in `<digest>`.
    pub(super) fn digest(&mut self) -> Result<(Repository, Digest), Error> {
        let (repository, digest) = (self.parse_name()?, self.parse_digest()?);
        self.note(&repository);
        self.subject.digest = Some(digest.clone());
        Ok((repository, digest))
    }

    /// Which method a redirect's URL is signed for.
    pub(super) fn download_method(&self) -> store::Method {
        match self.request.method == Method::HEAD {
            true => store::Method::Head,
            false => store::Method::Get,
        }
    }

    fn parse_name(&self) -> Result<Repository, Error> {
        let name = RepositoryName::parse(self.path.name).map_err(Error::NameInvalid)?;
        Ok(Repository { registry: self.service.default_registry_id.clone(), name })
    }

    fn parse_digest(&self) -> Result<Digest, Error> {
        Digest::parse(self.path.reference).map_err(Error::DigestInvalid)
    }

    fn note(&mut self, repository: &Repository) {
        self.subject.operation = Some(self.operation);
        self.subject.repository = Some(repository.clone());
    }
}
