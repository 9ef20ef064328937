//! The worker's side of Signalbox: a hot cache that a watch stream keeps up to date, and typed connections.
//!
//! Owns everything a worker needs: [`Client`] watches and serves reads from memory, [`Connection`] makes unary calls.
//! Must not know the server; it compiles without a line of it.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use signalbox::client::{Client, ClientOptions};
//! use std::time::Duration;
//!
//! let client = Client::connect(ClientOptions::from_env().include_secrets(true))?;
//! client.wait_ready(Duration::from_secs(10)).await?;
//! let retries = client.setting_int("max_retries")?.unwrap_or(3);
//! let keys = client.active_api_keys("groq");
//! # Ok(()) }
//! ```
//!
//! Inside, events go from the transport through the watcher into the replica (a state machine without I/O), and what
//! becomes visible goes through the publisher to getters, subscriptions and waiters.

mod backoff;
mod bounds;
mod cache;
mod chosen;
mod clock;
mod connection;
mod entry;
mod environment;
mod error;
mod events;
mod file;
mod flags;
mod getters;
mod handle;
mod health;
mod lookout;
mod metrics;
mod options;
mod publisher;
mod reads;
mod replica;
mod reporter;
mod secret;
mod secret_fields;
mod selector;
mod settings;
mod snapshot;
mod staleness;
mod subscription;
pub mod testing;
mod tls;
mod token;
mod trace;
mod transport;
mod validation;
mod variables;
mod views;
mod virtual_keys;
mod watcher;

pub use crate::trace_context::{TraceContext, TraceParent, TraceState};
pub use cache::{CacheError, CacheOptions};
pub use connection::{Authorized, Bearer, Connection};
pub use entry::SecretError;
pub use environment::Environment;
pub use error::{BoxError, Error, FieldViolation, PreconditionViolation, RpcError};
pub use events::{ChangeEvent, ChangeSet, EventKind, difference};
pub use flags::FlagContext;
pub use getters::{ApiKey, Provider};
pub use handle::Client;
pub use health::{Filled, Status};
pub use metrics::Metric;
pub use options::ClientOptions;
pub use secret::SecretText;
pub use selector::{Kind, Selector};
pub use settings::{Setting, SettingError, Source};
pub use snapshot::Snapshot;
pub use staleness::Staleness;
pub use subscription::{Callback, Subscription, Update};
pub use token::TokenSource;
pub use validation::Rejection;
pub use views::{
    CachePolicy, Database, FeatureFlag, Model, NotificationChannel, PromptTemplate, Router, Tool, VirtualKey,
};
