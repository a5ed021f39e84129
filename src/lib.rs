//! ECR's layer download API on your own AWS account.
//!
//! An API Gateway event comes in, is parsed into a typed request, one DynamoDB query decides whether an image
//! in that repository references that layer, the object key is presigned without a request, and a JSON body
//! goes out. Layer bytes never pass through here.
//!
//! ```text
//! API Gateway event -> handler -> protocol -> operation -> index (DynamoDB)
//!                                                      \-> store (S3: presigned, no request)
//!                      handler <- protocol <- output or Error
//! ```
//!
//! Data flows that one way. [`types`] and [`error`] are leaves; [`index`] and [`store`] know neither each
//! other nor HTTP; [`protocol`] knows no AWS SDK; only [`handler`] knows the shapes of events.
//!
//! The feature `cli` adds what only the tool `layergate` needs: writing to the index and the store, and
//! `local`, the whole stack in one process.

pub mod aws;
pub mod config;
pub mod error;
pub mod handler;
pub mod index;
#[cfg(feature = "cli")]
pub mod local;
pub mod logging;
pub mod operation;
pub mod protocol;
pub mod store;
pub mod types;
