//! Signalbox: LLM configuration, pushed to every worker the moment it changes.

#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod crypto;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "client")]
pub mod proto;
#[cfg(feature = "server")]
pub mod store;
