//! Signalbox: LLM configuration, pushed to every worker the moment it changes.

#[cfg(feature = "server")]
pub mod crypto;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "server")]
pub mod kinds;
#[cfg(feature = "client")]
pub mod client;
pub mod digest;
#[cfg(feature = "client")]
pub mod proto;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod view;
#[cfg(feature = "server")]
pub mod watch;
