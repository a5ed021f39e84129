//! What is not here yet: it is fetched from another registry, if a pull through cache rule says
//! from which.
//!
//! The API's function fetches nothing itself. It asks the worker to, and looks in the catalog until
//! the thing is there, the worker says why it is not to be had, or the caller has waited for long
//! enough. Of many callers that ask for the same thing, in whatever function instance, one asks the
//! worker: the one that gets the lease.

use std::time::{Duration, Instant};

use aws_config::SdkConfig;

use layergate_core::catalog::{Catalog, FillFailure, FillState, UniqueId};
use layergate_core::config::Config;
use layergate_core::fault::Fault;
use layergate_core::role::Puller;
use layergate_core::types::{DownloadUrl, Repository, Wanted};
use layergate_core::worker::WorkerClient;

/// How long a call of ECR's API waits in all. SDKs repeat a call that is throttled, so what takes
/// longer is asked for again.
pub const WAIT_OF_ECR: Duration = Duration::from_secs(4);

/// How long a request to the registry waits in all. Most clients give up a pull at the first error,
/// so it is as long as API Gateway lets a request take, which is 29 seconds, less the time to begin
/// and to end in.
/// Source: [API Gateway
/// quotas](https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html).
pub const WAIT_OF_REGISTRY: Duration = Duration::from_secs(24);

/// How long it is waited before each of the first looks, at most, in milliseconds; and before all
/// further ones.
const FIRST_WAITS: [u64; 4] = [100, 150, 250, 500];
const LATER_WAITS: u64 = 1000;

/// Asks for what is not here yet.
#[derive(Debug)]
pub struct PullThrough {
    worker: WorkerClient,
}

/// How a caller waits.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// Until when.
    pub until: Instant,
    /// Whether it can use a URL of the upstream's. Upstreams sign theirs for GET.
    pub takes_redirect: bool,
}

/// What came of waiting for something.
#[derive(Debug)]
pub enum Waited<T> {
    /// It is here.
    Here(T),
    /// It is on its way, and can be downloaded from the upstream meanwhile.
    AtUpstream(DownloadUrl),
    /// It is on its way.
    NotYet,
    /// It is not to be had.
    Failed(FillFailure),
}

impl PullThrough {
    /// `None` if `config` names no worker.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Option<Self> {
        WorkerClient::new(sdk, config).map(|worker| Self { worker })
    }

    /// Waits until `lookup` finds the thing. To be called only for what a stored manifest names, or
    /// for an image in a repository that a rule is for. One request to DynamoDB for each look; and
    /// besides, for who asks the worker, those of `lookup`, one to DynamoDB and one to Lambda.
    pub async fn wait_for<T, F: Future<Output = Result<Option<T>, Fault>>>(
        &self,
        catalog: &Catalog<Puller>,
        (repository, wanted): (&Repository, &Wanted),
        lookup: impl Fn() -> F,
        wait: Wait,
    ) -> Result<Waited<T>, Fault> {
        let mut first_waits = FIRST_WAITS.into_iter();
        // One of many that are asked for in one call, whose time is over before its turn came.
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
                // Nobody is at it: it is here, or was never asked for, or its worker was killed.
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
            // Not all at the same moments who wait for the same thing.
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
            // The next one that asks need not wait until the lease runs out. If this fails too, it
            // has to.
            let _ = catalog.give_back_lease(repository, wanted, lease_id).await;
        }
        invoked
    }
}
