//! Holds `deploy/` against the binary: every flag, variable, port, path and health service that a file there names exists,
//! the settings start a server, and what is mounted is what the settings name.
//!
//! No engine runs containers here, and none is needed: the files are read, and the real binary runs with what they say.
//! Nothing heavy is linked, so that this builds within seconds.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod binary;
mod compose;
mod container;
mod helm;
mod kubernetes;
mod kustomize;
mod manifests;
mod mounts;
mod network;
mod replicas;
mod samples;
mod systemd;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A file or folder of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|each| each.as_str().expect("a text")).collect()
}

/// Seconds of a length of time as `5s`.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text} is not 5s"))
}

/// `NAME=value` lines, without comments.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line} is not NAME=value")));
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
