//! The real binary on PostgreSQL, several times: no client can tell which of them it reached.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod cluster;
#[path = "../harness/mod.rs"]
mod harness;
mod keys;
mod moving;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/mod.rs"]
mod support;
mod together;
