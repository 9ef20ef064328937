//! The store's rules, held against SQLite.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod conformance;
mod fixture;
mod groups;
mod measure;
mod model;
mod postgres;
mod restored;
mod schema;
mod sqlite;
mod tampering;
