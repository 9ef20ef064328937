//! The real binary on PostgreSQL, several times: no client can tell which of them it reached.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod active;
mod alarms;
mod clocks;
mod cluster;
mod damage;
mod database;
mod downgrade;
mod failover;
mod far;
mod first_start;
mod fleet;
mod flood;
#[path = "../harness/mod.rs"]
mod harness;
mod keys;
mod lookout;
mod lost_workers;
mod model;
mod moving;
mod orphans;
mod paused;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
mod pooled;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;
mod rolling;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod together;
mod tokens;
mod traces;
mod unchanged;
mod upgrade;
mod workers;
mod writers;
