//! Signalbox: LLM configuration, pushed to every worker the moment it changes.

#[cfg(feature = "client")]
pub mod client;
pub mod digest;
#[cfg(feature = "client")]
pub mod proto;
