//! The canary test: unique secrets go through every way in, valid, malformed and failing, while the server says all that
//! it can say. Then everything is searched that was written, printed or answered, in every form that a secret may have
//! there. Only what answers a worker with `secrets:read` may hold any.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod calls;
mod cases;
mod command_line;
mod fleet;
mod in_use;
mod kinds;
mod made;
mod rest;
mod rpcs;
mod search;
mod trail;
mod ways;

use harness::{api, forms};
