//! What lies on the disk, held against the real binary: what a reader of the files finds there, and what becomes of a
//! store whose files somebody changed, or whose keys are gone.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod audit;
mod files;
mod keys;
mod log;
mod past;
mod sealed;
mod sqlite;

use harness::{api, forms};
