//! One value: from text to what a field's descriptor wants.

use std::time::Duration;

use base64::Engine;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, Value};

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

    #[test]
    fn regression_a_moment_is_told_and_taken_as_people_write_it() {
        let kind = Kind::Message(
            crate::proto::DESCRIPTOR_POOL.get_message_by_name("google.protobuf.Timestamp").unwrap(),
        );
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
