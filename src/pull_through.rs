//! Waits for images and layers that the worker fetches from another registry, because of a
//! pull-through cache rule.
//!
//! The API's function fetches nothing itself. It invokes the worker and then looks in the catalog
//! until the image or layer is stored, the worker has failed, or the time is over. If many callers
//! wait for the same thing, in any function instance, only the one with the lease invokes the
//! worker.

use std::time::{Duration, Instant};

use aws_config::SdkConfig;

use layergate_core::catalog::{Catalog, FillFailure, FillState, UniqueId};
use layergate_core::config::Config;
use layergate_core::fault::Fault;
use layergate_core::role::Puller;
use layergate_core::types::{DownloadUrl, Repository, Wanted};
use layergate_core::worker::WorkerClient;

/// How long a call of ECR's API waits in all. After that it is throttled, and SDKs repeat a
/// throttled call.
pub const WAIT_OF_ECR: Duration = Duration::from_secs(4);

/// How long a request to the registry waits in all. Most clients stop a pull at the first error. So
/// this is nearly API Gateway's limit for a request, 29 seconds.
/// Source: [API Gateway
/// quotas](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html).
pub const WAIT_OF_REGISTRY: Duration = Duration::from_secs(24);

/// Upper bounds of the first pauses between two lookups, in milliseconds; and of all later ones.
const FIRST_WAITS: [u64; 4] = [100, 150, 250, 500];
const LATER_WAITS: u64 = 1000;

/// Requests missing images and layers from the worker.
#[derive(Debug)]
pub struct PullThrough {
    worker: WorkerClient,
}

/// How a caller waits.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// Until when.
    pub until: Instant,
    /// Whether the caller can use a URL of the upstream. Upstreams sign theirs for GET.
    pub takes_redirect: bool,
}

/// The result of waiting.
#[derive(Debug)]
pub enum Waited<T> {
    /// It is stored.
    Here(T),
    /// The worker is still fetching it. Meanwhile, this URL of the upstream has it.
    AtUpstream(DownloadUrl),
    /// The worker is still fetching it.
    NotYet,
    /// The worker could not fetch it.
    Failed(FillFailure),
}

impl PullThrough {
    /// `None` if `config` names no worker.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Option<Self> {
        WorkerClient::new(sdk, config).map(|worker| Self { worker })
    }

    /// Waits until `lookup` finds the image or layer. Call it only for a layer that a stored
    /// manifest names, or for an image of a repository to which a rule applies. One request to
    /// DynamoDB for each look. The caller that invokes the worker also makes those of `lookup`, one
    /// to DynamoDB and one to Lambda.
    pub async fn wait_for<T, F: Future<Output = Result<Option<T>, Fault>>>(
        &self,
        catalog: &Catalog<Puller>,
        (repository, wanted): (&Repository, &Wanted),
        lookup: impl Fn() -> F,
        wait: Wait,
    ) -> Result<Waited<T>, Fault> {
        let mut first_waits = FIRST_WAITS.into_iter();
        // A call can wait for many images. Its time may be over before it reaches this one.
        if Instant::now() >= wait.until {
            return Ok(Waited::NotYet);
        }
        loop {
            match catalog.fill_state(repository, wanted).await? {
                Some(FillState::Failed(FillFailure::Fault)) => return Err(Fault::WorkerFailed),
                Some(FillState::Failed(failure)) => return Ok(Waited::Failed(failure)),
                Some(FillState::OnItsWay(Some(url))) if wait.takes_redirect => {
                    return Ok(Waited::AtUpstream(url));
                }
                Some(FillState::OnItsWay(_)) => {}
                // No worker is fetching it: it is stored, or was never requested, or the worker was
                // killed.
                None => {
                    if let Some(found) = lookup().await? {
                        return Ok(Waited::Here(found));
                    }
                    if let Some(lease_id) = catalog.lease(repository, wanted).await? {
                        self.invoke(catalog, repository, wanted, lease_id).await?;
                    }
                }
            }
            let left = wait.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::NotYet);
            }
            // Jitter, so that waiting callers do not all query at once.
            let longest_pause = Duration::from_millis(first_waits.next().unwrap_or(LATER_WAITS));
            let pause = longest_pause.mul_f64(0.75 + 0.25 * fastrand::f64()).min(left);
            tokio::time::sleep(pause).await;
        }
    }

    async fn invoke(
        &self,
        catalog: &Catalog<Puller>,
        repository: &Repository,
        wanted: &Wanted,
        lease_id: UniqueId,
    ) -> Result<(), Fault> {
        let invoked = self.worker.fill(repository, wanted, lease_id).await;
        if invoked.is_err() {
            // So the next caller need not wait until the lease expires. If this fails too, it must.
            let _ = catalog.give_back_lease(repository, wanted, lease_id).await;
        }
        invoked
    }
}
