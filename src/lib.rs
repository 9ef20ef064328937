//! Signalbox: LLM configuration, pushed to every worker the moment it changes.

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "client")]
pub mod proto;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod store;
