//! One value: from text to what a field's descriptor wants.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use base64::Engine;
use prost_reflect::{DynamicMessage, EnumDescriptor, EnumValueDescriptor, Kind, MessageDescriptor, Value};

use crate::proto::DESCRIPTOR_POOL;

/// Reads a value for a field of this kind, or says what would be right.
pub fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => match text {
            // Tables say yes and no.
            "true" | "yes" => Ok(Value::Bool(true)),
            "false" | "no" => Ok(Value::Bool(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(text).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(text).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(text).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(text).map(Value::U64),
        Kind::Double => finite(text).map(Value::F64),
        #[allow(clippy::cast_possible_truncation, reason = "that is what a float field holds")]
        Kind::Float => finite(text).map(|number| Value::F32(number as f32)),
        Kind::Bytes => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|_| "is not base64".to_owned()),
        Kind::Enum(words) => enum_value(words, text).map(Value::EnumNumber),
        Kind::Message(message) => well_known(message, text),
    }
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let bits = 8 * size_of::<T>();
    text.parse().map_err(|_| format!("`{text}` is not a whole number that fits into {bits} bits"))
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("`{text}` is not a number"))
}

/// By its whole name or by what is left of it without the common prefix: `PROVIDER_TYPE_GROQ`, `GROQ`, `groq`.
fn enum_value(words: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let prefix = enum_prefix(words);
    let wanted = text.to_ascii_uppercase().replace('-', "_");
    words
        .values()
        .find(|value| value.name() == wanted || value.name().strip_prefix(&prefix) == Some(wanted.as_str()))
        .map(|value| value.number())
        .ok_or_else(|| {
            let known: Vec<String> =
                words.values().skip(1).map(|value| short(value.name(), &prefix)).collect();
            format!("`{text}` is not known; known are {}", known.join(", "))
        })
}

/// An enum's value as a person writes it: `groq`.
#[must_use]
pub fn enum_word(words: &EnumDescriptor, number: i32) -> String {
    let value = words.get_value(number);
    value.map_or_else(|| number.to_string(), |value| short(value.name(), &enum_prefix(words)))
}

/// A text of the server in which the values of its enums, which it has by their whole names, are what is written here:
/// `REASONING_EFFORT_LOW` is `low`.
#[must_use]
pub fn with_words(text: &str) -> String {
    static WORDS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        let ours = DESCRIPTOR_POOL.all_enums().filter(|words| words.package_name() == "signalbox.v1");
        let word = |words: &EnumDescriptor, value: EnumValueDescriptor| {
            (value.name().to_owned(), enum_word(words, value.number()))
        };
        ours.flat_map(|words| words.values().map(|value| word(&words, value)).collect::<Vec<_>>()).collect()
    });
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_part) {
        let (before, name) = rest.split_at(begin);
        let (name, after) = name.split_at(name.find(|letter| !is_part(letter)).unwrap_or(name.len()));
        told.push_str(before);
        told.push_str(WORDS.get(name).map_or(name, String::as_str));
        rest = after;
    }
    told + rest
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// The style rules make the zero value `<PREFIX>_UNSPECIFIED`.
fn enum_prefix(words: &EnumDescriptor) -> String {
    words.default_value().name().strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned()
}

fn well_known(message: &MessageDescriptor, text: &str) -> Result<Value, String> {
    if message.full_name() == "google.protobuf.Duration" {
        let wrong = || format!("`{text}` is not a length of time; give one such as 500ms, 5s or 2h");
        let duration = seconds(text).or_else(|| humantime::parse_duration(text).ok()).ok_or_else(wrong)?;
        let wire = prost_types::Duration::try_from(duration).map_err(|_| wrong())?;
        let mut dynamic = DynamicMessage::new(message.clone());
        dynamic.transcode_from(&wire).map_err(|error| error.to_string())?;
        return Ok(Value::Message(dynamic));
    }
    if message.full_name() == "google.protobuf.Timestamp" {
        let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        let time = match day.and_then(|day| day.and_hms_opt(0, 0, 0)) {
            Some(midnight) => Some(midnight.and_utc()),
            None => chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
        };
        let time = time.ok_or_else(|| {
            format!(
                "`{text}` is not a moment; give one as in RFC 3339, such as 2027-01-01T00:00:00Z, or a day such as \
                 2027-01-01, which begins at midnight UTC"
            )
        })?;
        let wire = prost_types::Timestamp {
            seconds: time.timestamp(),
            nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default(),
        };
        let mut dynamic = DynamicMessage::new(message.clone());
        dynamic.transcode_from(&wire).map_err(|error| error.to_string())?;
        return Ok(Value::Message(dynamic));
    }
    let json = serde_json::Value::String(text.to_owned());
    DynamicMessage::deserialize(message.clone(), json)
        .map(Value::Message)
        .map_err(|error| format!("`{text}` is not a {}: {error}", message.name()))
}

/// The canonical JSON form of a duration, `1.500s`, which humantime does not read.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was taken and shown as `low` was told of as `REASONING_EFFORT_LOW`.
    #[test]
    fn regression_values_are_told_as_they_are_taken() {
        assert_eq!(
            with_words(
                "must be one of REASONING_EFFORT_LOW, `REASONING_EFFORT_XHIGH` or MY_REASONING_EFFORT_LOW ä"
            ),
            "must be one of low, `xhigh` or MY_REASONING_EFFORT_LOW ä"
        );
        assert_eq!(with_words("for PROVIDER_TYPE_AZURE_OPENAI"), "for azure_openai");
        assert_eq!(with_words(""), "");
    }

    #[test]
    fn regression_a_moment_is_told_and_taken_as_people_write_it() {
        let kind = Kind::Message(DESCRIPTOR_POOL.get_message_by_name("google.protobuf.Timestamp").unwrap());
        let seconds = |text: &str| match parse(&kind, text)? {
            Value::Message(message) => {
                Ok::<_, String>(message.transcode_to::<prost_types::Timestamp>().unwrap().seconds)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(seconds("1970-01-02"), Ok(86_400));
        assert_eq!(seconds("1970-01-02T01:00:00+01:00"), Ok(86_400));
        for wrong in ["", "tomorrow", "1970-13-01", "30"] {
            let told = seconds(wrong).unwrap_err();
            assert!(told.contains("RFC 3339, such as 2027-01-01T00:00:00Z"), "{told}");
        }
    }
}
