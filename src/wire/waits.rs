//! How long a provider asks to be left alone: the header `Retry-After`, or `google.rpc.RetryInfo` in the body.
//!
//! Owns the reading of it, which `tests/vectors/routing.json` holds in every language. Must not know what is made of it.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use super::path::Path;

/// As much counts at most: nobody waits for longer, and it fits into any clock.
const MOST: f64 = 86_400.0;
/// The only form of a date that is sent today.
const DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
/// Where details of an error stand; some send it in a list.
const DETAILS: [&str; 2] = ["error.details[*]", "[0].error.details[*]"];
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// What the header `Retry-After` says: seconds, or a date. A date that has passed is no time at all. `None` where it is neither.
#[must_use]
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    seconds(header).or_else(|| {
        let date = NaiveDateTime::parse_from_str(header, DATE).ok()?.and_utc();
        Some((date - now).to_std().unwrap_or_default().min(Duration::from_secs_f64(MOST)))
    })
}

/// What the body of an error says.
pub(super) fn retry_info(body: &Value) -> Option<Duration> {
    let paths = DETAILS.iter().filter_map(|path| Path::parse(path).ok());
    let details: Vec<_> = paths.flat_map(|path| path.find(body)).collect();
    let info =
        details.into_iter().find(|detail| detail.get("@type").and_then(Value::as_str) == Some(RETRY_INFO));
    seconds(info?.get("retryDelay")?.as_str()?.strip_suffix('s')?)
}

/// A number of seconds in digits, with or without a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    text.parse().ok().map(|seconds: f64| Duration::from_secs_f64(seconds.min(MOST)))
}
