//! What the service says of itself: logs, and metrics that are counted as things happen.
//!
//! Logs go to standard error, so that standard output stays for what was asked for. It must not know what is logged;
//! secrets have types that can't be.

mod metrics;
mod outbound_calls;
mod process;
mod rpc;
mod store_calls;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub use metrics::Metrics;
pub use outbound_calls::OutboundCalls;
pub use store_calls::StoreCalls;

use crate::settings::{Log, LogFormat};

/// Begins to log as the settings say. A second call changes nothing.
pub fn init(settings: &Log) {
    // The settings have been checked: an unusable filter does not come so far.
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let begun = match settings.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    if begun.is_err() {
        tracing::debug!("logging had begun already");
    }
}
