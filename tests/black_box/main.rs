//! Black-box tests against the embedded engines: the handler and the HTTP front as clients meet
//! them, the tool and the function as the processes that they are.
//!
//! The folders are those of the source. What the tests share is in `tests/support`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access {
    mod grants;
    mod tokens;
}
mod catalog {
    mod cache;
    mod images;
    mod interleavings;
    mod publish_and_delete;
}
mod clean {
    mod command;
    mod interleavings;
    mod schedule;
}
mod config {
    mod settings;
}
mod ecr {
    mod batch_operations;
    mod contract;
    mod lists;
    mod parameters;
    mod properties;
    mod protocol;
    mod sdk;
}
mod lambda {
    mod events;
    mod faults;
    mod runtime;
}
mod local {
    mod command;
    mod data;
}
mod oci {
    mod faults;
    mod registry;
}
mod publish {
    mod archives;
    mod choice;
    mod command;
    mod docker_archives;
    mod faults;
    mod other_registries;
    mod proxies;
    mod registry_credentials;
    mod sources;
    mod standard_input;
    mod untrusted_sources;
}
mod pull_through {
    mod access;
    mod failures;
    mod interruptions;
    mod logs;
    mod pulls;
    mod registries;
    mod rules;
    mod secrets;
    mod tags;
}
mod push {
    mod access;
    mod blobs;
    mod manifests;
    mod proxy;
}
mod store {
    mod download_url;
    mod multipart_upload;
}
mod tool {
    mod names;
    mod output;
    mod settings;
    mod tls;
}
mod upstream {
    mod authorization;
    mod check;
    mod client;
    mod encodings;
    mod registries;
}
