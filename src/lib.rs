//! A container registry to pull from, with ECR's API, on your own AWS account.
//!
//! An event of API Gateway comes in and is parsed into a typed request, of ECR's API or of the registry protocol. One
//! DynamoDB query decides whether an image in that repository references that layer, the object key is presigned without a
//! request, and a JSON body or a redirect goes out. Layer bytes never pass through the function.
//!
//! ```text
//! API Gateway event -> lambda -> ecr (awsJson1_1)  \                     / catalog (DynamoDB)
//!                                oci (/v2/, OCI)   -> service, access  ->
//!                                                                        \ store (S3: presigned, no request)
//! ```
//!
//! Data flows one way. [`types`] and [`fault`] know none of the other modules. [`catalog`] and [`store`] know neither
//! each other nor HTTP nor what a client is told: they fail with a [`fault::Fault`]. [`ecr`] and [`oci`] know no AWS SDK
//! and nothing of each other. Only [`lambda`] knows the shapes of events.
//!
//! The rest is not in the API's function. [`publish`] brings verified bytes into the store and images into the catalog;
//! `upstream`, behind the feature of that name, fetches them from other registries, and `manifest`, behind the same
//! feature, says what an image consists of. [`clean`] removes what no image needs any more. All of them are for the tool, the
//! package `layergate-tool`, and for the worker, the package `layergate-worker`. [`pull_through`] has the worker fetch what
//! is not here yet; [`worker`] is how it is asked.

pub mod access;
pub mod aws;
pub mod catalog;
pub mod clean;
pub mod config;
pub mod ecr;
pub mod fault;
pub mod lambda;
pub mod logging;
#[cfg(feature = "upstream")]
pub mod manifest;
pub mod oci;
pub mod publish;
pub mod pull_through;
pub mod service;
pub mod store;
pub mod types;
#[cfg(feature = "upstream")]
pub mod upstream;
pub mod worker;
