//! Signalbox: LLM configuration, pushed to every worker the moment it changes.
//!
//! One crate, two features. `server` (the default) is the service and its command line; `client` is what a worker
//! depends on, and compiles nothing of the server. ARCHITECTURE.md is the map of the rooms.

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "client")]
pub mod choice;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod crypto;
pub mod digest;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "client")]
pub mod duration;
#[cfg(feature = "executor")]
pub mod executor;
#[cfg(feature = "server")]
pub mod fleet;
#[cfg(feature = "server")]
mod grpc;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
pub mod import;
#[cfg(feature = "server")]
pub mod kinds;
#[cfg(feature = "server")]
mod lifecycle;
#[cfg(feature = "client")]
pub mod model_id;
#[cfg(feature = "server")]
pub mod outbound;
#[cfg(feature = "client")]
pub mod proto;
#[cfg(feature = "client")]
pub mod provider_types;
#[cfg(feature = "server")]
pub mod replica;
#[cfg(feature = "server")]
pub mod service;
pub mod setting_key;
pub mod setting_text;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
mod telemetry;
#[cfg(feature = "client")]
pub mod trace_context;
#[cfg(feature = "server")]
pub mod view;
#[cfg(feature = "server")]
pub mod watch;
#[cfg(feature = "client")]
pub mod wire;
