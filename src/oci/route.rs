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

/// The values of a pattern's parameters, which are in angle brackets. A parameter that the pattern
/// does not have is empty.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    name: &'a str,
    reference: &'a str,
}

/// A request, with everything that its handler needs.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) caller: &'a Caller,
    pub(super) request: &'a Request,
    pub(super) operation: &'static str,
    pub(super) path: Parameters<'a>,
    pub(super) subject: &'a mut Subject,
}

impl Route {
    /// The parameters in a path, if the pattern matches it.
    pub(super) fn parameters<'a>(&self, path: &'a str) -> Option<Parameters<'a>> {
        let pattern = self.pattern.strip_prefix("/v2/")?;
        let path = path.strip_prefix('/').unwrap_or_default();
        // Some clients send a slash after `tags/list`. A parameter ends where the path ends.
        let path = if pattern.ends_with('>') { path } else { path.trim_end_matches('/') };
        // A repository's name may contain slashes and words such as `blobs`. So this reads the path
        // from its end.
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

/// The typed parameters. Each method also notes them for the log line, once all of them are valid.
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

    /// The method for which the redirect's URL must be signed.
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
