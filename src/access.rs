//! The caller of a request, and what it may read.

pub mod token;

use layergate_core::types::{AccountId, RegistryId, Repository};

/// The caller of a request.
#[derive(Debug, Clone)]
pub enum Caller {
    /// With `AUTHORIZATION=gateway`, every caller that the gateway admits: may read everything.
    Trusted,
    /// The IAM identity that the gateway verified.
    Identified {
        /// The account it belongs to.
        account: AccountId,
        /// Its ARN.
        arn: String,
    },
    /// A caller without a verified identity: may read nothing.
    Anonymous,
}

/// Whether a caller may read a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Yes.
    Allowed,
    /// Only if the repository's record lists this account.
    IfGrantedTo(&'a AccountId),
    /// No.
    Denied,
}

impl Caller {
    /// Its ARN, if it is known.
    pub fn arn(&self) -> Option<&str> {
        match self {
            Self::Identified { arn, .. } => Some(arn),
            Self::Trusted | Self::Anonymous => None,
        }
    }

    /// Whether this caller may read `repository`.
    pub fn access(&self, repository: &Repository) -> Access<'_> {
        match self {
            _ if self.reads_all_of(&repository.registry) => Access::Allowed,
            Self::Identified { account, .. } => Access::IfGrantedTo(account),
            Self::Trusted | Self::Anonymous => Access::Denied,
        }
    }

    /// Whether this caller may read every repository of a registry.
    pub fn reads_all_of(&self, registry: &RegistryId) -> bool {
        match self {
            Self::Trusted => true,
            Self::Identified { account, .. } => account == registry,
            Self::Anonymous => false,
        }
    }
}
