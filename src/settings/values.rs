//! How the text of a value is read: one function for each type, whose error says what would be right.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// What is wrong with a value and what would be right, as the end of a sentence about it.
pub type Wrong = String;

/// A path.
pub fn path(text: &str) -> Result<PathBuf, Wrong> {
    Ok(PathBuf::from(text))
}

/// Any text.
pub fn text(text: &str) -> Result<String, Wrong> {
    Ok(text.to_owned())
}

/// An address and a port. Names are not looked up, but for `localhost`.
pub fn address(text: &str) -> Result<SocketAddr, Wrong> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        format!("`{text}` is not an address with a port; give one such as 127.0.0.1:50051 or [::]:50051")
    })
}

/// An address and a port, or `off`.
pub fn address_or_off(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text == "off" { Ok(None) } else { address(text).map(Some) }
}

/// Yes or no.
pub fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// A whole number.
pub fn number<T: FromStr>(text: &str) -> Result<T, Wrong> {
    text.replace('_', "").parse().map_err(|_| format!("`{text}` is not a whole number, or is out of range"))
}

/// A length of time.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a length of time; give one such as 500ms, 30s, 5m or 90d"))
}

/// A length of time, or `off`.
pub fn duration_or_off(text: &str) -> Result<Option<Duration>, Wrong> {
    if text == "off" { Ok(None) } else { duration(text).map(Some) }
}

/// A number of bytes, with or without a unit.
pub fn bytes(text: &str) -> Result<usize, Wrong> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: Option<usize> = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let count: Option<usize> = digits.parse().ok();
    count
        .zip(factor)
        .and_then(|(count, factor)| count.checked_mul(factor))
        .ok_or_else(|| format!("`{text}` is not a size; give one such as 65536, 64KiB or 1MiB"))
}

/// One of a few words.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is none of {}", known.join(", "))
    })
}

/// A length of time as somebody would write it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size as somebody would write it.
#[must_use]
pub fn show_bytes(bytes: usize) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}
