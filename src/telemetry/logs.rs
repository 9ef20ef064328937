//! How the log is written: as text or JSON, each line of a request with the request's ids, and none over and over.

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt,
    registry::LookupSpan,
};

use super::{repeats::Repeats, requests};
use crate::settings::{Log, LogFormat};

/// What the library of the traces says of itself would come with every batch that is not sent. What of it an operator has
/// to know says [`super::exporter`] once; a filter of his own can ask for the rest.
const QUIET: &str = "opentelemetry=off";

/// The layer that writes the log to standard error.
pub(super) fn layer<S>(settings: &Log, repeats: Repeats) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // The settings have been checked: an unusable filter does not come so far.
    let wanted = EnvFilter::try_new(format!("{QUIET},{}", settings.filter));
    let wanted = wanted.unwrap_or_else(|_| EnvFilter::new("info"));
    // Spans are for traces. Only that of a request is the log's, whatever the filter says of its place.
    let of_request = filter_fn(requests::is_of_log).with_max_level_hint(LevelFilter::ERROR);
    // A filter that names no level costs every other one its short way out.
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let filter = wanted.and(events).or(of_request).and(repeats);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_span_list(false).with_filter(filter).boxed(),
    }
}
