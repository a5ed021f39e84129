//! Ids that are drawn once.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;

/// How many random numbers there are for one moment. With the 19 digits of the moment, an id has 37
/// digits; DynamoDB keeps 38 of a number.
/// Source:
/// [Numbers](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html#HowItWorks.DataTypes.Number).
const RANDOM_NUMBERS: u64 = 1_000_000_000_000_000_000;

/// An id: the moment at which it was drawn, in nanoseconds since 1970, and 18 random digits.
///
/// The moment alone would not do. Clocks differ, some count microseconds, and machines draw in the
/// same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniqueId(u128);

impl UniqueId {
    /// Draws an id.
    pub(super) fn draw() -> Self {
        Self::drawn_at(SystemTime::now())
    }

    fn drawn_at(time: SystemTime) -> Self {
        Self(
            u128::from(nanoseconds_since_1970(time)) * u128::from(RANDOM_NUMBERS)
                + u128::from(random_number()),
        )
    }

    /// Whether the id was drawn before this time.
    pub(super) fn is_older_than(self, time: SystemTime) -> bool {
        self.0 / u128::from(RANDOM_NUMBERS) < u128::from(nanoseconds_since_1970(time))
    }

    /// The number after this one, for what counts on from an id.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The id as records have it.
    pub(super) fn value(self) -> AttributeValue {
        AttributeValue::N(self.to_string())
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UniqueId {
    type Err = ParseIntError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        digits.parse().map(Self)
    }
}

/// The token by which DynamoDB knows a transaction that the SDK sends again: 32 random hexadecimal
/// digits.
///
/// The SDK's own tokens come from a generator that is seeded by the clock and the thread. Two
/// programs that start in the same moment draw the same ones, and DynamoDB refuses the second
/// transaction with `IdempotentParameterMismatchException`.
pub(super) fn transaction_token() -> String {
    format!("{:016x}{:016x}", random(), random())
}

/// A random number below [`RANDOM_NUMBERS`].
fn random_number() -> u64 {
    random() % RANDOM_NUMBERS
}

fn random() -> u64 {
    getrandom::u64().expect("the system gives random numbers")
}

/// A time, in nanoseconds since 1970.
pub(super) fn nanoseconds_since_1970(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_that_are_drawn_in_the_same_moment_differ() {
        let moment = SystemTime::now();
        let ids: HashSet<_> = (0..1000).map(|_| UniqueId::drawn_at(moment).to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 37), "DynamoDB keeps 38 digits");
    }

    #[test]
    fn an_id_knows_its_moment() {
        let moment = SystemTime::now();
        let id = UniqueId::drawn_at(moment);
        assert!(!id.is_older_than(moment));
        assert!(id.is_older_than(moment + Duration::from_micros(1)));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
