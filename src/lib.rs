//! ECR's layer download API on your own AWS account.
//!
//! An event of API Gateway comes in and is parsed into a typed request. One DynamoDB query decides whether an image
//! in that repository references that layer, the object key is presigned without a request, and a JSON body goes
//! out. Layer bytes never pass through the function.
//!
//! ```text
//! API Gateway event -> lambda -> ecr -> service, access -> catalog (DynamoDB)
//!                                                     \-> store (S3: presigned, no request)
//!                      lambda <- ecr (output or error)
//! ```
//!
//! Data flows one way. [`types`] and [`fault`] know none of the other modules. [`catalog`] and [`store`] know neither
//! each other nor HTTP nor what a client is told: they fail with a [`fault::Fault`]. [`ecr`] knows no AWS SDK. Only
//! [`lambda`] knows the shapes of events.
//!
//! [`publish`] brings verified bytes into the store and images into the catalog. Only the tool uses it, the package
//! `layergate-tool`; the function does not. So it is with `upstream`, the client of other registries, which is there
//! with the feature of that name. [`clean`] removes what no image needs any more.

pub mod access;
pub mod aws;
pub mod catalog;
pub mod clean;
pub mod config;
pub mod ecr;
pub mod fault;
pub mod lambda;
pub mod logging;
pub mod oci;
pub mod publish;
pub mod service;
pub mod store;
pub mod types;
#[cfg(feature = "upstream")]
pub mod upstream;
