//! Fills: images and layers that are on their way from an upstream registry into this one.
//!
//! 1. The API's function takes the lease of a fill ([`Catalog::lease`]) and invokes the worker. Of
//!    many that ask for the same thing, one gets the lease.
//! 2. The worker claims the fill ([`Catalog::claim_fill`]): an invocation that Lambda delivers
//!    twice does nothing the second time. It renews the lease while it works, and says there where
//!    a layer can be downloaded meanwhile.
//! 3. It ends the fill: the row goes, or says for a while why the upstream does not give the thing.
//!
//! A killed worker leaves a row whose time runs out. Then the next one that asks takes the lease.
//! DynamoDB deletes such rows at `expires_at`, some day.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::condition::Condition;
use super::id::UniqueId;
use super::intent::Intent;
use super::item::{Item, number, number_value, optional_number, string};
use super::table::{fault, garbled, key_attributes};
use super::transaction::Transaction;
use super::{Catalog, schema};
use crate::fault::Fault;
use crate::role::{Publisher, Puller};
use crate::types::{Digest, DownloadUrl, ObjectKey, Repository, Wanted, seconds_since_1970};

/// How long the worker has to claim a fill.
const TIME_TO_CLAIM: Duration = Duration::from_secs(30);

/// How long a claimed fill counts after its worker renewed it last.
const LEASE: Duration = Duration::from_secs(60);

/// How long a URL of the upstream is given to pullers. Upstreams sign theirs for at least five
/// minutes.
const REDIRECT_LIFE: Duration = Duration::from_secs(60);

/// When DynamoDB may delete a row whose time is over.
const KEPT: u64 = 24 * 60 * 60;

/// How a fill goes.
#[derive(Debug)]
pub enum FillState {
    /// A worker is at it, or was invoked. The layer can be downloaded from the upstream meanwhile,
    /// if there is a URL.
    OnItsWay(Option<DownloadUrl>),
    /// The upstream does not give it, and is not asked again for a while.
    Failed(FillFailure),
}

/// Why an upstream did not give what was asked for. `Display` is the reason as the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FillFailure {
    /// It refused access.
    #[error("the upstream registry refused access")]
    AccessDenied,
    /// The credentials are not to be had.
    #[error("the secret of the rule cannot be used")]
    SecretUnusable,
    /// The rule is gone, or what it says cannot be used.
    #[error("there is no usable rule for the repository any more")]
    NoRule,
    /// The upstream's name for the repository would not be valid.
    #[error("the upstream registry cannot have a repository of that name")]
    NameInvalid,
    /// It has no such image or layer.
    #[error("the upstream registry does not have it")]
    NotFound,
    /// It sent something else.
    #[error("the upstream registry sent something else than was asked for")]
    WrongContent,
    /// What it would send is too large.
    #[error("what the upstream registry has is too large")]
    TooLarge,
    /// It redirected too often.
    #[error("the upstream registry redirected too often")]
    RedirectLoop,
    /// It leads to where nothing is fetched from.
    #[error("the upstream registry leads to an address that is not allowed")]
    ForbiddenAddress,
    /// It got too many requests.
    #[error("the upstream registry got too many requests")]
    TooManyRequests,
    /// It cannot be reached, or failed.
    #[error("the upstream registry cannot be reached or failed")]
    Unavailable,
    /// What it sends takes longer than the worker has.
    #[error("the upstream registry is too slow for a layer of that size")]
    TooSlow,
    /// The image or its repository is being deleted here, or a cleaner is removing what it needs.
    #[error("it is being deleted here; try again")]
    BeingDeleted,
    /// This service failed.
    #[error("the service failed")]
    Fault,
}

impl FillFailure {
    const ALL: [Self; 14] = [
        Self::AccessDenied,
        Self::SecretUnusable,
        Self::NoRule,
        Self::NameInvalid,
        Self::NotFound,
        Self::WrongContent,
        Self::TooLarge,
        Self::RedirectLoop,
        Self::ForbiddenAddress,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::TooSlow,
        Self::BeingDeleted,
        Self::Fault,
    ];

    /// Its name in the table, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::SecretUnusable => "SecretUnusable",
            Self::NoRule => "NoRule",
            Self::NameInvalid => "NameInvalid",
            Self::NotFound => "NotFound",
            Self::WrongContent => "WrongContent",
            Self::TooLarge => "TooLarge",
            Self::RedirectLoop => "RedirectLoop",
            Self::ForbiddenAddress => "ForbiddenAddress",
            Self::TooManyRequests => "TooManyRequests",
            Self::Unavailable => "Unavailable",
            Self::TooSlow => "TooSlow",
            Self::BeingDeleted => "BeingDeleted",
            Self::Fault => "Fault",
        }
    }

    /// How long the upstream is not asked again. `retry_after` is what it has asked for itself.
    fn memory(self, retry_after: Option<Duration>) -> Duration {
        let seconds = match self {
            Self::AccessDenied | Self::SecretUnusable | Self::NoRule => 60,
            Self::NameInvalid
            | Self::NotFound
            | Self::WrongContent
            | Self::TooLarge
            | Self::RedirectLoop
            | Self::ForbiddenAddress => 300,
            Self::TooManyRequests => retry_after.map_or(60, |time| time.as_secs().clamp(60, 3600)),
            Self::Unavailable => 15,
            // It would take as long again.
            Self::TooSlow => 3600,
            // Only so long that those who wait for it see it.
            Self::BeingDeleted | Self::Fault => 3,
        };
        Duration::from_secs(seconds)
    }
}

impl FillState {
    /// Reads a row; `None` if its time is over.
    fn read(item: &Item) -> Result<Option<Self>, Fault> {
        let now = seconds_since_1970(SystemTime::now());
        if number::<u64>(item, "ends_at")? <= now {
            return Ok(None);
        }
        if item.contains_key("failure") {
            let name = string(item, "failure")?;
            let failure = FillFailure::ALL.into_iter().find(|failure| failure.name() == name);
            return Ok(Some(Self::Failed(failure.ok_or(Fault::BrokenRecord("failure"))?)));
        }
        let url = match optional_number(item, "redirect_ends")? {
            Some(ends) if now < ends => {
                Some(DownloadUrl::new(string(item, "redirect_url")?.to_owned()))
            }
            _ => None,
        };
        Ok(Some(Self::OnItsWay(url)))
    }
}

/// A fill that a worker has claimed.
#[derive(Debug)]
pub struct Fill {
    repository: Repository,
    wanted: Wanted,
    lease_id: UniqueId,
}

impl Catalog<Puller> {
    /// How a fill goes, read with strong consistency; `None` if there is none, or it was given up.
    /// One request.
    pub async fn fill_state(
        &self,
        repository: &Repository,
        wanted: &Wanted,
    ) -> Result<Option<FillState>, Fault> {
        let record = self.table.record(schema::fill(repository, wanted)).await?;
        record.as_ref().map_or(Ok(None), FillState::read)
    }

    /// Takes the lease of a fill, if there is no fill under way and no failure is remembered.
    /// Returns the lease's id. One request: a write of its own, because transactions of many that
    /// ask for the same thing would be in each other's way.
    pub async fn lease(
        &self,
        repository: &Repository,
        wanted: &Wanted,
    ) -> Result<Option<UniqueId>, Fault> {
        let now = SystemTime::now();
        let lease_id = UniqueId::draw();
        let key = schema::fill(repository, wanted);
        self.table.permit("PutItem", &key);
        let mut item = key_attributes(key);
        item.extend(
            until(lease_id, now + TIME_TO_CLAIM).map(|(name, value)| (name.to_owned(), value)),
        );
        let (condition, values) = Condition::is_free(lease_id, seconds_since_1970(now)).split();
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        let put = put.condition_expression(condition).set_expression_attribute_values(values);
        match put.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(done) => done.consumed_capacity.map(|_| Some(lease_id)).ok_or_else(garbled),
            Err(error) => match error.code() {
                // The second is a worker's transaction at the same moment: somebody has the lease.
                Some("ConditionalCheckFailedException" | "TransactionConflictException") => {
                    Ok(None)
                }
                _ => Err(fault(error)),
            },
        }
    }

    /// Gives back a lease for which no worker could be invoked. One request.
    pub async fn give_back_lease(
        &self,
        repository: &Repository,
        wanted: &Wanted,
        lease_id: UniqueId,
    ) -> Result<(), Fault> {
        let key = schema::fill(repository, wanted);
        self.table.permit("DeleteItem", &key);
        let (condition, values) = Condition::is_unclaimed(lease_id).split();
        let delete = self
            .table
            .client
            .delete_item()
            .table_name(&self.table.name)
            .set_key(Some(key_attributes(key)))
            .condition_expression(condition)
            .set_expression_attribute_values(values);
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(fault(error)),
        }
    }
}

impl Catalog<Publisher> {
    /// Begins a fill whose lease was taken; `None` if another worker has begun it, or somebody else
    /// has taken the lease since.
    pub async fn claim_fill(
        &self,
        repository: Repository,
        wanted: Wanted,
        lease_id: UniqueId,
    ) -> Result<Option<Fill>, Fault> {
        let is_free = Condition::is_unclaimed(lease_id);
        let fill = Fill { repository, wanted, lease_id };
        Ok(self.write_fill(&fill, None, is_free).await?.then_some(fill))
    }

    /// Renews the lease of a fill. `redirect` is where its layer can be downloaded meanwhile.
    /// `false` if somebody else has taken the lease: then nothing more may be written.
    pub async fn renew_fill(
        &self,
        fill: &Fill,
        redirect: Option<&DownloadUrl>,
    ) -> Result<bool, Fault> {
        self.write_fill(fill, redirect, Condition::is_at_work(fill.lease_id)).await
    }

    async fn write_fill(
        &self,
        fill: &Fill,
        redirect: Option<&DownloadUrl>,
        condition: Condition,
    ) -> Result<bool, Fault> {
        let now = SystemTime::now();
        let mut attributes = Vec::from(until(fill.lease_id, now + LEASE));
        attributes.push(("claimed_at", number_value(seconds_since_1970(now))));
        if let Some(url) = redirect {
            attributes.push(("redirect_url", AttributeValue::S(url.reveal().to_owned())));
            attributes
                .push(("redirect_ends", number_value(seconds_since_1970(now + REDIRECT_LIFE))));
        }
        let mut write = self.table.transaction();
        write.put_if((), condition, fill.key(), attributes);
        Ok(write.commit().await?.is_written())
    }

    /// Ends the fill of a layer whose bytes are in the store: its record gets the object's key.
    /// `false` if there is no such record any more, the lease is another's, or the intent was given
    /// up; the layer then does not come back. One request.
    pub async fn finish_layer(
        &self,
        fill: &Fill,
        layer: &Digest,
        intent: &Intent,
    ) -> Result<bool, Fault> {
        let object_key = ObjectKey::of_layer(&fill.repository.registry, layer);
        let object_key = [(":object_key", AttributeValue::S(object_key.to_string()))];
        let record = schema::layer(&fill.repository, layer);
        let mut write = self.table.transaction();
        fill.end(&mut write, ());
        write.update_if(
            (),
            Condition::exists(),
            record,
            "SET object_key = :object_key",
            object_key,
        );
        intent.guard(&mut write, ());
        Ok(write.commit().await?.is_written())
    }

    /// Ends a fill that needs nothing more to be written. One request.
    pub async fn end_fill(&self, fill: &Fill) -> Result<(), Fault> {
        let mut write = self.table.transaction();
        fill.end(&mut write, ());
        write.commit().await.map(|_| ()) // refused if another worker has the lease
    }

    /// Ends a fill that has failed. The reason is remembered for as long as it says, or as the
    /// upstream asked for with `retry_after`. One request.
    pub async fn fail_fill(
        &self,
        fill: &Fill,
        failure: FillFailure,
        retry_after: Option<Duration>,
    ) -> Result<(), Fault> {
        let ends = SystemTime::now() + failure.memory(retry_after);
        let mut attributes = Vec::from(until(fill.lease_id, ends));
        attributes.push(("failure", AttributeValue::S(failure.name().to_owned())));
        let mut write = self.table.transaction();
        write.put_if((), Condition::has_lease_id(fill.lease_id), fill.key(), attributes);
        write.commit().await.map(|_| ())
    }
}

impl Fill {
    /// Ends the fill. The transaction is refused if the lease is another worker's.
    pub(super) fn end<G>(&self, write: &mut Transaction<'_, G>, guard: G) {
        write.delete_if(guard, Condition::has_lease_id(self.lease_id), self.key());
    }

    fn key(&self) -> schema::Key {
        schema::fill(&self.repository, &self.wanted)
    }
}

/// The attributes of a row that counts until `ends`.
fn until(lease_id: UniqueId, ends: SystemTime) -> [(&'static str, AttributeValue); 3] {
    let ends = seconds_since_1970(ends);
    [
        ("lease_id", lease_id.value()),
        ("ends_at", number_value(ends)),
        ("expires_at", number_value(ends + KEPT)),
    ]
}
