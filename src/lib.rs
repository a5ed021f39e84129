//! The API's function: an event of API Gateway in, a URL of S3 out.
//!
//! An event is parsed into a typed request, of ECR's API or of the registry protocol. One DynamoDB
//! query decides whether an image in that repository references that layer, the object key is
//! presigned without a request, and a JSON body or a redirect goes out. Layer bytes never pass
//! through the function.
//!
//! ```text
//! API Gateway event -> lambda -> ecr (awsJson1_1)  \                     / catalog (DynamoDB)
//!                                oci (/v2/, OCI)   -> service, access  ->
//!                                                                        \ store (S3: presigned, no request)
//! ```
//!
//! Data flows one way. [`ecr`] and [`oci`] know no AWS SDK and nothing of each other. Only
//! [`lambda`] knows the shapes of events. The catalog and the store are in the package
//! `layergate-core`.

pub mod access;
pub mod ecr;
pub mod lambda;
pub mod oci;
pub mod pull_through;
pub mod request;
pub mod service;
pub mod subject;
