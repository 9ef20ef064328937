//! The process as operators and attackers meet it: how it starts, what it lets in, how much it gives, how it stops.
//!
//! Everything runs against the real binary, over real sockets.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod browser;
mod collectors;
mod command_line;
mod first_start;
mod grpc_web;
mod health;
mod http;
mod limits;
mod logs;
mod metrics;
mod rest;
mod sent_events;
mod settings;
mod shutdown;
mod stalled;
mod startup;
mod thirteenth_kind;
mod tls;
mod traces;

use harness::calls;
