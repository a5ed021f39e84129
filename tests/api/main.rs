//! Black-box tests against the embedded engines: the handler and the HTTP front as clients meet them, the tool
//! and the function as the processes that they are.

#![allow(missing_docs, reason = "these are tests")]

mod access;
mod bootstrap;
mod client;
mod contract;
mod events;
mod index;
mod local;
mod properties;
mod publish;
mod settings;
mod sources;
mod support;
mod url;
