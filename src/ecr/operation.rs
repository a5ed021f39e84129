//! The trait of all operations, and the code around each of them.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Response;
use serde::Serialize;

use super::{Error, Members, protocol};
use crate::access::Caller;
use crate::request::Origin;
use crate::service::Service;
use crate::subject::Subject;
use layergate_core::types::RegistryId;

/// An operation; the value is a request for it.
pub(super) trait Operation: Sized + Send {
    /// The operation's name, as `X-Amz-Target` spells it.
    const NAME: &'static str;

    /// The response's body.
    type Output: Serialize;

    /// Whether this deployment has the operation.
    fn is_offered(_service: &Service) -> bool {
        true
    }

    /// Parses the request: checks the types of all members first, then each member's constraint.
    fn parse(members: Members, default_registry: &RegistryId) -> Result<Self, Error>;

    /// Notes the request's subject for the log line.
    fn note(&self, _subject: &mut Subject) {}

    /// Answers the request.
    fn call(
        self,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// What an operation gets besides the request.
pub(super) struct Context<'a> {
    /// Decides what the caller may read.
    pub(super) service: &'a Service,
    /// The caller.
    pub(super) caller: &'a Caller,
    /// The address that the caller used for the API.
    pub(super) origin: Option<&'a Origin>,
    /// The operation's name.
    pub(super) operation: &'static str,
}

/// An operation in the list of all operations.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) is_offered: fn(&Service) -> bool,
    pub(super) answer: Answer,
}

type Answer = for<'a> fn(
    Context<'a>,
    Members,
    &'a mut Subject,
) -> BoxFuture<'a, Result<Response<String>, Error>>;

impl Entry {
    pub(super) const fn of<O: Operation + 'static>() -> Self {
        Self {
            name: O::NAME,
            is_offered: O::is_offered,
            answer: |context, members, subject| answer::<O>(context, members, subject).boxed(),
        }
    }
}

async fn answer<O: Operation>(
    context: Context<'_>,
    members: Members,
    subject: &mut Subject,
) -> Result<Response<String>, Error> {
    let request = O::parse(members, &context.service.default_registry_id)?;
    request.note(subject);
    protocol::success(&request.call(&context).await?)
}
