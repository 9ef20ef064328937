//! Text for a terminal.

use chrono::{DateTime, Utc};

/// A secret that is there but is not shown.
pub const MASK: &str = "••••";

/// The text with everything escaped that could move a cursor, hide text or turn its direction.
///
/// Names are checked by the server, but descriptions, labels and values are free text of somebody else.
#[must_use]
pub fn printable(text: &str) -> String {
    let dangerous = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if dangerous(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The text, cut to a number of characters.
#[must_use]
pub fn clipped(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How long ago something was, in its greatest unit.
#[must_use]
pub fn age(now: DateTime<Utc>, then: Option<&prost_types::Timestamp>) -> String {
    let Some(then) = then.and_then(|then| DateTime::from_timestamp(then.seconds, 0)) else {
        return String::new();
    };
    // The server's clock may be ahead of ours.
    let seconds = (now - then).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// When something was or will be, from now: `3m ago`, `in 5d`.
#[must_use]
pub fn relative(now: DateTime<Utc>, then: &prost_types::Timestamp) -> String {
    let moment = DateTime::from_timestamp(then.seconds, 0);
    match moment.filter(|moment| *moment > now) {
        // The server's clock may be a little ahead of ours.
        Some(moment) if (moment - now).num_seconds() > 1 => {
            let now = prost_types::Timestamp { seconds: now.timestamp(), nanos: 0 };
            format!("in {}", age(moment, Some(&now)))
        }
        _ => format!("{} ago", age(now, Some(then))),
    }
}

/// A length of time, to milliseconds.
#[must_use]
pub fn duration(duration: &prost_types::Duration) -> String {
    let millis = u64::try_from(duration.seconds).unwrap_or(0) * 1_000
        + u64::try_from(duration.nanos).unwrap_or(0) / 1_000_000;
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

/// A moment, for people.
#[must_use]
pub fn moment(time: &prost_types::Timestamp) -> String {
    DateTime::from_timestamp(time.seconds, 0)
        .map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_stored_can_drive_the_terminal() {
        assert_eq!(printable("ok ü \u{1b}[2J\r\u{202e}x"), "ok ü \\u{1b}[2J\\r\\u{202e}x");
    }

    #[test]
    fn ages_have_one_unit() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let age_of =
            |ago: i64| age(now, Some(&prost_types::Timestamp { seconds: 1_000_000 - ago, nanos: 0 }));
        let cases = [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (200_000, "2d"),
        ];
        for (ago, shown) in cases {
            assert_eq!(age_of(ago), shown);
        }
        assert_eq!(age(now, None), "");
        let relative = |seconds: i64| relative(now, &prost_types::Timestamp { seconds, nanos: 0 });
        assert_eq!(
            [relative(999_820), relative(1_000_001), relative(1_432_000)],
            ["3m ago", "0s ago", "in 5d"]
        );
    }
}
