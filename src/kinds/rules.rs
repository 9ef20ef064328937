//! Checks that several kinds share: labels, URLs, header names and values.
//!
//! Descriptions read on from the field's path and say what would be right. They never repeat a value, which may be a
//! secret in the wrong place.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{CheckContext, SecretInput};
use crate::{
    domain::{FieldViolation, Labels, Text, Violations, limits},
    duration, wire,
};

/// Characters of a name for people.
pub const NAME_CHARS: usize = 200;
/// Characters of a description.
pub const DESCRIPTION_CHARS: usize = 4096;
/// Bytes of a URL.
pub const URL_BYTES: usize = 2048;
/// Values of a list of choices; more than any enumeration has.
const MAX_CHOICES: usize = 64;
/// What is to be used in place of a wrong value of an enumeration; [`super::check`] puts its values there.
pub const SOME_WORD: &str = "use one of the enumeration's values";
/// Where the year 10000 begins.
const LAST_SECOND: i64 = 253_402_300_800;

/// Everything that is wrong with labels, with paths beneath `field`.
#[must_use]
pub fn check_labels(labels: &Labels, field: &str) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    violations.at_most(field, labels.len(), limits::LABELS, "labels");
    for (key, value) in labels.iter().take(limits::LABELS) {
        let path = format!("{field}.{}", shown(key));
        let bytes = key.as_bytes();
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/-".contains(byte);
        if bytes.len() > limits::LABEL_KEY_BYTES
            || !bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            || !bytes.iter().all(allowed)
        {
            let max = limits::LABEL_KEY_BYTES;
            violations.add(
                path.clone(),
                "INVALID_FORMAT",
                format!(
                    "has a key that is not allowed; keys begin with a letter or digit, go on with letters, digits \
                     and `._/-`, and have at most {max} bytes"
                ),
            );
        }
        if value.len() > limits::LABEL_VALUE_BYTES {
            let (length, max) = (value.len(), limits::LABEL_VALUE_BYTES);
            violations.add(
                path.clone(),
                "TOO_LONG",
                format!("has {length} bytes; at most {max} are allowed"),
            );
        }
        violations.text(&path, value, Text::Line, usize::MAX);
    }
    violations.into_vec()
}

/// A map's key as it may stand in a path: as it is if it is harmless, else escaped and cut.
#[must_use]
pub fn shown(key: &str) -> String {
    let harmless = |letter: char| letter.is_ascii_graphic();
    if !key.is_empty() && key.len() <= 128 && key.chars().all(harmless) {
        return key.to_owned();
    }
    format!("{:?}", key.chars().take(64).collect::<String>())
}

/// Checks one value of the enumeration `E`, which may be left unset.
pub fn check_choice<E: TryFrom<i32>>(violations: &mut Violations, field: &str, number: i32) {
    if E::try_from(number).is_err() {
        violations.add(field, "UNKNOWN_VALUE", unknown_value(number));
    }
}

/// Checks a list of values of the enumeration `E`: each is known, is set, and stands there once.
pub fn check_choices<E: TryFrom<i32>>(violations: &mut Violations, field: &str, numbers: &[i32]) {
    violations.at_most(field, numbers.len(), MAX_CHOICES, "values");
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate().take(MAX_CHOICES) {
        let field = format!("{field}[{index}]");
        match E::try_from(*number) {
            Err(_) => violations.add(field, "UNKNOWN_VALUE", unknown_value(*number)),
            Ok(_) if *number == 0 => {
                violations.add(field, "REQUIRED", format!("is not set; {SOME_WORD}"));
            }
            Ok(_) if !seen.insert(number) => {
                violations.add(field, "DUPLICATE", "is listed twice; list it once")
            }
            Ok(_) => {}
        }
    }
}

/// Whether a host can only be the machine itself.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// What is wrong with a host name or an IP address, if anything.
#[must_use]
pub fn host_problem(host: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    if host.parse::<IpAddr>().is_ok() {
        None
    } else if host.len() > 253 || !name.split('.').all(is_label) {
        Some("must be a host name or an IP address, without scheme, port, brackets or credentials")
    } else if last.bytes().all(|byte| byte.is_ascii_digit()) {
        Some("looks like an IP address and is none; write an IPv4 address as four numbers from 0 to 255")
    } else {
        None
    }
}

/// What to say of a number that an enumeration does not have.
#[must_use]
pub fn unknown_value(number: i32) -> String {
    format!("has the unknown value {number}; {SOME_WORD}")
}

/// What is wrong with a date, if anything: `YYYY-MM-DD`, or `YYYY-MM` or `YYYY` where no more is known.
#[must_use]
pub fn date_problem(text: &str) -> Option<&'static str> {
    let digits = text.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let whole = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    let exists = whole.len() == 10 && chrono::NaiveDate::parse_from_str(&whole, "%Y-%m-%d").is_ok();
    (!digits || !exists)
        .then_some("must be a date such as `2025-04-30`, or `2025-04` or `2025` where no more is known")
}

/// What is wrong with an amount of money, if anything: a decimal number without sign or exponent.
#[must_use]
pub fn decimal_problem(text: &str) -> Option<&'static str> {
    let digits = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    (!digits(whole, 7) || !digits(fraction, 9)).then_some(
        "must be a decimal number such as `2.5` or `0.075`, with up to 7 digits before the point and up to 9 behind it",
    )
}

/// Refuses every secret that is to be kept, because what the kind calls `field` says where it goes and changes: a stored
/// secret goes only where it was saved for.
///
/// A secret that the caller believes to be missing counts as kept: there may be one after all, and the caller may know it.
pub fn check_not_moved(context: &CheckContext<'_>, field: &str, violations: &mut Violations) {
    let kept = |input: &SecretInput| {
        matches!(input, SecretInput::Keep | SecretInput::KeepMissing | SecretInput::Unsaid)
    };
    for (path, _) in context.secrets.iter().filter(|(_, input)| kept(input)) {
        let problem = format!(
            "must be given again, because `{field}` changes and a stored secret goes only where it was saved for; \
             STATE_ABSENT clears it"
        );
        violations.add(path.to_string(), "SECRET_REQUIRED", problem);
    }
}

/// Checks a length of time that may be left out.
pub fn check_duration(
    field: &str,
    duration: Option<prost_types::Duration>,
    range: (Duration, Duration),
    violations: &mut Violations,
) {
    let Some(duration) = duration else { return };
    let given = duration::read(duration).filter(|given| (range.0..=range.1).contains(given));
    if given.is_none() {
        let (least, most) = (range.0.as_secs_f64(), range.1.as_secs_f64());
        violations.add(field, "OUT_OF_RANGE", format!("must be from {least} s to {most} s"));
    }
}

/// Checks a moment that may be left out. JSON can write the years 1 to 9999; nothing here is older than 1970.
pub fn check_timestamp(field: &str, time: Option<prost_types::Timestamp>, violations: &mut Violations) {
    let Some(time) = time else { return };
    if !(0..LAST_SECOND).contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        let problem = "must be a time of the years 1970 to 9999, with nanos from 0 to 999999999";
        violations.add(field, "OUT_OF_RANGE", problem);
    }
}

/// Whether a text is the name of an HTTP header (a token of RFC 9110).
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.len() <= 128 && name.as_bytes().iter().all(allowed)
}

/// What is wrong with the value of an HTTP header, if anything.
#[must_use]
pub fn header_value_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() {
        Some("is empty; give a value, or leave the header out")
    } else if value.contains(['\r', '\n']) {
        Some("holds a line break, which no header may; check the end of the value")
    } else if !value.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic()) {
        Some("may hold only visible ASCII characters, spaces and tabs")
    } else if value.trim().len() != value.len() {
        Some("begins or ends with white space; remove it")
    } else {
        None
    }
}

/// Whether a part of a path is `.` or `..`, however it is written.
fn is_dots(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// Whether a URL names the service that tells a machine in a cloud its own credentials.
#[must_use]
pub fn names_metadata(url: &url::Url) -> bool {
    const NAMES: [&str; 4] =
        ["metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];
    let is_metadata = |address: Ipv4Addr| {
        [[169, 254, 169, 254], [169, 254, 170, 2], [100, 100, 100, 200], [168, 63, 129, 16]]
            .contains(&address.octets())
    };
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            NAMES.contains(&name.as_str())
        }
        Some(url::Host::Ipv4(address)) => is_metadata(address),
        Some(url::Host::Ipv6(address)) => {
            let own = address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            own || wrapped(address).is_some_and(is_metadata)
        }
        None => false,
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, or behind NAT64 (RFC 6052).
fn wrapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => address.to_ipv4(),
    }
}

/// What is wrong with a base URL, if anything: absolute, http or https, without credentials, query or fragment.
#[must_use]
pub fn url_problem(text: &str) -> Option<&'static str> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if text.len() > URL_BYTES {
        return Some("is longer than 2048 bytes");
    }
    // The parser would mend some of these silently, and another parser in another way.
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains(['\\', '{', '}', '<', '>', '"', '`', '^', '|'])
    {
        return Some("may hold only the characters of a URL, in ASCII and without placeholders");
    }
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Some("must begin with `https://` or `http://`");
    }
    let Ok(url) = url::Url::parse(text) else {
        return Some("is not a URL with a host, such as `https://api.example.com/v1`");
    };
    let authority = text.split('/').nth(2).unwrap_or_default();
    if authority.is_empty() {
        Some("has no host behind `://`; write for example `https://api.example.com/v1`")
    } else if url.domain().is_some_and(|host| host_problem(host).is_some()) {
        Some("has a host that is none; write for example `https://api.example.com/v1`")
    } else if !wire::is_encoded(text) {
        Some("has a `%` that does not begin an octet; write `%25` for the sign itself")
    } else if url.port() == Some(0) {
        Some("names port 0, which is none; give one from 1 to 65535, or leave it out")
    } else if text.split('/').skip(3).any(is_dots) {
        Some("must not hold `.` or `..` as a part of its path; write the path that is meant")
    } else if names_metadata(&url) {
        Some("names the metadata service of a cloud, which gives out credentials; name a provider's host")
    } else if authority.contains('@') {
        Some("must not hold credentials; store them as an API key or a secret header")
    } else if url.query().is_some() {
        Some("must not hold a query; put it into `endpoint_path`")
    } else if url.fragment().is_some() {
        Some("must not hold a fragment")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(labels: &[(&str, &str)]) -> Vec<&'static str> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check_labels(&labels, "labels").into_iter().map(|violation| violation.reason).collect()
    }

    #[test]
    fn labels_are_short_and_plain() {
        assert!(reasons(&[("team", "a"), ("app.kubernetes.io/name", ""), ("1", "ä")]).is_empty());
        for key in ["", "-a", "a b", "ä", "a\0", &"a".repeat(64)] {
            assert_eq!(reasons(&[(key, "x")]), ["INVALID_FORMAT"], "{key:?}");
        }
        assert_eq!(reasons(&[("a", &"x".repeat(129))]), ["TOO_LONG"]);
        assert_eq!(reasons(&[("a", "x\ny")]), ["FORBIDDEN_CHARACTER"]);
        let many: Vec<String> = (0..33).map(|number| format!("k{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(reasons(&many), ["TOO_MANY"]);
    }

    #[test]
    fn dates_are_as_exact_as_they_can_be() {
        for good in ["2025", "2025-04", "2025-04-30", "2024-02-29"] {
            assert_eq!(date_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "25",
            "2025-4",
            "2025-13",
            "2025-02-29",
            "2025-04-30T",
            "2025/04",
            "April",
            "+025",
            "２０２５",
        ] {
            assert!(date_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn money_is_decimal() {
        for good in ["0", "2.5", "0.075", "9999999.999999999", "10.00"] {
            assert_eq!(decimal_problem(good), None, "{good}");
        }
        for bad in
            ["", "-1", "+1", "1e-7", ".5", "5.", "1,5", "$1", "12345678", "0.1234567890", "NaN", "1.2.3", "٣"]
        {
            assert!(decimal_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn regression_base_urls_lead_to_hosts_and_not_to_metadata_in_any_clothes() {
        for text in [
            "https://api.example.com/v1",
            "http://[2001:db8::1]:8080",
            "http://127.0.0.1/a%20b",
            "https://x_y",
        ] {
            assert_eq!(url_problem(text), None, "{text}");
        }
        for host in
            ["[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[::a9fe:a9fe]"]
        {
            let told = url_problem(&format!("http://{host}/")).unwrap_or_default();
            assert!(told.contains("metadata"), "{host}: {told}");
        }
        for host in [".", "-", "a..b", "a.-b"] {
            let told = url_problem(&format!("https://{host}")).unwrap_or_default();
            assert!(told.contains("host"), "{host}: {told}");
        }
        for path in ["%", "%z0", "%0", "a%zz"] {
            let told = url_problem(&format!("https://x/{path}")).unwrap_or_default();
            assert!(told.contains("octet"), "{path}: {told}");
        }
    }
}
