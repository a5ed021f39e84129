//! What the function, the worker and the tool of layergate share.
//!
//! [`types`] and [`fault`] know none of the other modules. [`catalog`] and [`store`] know neither
//! each other nor HTTP nor what a client is told: they fail with a [`fault::Fault`]. [`publish`]
//! brings verified bytes into the store, and images into the catalog. [`clean`] removes what no
//! image needs any more. [`worker`] is how others ask the worker.

pub mod aws;
pub mod catalog;
pub mod clean;
pub mod config;
pub mod fault;
pub mod logging;
pub mod proxy;
pub mod publish;
pub mod role;
pub mod store;
pub mod types;
pub mod worker;
