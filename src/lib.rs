//! The API's function: an event of API Gateway in, a URL of S3 out.
//!
//! The function parses an event into a typed request, of ECR's API or of the registry protocol. One
//! DynamoDB query decides whether an image in the repository references the layer. Then the
//! function signs the URL itself, without a request, and answers with JSON or with a redirect.
//! Layers never pass through the function.
//!
//! ```text
//! API Gateway event -> lambda -> ecr (awsJson1_1)  \                     / catalog (DynamoDB)
//!                                oci (/v2/, OCI)   -> service, access  ->
//!                                                                        \ store (S3: presigned, no request)
//! ```
//!
//! No module uses one to its left. [`ecr`] and [`oci`] know no AWS SDK and nothing of each other.
//! Only [`lambda`] knows the shapes of events. The catalog and the store are in the package
//! `layergate-core`.

pub mod access;
pub mod ecr;
pub mod lambda;
pub mod oci;
pub mod pull_through;
pub mod request;
pub mod service;
pub mod subject;
