//! What the text of a setting in an environment means, for each type that it can be asked for as.
//!
//! Pure functions, which server and client share: what the server says of a variable has to be what a worker makes of it.
//! `tests/vectors/settings.json` holds it in every language. Must not know specs or any framework. White space around a value does not count, but for texts and secrets.

use std::{str::FromStr, time::Duration};

/// A whole number.
#[must_use]
pub fn int(text: &str) -> Option<i64> {
    parse(text)
}

/// A finite number.
#[must_use]
pub fn float(text: &str) -> Option<f64> {
    parse(text).filter(|number: &f64| number.is_finite())
}

/// A truth value: `true`, `yes`, `on`, `1` or their opposites, in any case.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "yes", "on", "1"]) {
        return Some(true);
    }
    is_one_of(["false", "no", "off", "0"]).then_some(false)
}

/// A length of time, not negative: `1.5s`, `250ms`, `5m`, `2h` or `1d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    // Digits right in front of the unit, without a sign.
    let number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then_some(number)?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// A JSON document, which stays the text that it is.
#[must_use]
pub fn json(text: &str) -> Option<&str> {
    serde_json::from_str::<serde_json::Value>(text).is_ok().then_some(text)
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_types() {
        assert_eq!((int(" 4 "), int("4.0"), int("")), (Some(4), None, None));
        assert_eq!((float("1e3"), float("NaN"), float("inf")), (Some(1000.0), None, None));
        assert_eq!((boolean("ON"), boolean(" no "), boolean("2")), (Some(true), Some(false), None));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration(" 1.5h"), Some(Duration::from_secs(5_400)));
        for text in ["-1s", "5", "s", "5 weeks", "1e400s", "NaNs"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn texts_are_read_as_in_every_language() {
        let vectors = include_str!("../tests/vectors/settings.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        for vector in vectors["durations"].as_array().unwrap() {
            let read = duration(vector["text"].as_str().unwrap()).map(|read| read.as_secs_f64());
            assert_eq!(read, vector["seconds"].as_f64(), "{vector}");
        }
        for vector in vectors["documents"].as_array().unwrap() {
            let text = vector["text"].as_str().unwrap();
            assert_eq!(json(text).is_some(), vector["good"].as_bool().unwrap(), "{vector}");
        }
    }
}
