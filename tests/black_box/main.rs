//! Black-box tests against the embedded engines: the handler and the HTTP front as clients meet them, the tool
//! and the function as the processes that they are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod batches;
mod bootstrap;
mod cache;
mod catalog;
mod clean;
mod clean_pairs;
mod client;
mod concurrency;
mod contract;
mod events;
mod faults;
mod hostile;
mod lists;
mod local;
mod pairs;
mod parameters;
mod parts;
mod pipe;
mod properties;
mod protocol;
mod publish;
mod pull_through;
mod pull_through_access;
mod pull_through_failures;
mod pull_through_healing;
mod pull_through_logs;
mod pull_through_rules;
mod pull_through_tags;
mod registry;
mod registry_faults;
mod secrets;
mod settings;
mod sources;
mod support;
mod tokens;
mod upstream;
mod upstream_authorization;
mod upstream_check;
mod upstream_publish;
mod url;
mod worker;
