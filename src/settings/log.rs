//! What is logged, and how it is written.

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

const FILTER: Opt = Opt::new(
    "log-filter",
    "RUST_LOG",
    "log.filter",
    "FILTER",
    "What is logged: a level, or levels by module, for example info,signalbox::watch=debug",
)
.or("info");
const FORMAT: Opt =
    Opt::new("log-format", "SIGNALBOX_LOG_FORMAT", "log.format", "FORMAT", "How it is written: text or json")
        .or("text");

/// The options of this section.
pub static OPTIONS: [&Opt; 2] = [&FILTER, &FORMAT];

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Directives as `tracing_subscriber::EnvFilter` reads them.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl Log {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let filter = from.get(&FILTER, values::text);
        let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let format = from.get(&FORMAT, |text| values::word(text, &words));
        Some(Self { filter: filter?, format: format? })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let wrong = tracing_subscriber::EnvFilter::try_new(&self.filter).err();
        let problem =
            |error| Problem::with(&FILTER, format_args!("`{}` is not a filter: {error}", self.filter));
        wrong.map(problem).into_iter().collect()
    }
}
