//! Fills: fetch an image or a layer from the registry of a pull-through cache rule.
//!
//! Each fill has a row in the table. The worker claims it first, and renews it while it works. At
//! the end it deletes the row, or writes there why the upstream does not send the image or layer.
//! The API's function, which waits for the fill, reads this row.

mod image;
mod layer;

use std::time::{Duration, Instant, SystemTime};

use layergate_core::catalog::{Fill, FillFailure, PublishError};
use layergate_core::fault::Fault;
use layergate_core::publish::{Publishing, UploadError};
use layergate_core::types::{Digest, ImageId, Repository, Wanted};
use layergate_core::worker::FillEvent;
use layergate_upstream as upstream;
use tokio_util::sync::CancellationToken;

use crate::Worker;

/// How long before Lambda's deadline the worker stops a fill, so that it can still record why.
const MARGIN: Duration = Duration::from_secs(60);

/// How often the lease is renewed: four times before it expires.
const BEAT: Duration = Duration::from_secs(15);

/// Why a fill failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The upstream or the rule is the reason. `failure` is shown to callers; `cause` is only
    /// logged.
    Upstream { failure: FillFailure, retry_after: Option<Duration>, cause: String },
    /// DynamoDB, S3 or Secrets Manager failed.
    Fault(Fault),
    /// Another worker has the lease now.
    LostLease,
}

impl Failure {
    pub(crate) fn new(failure: FillFailure, cause: impl ToString) -> Self {
        Self::Upstream { failure, retry_after: None, cause: cause.to_string() }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<upstream::Error> for Failure {
    fn from(error: upstream::Error) -> Self {
        let failure = match &error {
            upstream::Error::Denied(_) => FillFailure::AccessDenied,
            upstream::Error::NotFound => FillFailure::NotFound,
            upstream::Error::WrongContent(_) => FillFailure::WrongContent,
            upstream::Error::TooLarge(_) => FillFailure::TooLarge,
            upstream::Error::RedirectLoop => FillFailure::RedirectLoop,
            upstream::Error::Forbidden { .. } => FillFailure::ForbiddenAddress,
            upstream::Error::RateLimited { retry_after } => {
                let (failure, retry_after) = (FillFailure::TooManyRequests, *retry_after);
                return Self::Upstream { failure, retry_after, cause: error.to_string() };
            }
            upstream::Error::Busy { .. }
            | upstream::Error::Unreachable(_)
            | upstream::Error::Tls(_)
            | upstream::Error::Unavailable(_) => FillFailure::Unavailable,
        };
        Self::new(failure, error)
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Fault(fault) => fault.into(),
            UploadError::Unreadable(error) => match error.downcast::<upstream::Error>() {
                Ok(error) => error.into(),
                Err(error) => Self::new(FillFailure::Unavailable, error),
            },
            UploadError::Corrupt | UploadError::Unverifiable => {
                Self::new(FillFailure::WrongContent, error)
            }
            UploadError::TooLarge(_) => Self::new(FillFailure::TooLarge, error),
            UploadError::Stopped => Self::LostLease,
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Fault(fault) => fault.into(),
            PublishError::NoRepository | PublishError::RepositoryDeleted => {
                Self::new(FillFailure::BeingDeleted, "the repository is being deleted")
            }
            PublishError::ImageDeleted(_) => {
                Self::new(FillFailure::BeingDeleted, "the image is being deleted")
            }
            PublishError::BeingCleaned(_) => {
                Self::new(FillFailure::BeingDeleted, "a cleaner is removing it")
            }
            PublishError::GivenUp => {
                Self::new(FillFailure::BeingDeleted, "a cleaner ended the intent")
            }
        }
    }
}

impl Worker {
    /// Fetches the image or layer of an event, unless another worker does, and writes one log line.
    /// A failure is recorded in the fill's row.
    pub(crate) async fn fill(&self, event: &FillEvent, deadline: SystemTime) {
        let started = Instant::now();
        let Some((repository, wanted, lease_id)) = event.parse() else {
            tracing::error!(
                outcome = FillFailure::Fault.name(),
                cause = "the event is not one of a fill",
                "fill"
            );
            return;
        };
        let claimed = self.catalog.claim_fill(repository.clone(), wanted.clone(), lease_id).await;
        let result = match claimed {
            Ok(Some(fill)) => {
                let result = self.claimed_fill(&fill, &repository, &wanted, deadline).await;
                self.tell(&fill, result).await
            }
            Ok(None) => return, // another invocation claimed it: Lambda may deliver an event twice
            Err(fault) => Err(fault.into()),
        };
        log(&repository, &wanted, &result, started.elapsed());
    }

    /// Does the work and renews the lease meanwhile. Returns how many bytes were stored.
    async fn claimed_fill(
        &self,
        fill: &Fill,
        repository: &Repository,
        wanted: &Wanted,
        deadline: SystemTime,
    ) -> Result<u64, Failure> {
        let stop = CancellationToken::new();
        let redirect = layer::Redirect::default();
        let work = async {
            match wanted {
                Wanted::Image(id) => self.image(fill, repository, id).await,
                Wanted::Layer(digest) => {
                    self.layer(fill, repository, digest, &redirect, &stop).await
                }
            }
        };
        let time =
            deadline.duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(MARGIN);
        tokio::pin!(work);
        let failure = tokio::select! {
            result = &mut work => return result,
            failure = self.keep_lease(fill, &redirect) => failure,
            () = tokio::time::sleep(time) => {
                Failure::new(FillFailure::TooSlow, "it took longer than the function's time")
            }
        };
        // The work aborts its upload and ends its intent before it returns.
        stop.cancel();
        match work.await {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(failure),
        }
    }

    /// Renews the lease until another worker has it. A failed request is ignored: the lease is
    /// renewed again before it expires.
    async fn keep_lease(&self, fill: &Fill, redirect: &layer::Redirect) -> Failure {
        loop {
            tokio::time::sleep(BEAT).await;
            let url = redirect.url().await;
            if let Ok(false) = self.catalog.renew_fill(fill, url.as_ref()).await {
                return Failure::LostLease;
            }
        }
    }

    /// Records why a fill failed, for the callers that wait. A failure of the worker itself is only
    /// kept for a few seconds.
    async fn tell(&self, fill: &Fill, result: Result<u64, Failure>) -> Result<u64, Failure> {
        let told = match &result {
            Ok(_) | Err(Failure::LostLease) => Ok(()),
            Err(Failure::Upstream { failure, retry_after, .. }) => {
                self.catalog.fail_fill(fill, *failure, *retry_after).await
            }
            Err(Failure::Fault(_)) => self.catalog.fail_fill(fill, FillFailure::Fault, None).await,
        };
        match (result, told) {
            (Ok(_) | Err(Failure::Upstream { .. }), Err(fault)) => Err(fault.into()),
            (result, _) => result,
        }
    }

    /// Does `work` as a publishing that relies on these digests, so that no cleaner removes them.
    async fn publishing<T>(
        &self,
        repository: &Repository,
        digests: impl IntoIterator<Item = Digest>,
        work: impl AsyncFnOnce(&Publishing<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let publishing = Publishing::announce(&self.catalog, repository, digests).await?;
        let done = async {
            publishing.wait_for_cleaners().await?;
            work(&publishing).await
        };
        let done = done.await;
        // The worker's answer does not depend on how this goes: what stays is harmless.
        let _ = publishing.end(matches!(done, Err(Failure::Fault(_)))).await;
        done
    }
}

/// Writes the log line of a fill. The template's metrics are made from it.
fn log(
    repository: &Repository,
    wanted: &Wanted,
    result: &Result<u64, Failure>,
    duration: Duration,
) {
    let (registry, repository) = (repository.registry.as_ref(), repository.name.as_ref());
    let (kind, digest, tag) = match wanted {
        Wanted::Layer(digest) => ("layer", Some(digest.canonical()), None),
        Wanted::Image(ImageId::Digest(digest)) => ("image", Some(digest.canonical()), None),
        Wanted::Image(ImageId::Tag(tag)) => ("image", None, Some(tag.as_ref())),
    };
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $outcome:expr $(, $more:ident = $value:expr)*) => {
            tracing::$level!(
                registry, repository, kind, digest, tag, outcome = $outcome $(, $more = $value)*, duration_ms, "fill"
            )
        };
    }
    match result {
        Ok(bytes) => line!(info, "OK", bytes = *bytes),
        Err(Failure::Upstream { failure, cause, .. }) => {
            line!(warn, failure.name(), cause = cause.as_str())
        }
        Err(Failure::Fault(fault)) => {
            line!(error, FillFailure::Fault.name(), cause = fault.with_causes().as_str())
        }
        Err(Failure::LostLease) => line!(warn, "LostLease"),
    }
}
