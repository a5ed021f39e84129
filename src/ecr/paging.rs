//! Lists in pages: `maxResults`, and the `nextToken` for the next call.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{Error, Members};
use layergate_core::types::Constraint;

/// The most results of a page, if the request has no `maxResults`.
const USUAL: usize = 100;

/// The largest `maxResults`.
const MOST: usize = 1000;

/// The longest token that this code decodes. No token of ours is longer.
const LONGEST_TOKEN: usize = 1000;

/// The members of a request that are about pages, not yet parsed.
pub(super) struct Paging {
    max_results: Option<i64>,
    next_token: Option<String>,
}

/// The page that the request wants.
#[derive(Debug)]
pub(super) struct PageRequest<P> {
    /// The most results of the page.
    pub(super) most: usize,
    /// Where the previous page ended; `None` for the first page.
    pub(super) after: Option<P>,
}

impl Paging {
    /// Takes the members out.
    pub(super) fn read(members: &mut Members) -> Result<Self, Error> {
        Ok(Self {
            max_results: members.take("maxResults")?,
            next_token: members.take("nextToken")?,
        })
    }

    /// The page that the request wants. `parse` parses a position, which the caller may have made
    /// up.
    pub(super) fn parse<P>(
        self,
        parse: impl Fn(&str) -> Option<P>,
    ) -> Result<PageRequest<P>, Error> {
        let after = match self.next_token {
            None => None,
            Some(token) => {
                let position = decode(&token).and_then(|text| parse(&text));
                Some(position.ok_or_else(|| invalid("nextToken", Constraint::Token))?)
            }
        };
        let most = match self.max_results.map(usize::try_from) {
            None => USUAL,
            Some(Err(_) | Ok(0)) => return Err(invalid("maxResults", Constraint::MinValue(1))),
            Some(Ok(count)) if count > MOST => {
                return Err(invalid("maxResults", Constraint::MaxValue(MOST)));
            }
            Some(Ok(count)) => count,
        };
        Ok(PageRequest { most, after })
    }

    /// Refuses these members in a request that has the member `other`.
    pub(super) fn refuse_with(self, other: &'static str) -> Result<(), Error> {
        match (self.max_results, self.next_token) {
            (None, None) => Ok(()),
            (_, Some(_)) => Err(invalid("nextToken", Constraint::NotWith(other))),
            (Some(_), None) => Err(invalid("maxResults", Constraint::NotWith(other))),
        }
    }
}

/// The token for the page after this position.
pub(super) fn token(position: impl ToString) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(position.to_string())
}

fn decode(token: &str) -> Option<String> {
    let token = (token.len() <= LONGEST_TOKEN).then_some(token)?;
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

fn invalid(member: &'static str, constraint: Constraint) -> Error {
    Error::InvalidParameter { member, constraint }
}
