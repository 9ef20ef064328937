//! Errors of providers: why a call failed, in a word that programs know, and in the provider's own words without parts of a
//! key.

use std::time::Duration;

use serde_json::Value;

use super::{
    extractor::Extractor,
    frames::Raised,
    path::{Path, scalar_text},
    problems::Problems,
    rules::{first_text, parse_paths},
    waits::retry_info,
    words::without_keys,
};
use crate::proto::v1::{BadKeyRule, ErrorExtractor};

const MAX_RULES: usize = 8;
const VALUE_BYTES: usize = 256;

/// Why a provider has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The key is not good.
    BadKey,
    /// The key is good, and does not allow this.
    PermissionDenied,
    /// There is no such model, or nothing at this address.
    NotFound,
    /// Too many calls, or nothing left to pay them from.
    RateLimited,
    /// The provider waited for too long.
    Timeout,
    /// The call is wrong.
    InvalidRequest,
    /// The provider has troubles of its own.
    Unavailable,
}

/// What is known of a provider's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The provider's own words, in one line; empty where it has none that can be read.
    pub message: String,
    /// The provider's own code; empty where it has none.
    pub code: String,
    /// How long the provider asks to be left alone, where it says so; a day at most.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// What is known of it in words: the provider's own, else its code.
    #[must_use]
    pub fn words(&self) -> &str {
        match (self.message.as_str(), self.code.as_str()) {
            ("", "") => "no message",
            ("", code) => code,
            (message, _) => message,
        }
    }
}

/// How errors are read.
#[derive(Clone, Debug)]
pub(super) struct Errors {
    message_paths: Vec<Path>,
    code_paths: Vec<Path>,
    bad_key: Vec<BadKey>,
}

#[derive(Clone, Debug)]
struct BadKey {
    status: u16,
    path: Option<Path>,
    value: String,
}

impl Errors {
    pub fn parse(wire: &ErrorExtractor, field: &str, problems: &mut Problems) -> Self {
        let message_paths = format!("{field}.message_paths");
        let message_paths = parse_paths(&wire.message_paths, &message_paths, false, problems);
        let code_paths = parse_paths(&wire.code_paths, &format!("{field}.code_paths"), false, problems);
        let field = format!("{field}.bad_key_rules");
        problems.at_most(&field, wire.bad_key_rules.len(), MAX_RULES, "rules");
        let rules = wire.bad_key_rules.iter().enumerate().take(MAX_RULES);
        let parse = |(index, rule)| BadKey::parse(rule, &format!("{field}[{index}]"), problems);
        Self { message_paths, code_paths, bad_key: rules.filter_map(parse).collect() }
    }
}

impl BadKey {
    fn parse(wire: &BadKeyRule, field: &str, problems: &mut Problems) -> Option<Self> {
        let status = u16::try_from(wire.status).ok().filter(|status| (100..=599).contains(status));
        if status.is_none() {
            let problem = "must be an HTTP status from 100 to 599, for example 401";
            problems.add(format!("{field}.status"), "OUT_OF_RANGE", problem);
        }
        let path = match wire.path.as_str() {
            "" if wire.value.is_empty() => None,
            "" => {
                problems.required(format!("{field}.path"), "`value` says what has to be found there");
                None
            }
            path => problems.take(&format!("{field}.path"), "INVALID_FORMAT", Path::parse(path)),
        };
        if wire.value.len() > VALUE_BYTES {
            let problem = format!("has more than {VALUE_BYTES} bytes");
            problems.add(format!("{field}.value"), "TOO_LONG", problem);
        }
        if wire.value.is_empty() && !wire.path.is_empty() {
            problems.required(format!("{field}.value"), "what has to be found at `path`; `*` is anything");
        }
        Some(Self { status: status?, path, value: wire.value.clone() })
    }

    fn holds(&self, status: u16, document: &Value) -> bool {
        let is = |value: &Value| {
            scalar_text(value).is_some_and(|text| match self.value.strip_suffix('*') {
                Some(beginning) => text.starts_with(beginning),
                None => text == self.value,
            })
        };
        let found = self.path.as_ref().is_none_or(|path| path.find(document).into_iter().any(is));
        self.status == status && found
    }
}

impl Extractor {
    /// Reads an error.
    pub fn failure(&self, status: u16, body: &[u8], key: Option<&str>) -> Failure {
        let document = serde_json::from_slice(body).unwrap_or(Value::Null);
        let bad = self.errors.bad_key.iter().any(|rule| rule.holds(status, &document));
        let reason = if bad { Reason::BadKey } else { of_status(status) };
        self.told(reason, &document, key)
    }

    /// Reads an error that came as the event of a stream, after a good status.
    pub fn failure_event(&self, event: &Value) -> Failure {
        self.told(Reason::Unavailable, event, None)
    }

    /// Reads an error that has a frame of its own in a stream, after a good status.
    pub fn failure_frame(&self, raised: &Raised) -> Failure {
        let statuses = self.stream.as_ref().map(|stream| &stream.error_statuses);
        let mut failure = match statuses.and_then(|statuses| statuses.get(&raised.code)) {
            Some(status) => self.failure(*status, &raised.payload, None),
            None => self.failure_event(&serde_json::from_slice(&raised.payload).unwrap_or(Value::Null)),
        };
        for (found, said) in [(&mut failure.code, &raised.code), (&mut failure.message, &raised.message)] {
            if found.is_empty() {
                *found = without_keys(said, None);
            }
        }
        failure
    }

    fn told(&self, reason: Reason, document: &Value, key: Option<&str>) -> Failure {
        let text = |paths, numbers| first_text(paths, document, numbers).unwrap_or_default();
        let message = without_keys(&text(&self.errors.message_paths, false), key);
        let code = without_keys(&text(&self.errors.code_paths, true), key);
        Failure { reason, message, code, retry_after: retry_info(document) }
    }
}

fn of_status(status: u16) -> Reason {
    match status {
        401 | 403 => Reason::PermissionDenied,
        404 => Reason::NotFound,
        408 | 504 => Reason::Timeout,
        402 | 429 => Reason::RateLimited,
        400..=499 => Reason::InvalidRequest,
        _ => Reason::Unavailable,
    }
}
