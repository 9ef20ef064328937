//! `runtime-config`: rows of a table `runtime_config` as settings.
//!
//! What is accepted stands in `shapes`.

use std::{cmp::Ordering, collections::BTreeMap};

use chrono::{NaiveDate, NaiveDateTime};

use super::{
    Gathered, Imported, Input, Outcome, Problems, databases,
    parts::{self, Column},
    providers::{KNOWN, is_placeholder},
    table::{self, Row},
    tree::Tree,
};
use crate::{
    domain::{name::check_segment, record::Spec},
    kinds::setting::credential_in,
    proto::v1::{Secret, SettingSpec, setting_spec::Value},
    setting_key,
};

/// The format's name.
pub const FORMAT: &str = "runtime-config";

/// Converts dumps.
///
/// # Errors
/// Every row that can't be read.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut made = Gathered::new(FORMAT);
    let rows = table::read(input.files, &mut made)?;
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(name) = name_of(&mut made, row) else { continue };
        let Some(other) = newest.insert(name.clone(), index) else { continue };
        let stays = if age(&rows[other], row) == Ordering::Greater { other } else { index };
        let goes = other + index - stays;
        newest.insert(name.clone(), stays);
        for row in [&rows[other], row] {
            unread_times(&mut made, row);
        }
        let why = format!("{} is newer and comes to the same key, {name}", rows[stays].place);
        made.left_out(&rows[goes].place, why);
    }
    let known: [&[&str]; 5] =
        [&["key"], &["value"], &["user_id", "user"], &["value_type", "type"], &["description"]];
    table::leave_out_rest(&mut made, &rows.iter().collect::<Vec<_>>(), &known);
    for (name, index) in newest {
        setting(&mut made, input, &rows[index], name);
    }
    Ok(made.finish())
}

fn name_of(made: &mut Gathered, row: &Row) -> Option<String> {
    let Some(key) = row.text(&["key"]) else {
        made.problem(&row.place, "has no `key`; select that column");
        return None;
    };
    let key = key_of(key.trim());
    if check_segment(&key).is_err() {
        let what = "has a `key` that no setting can have; keys begin with a letter or digit and go on with letters, \
                    digits and `._:@+-`, at most 128";
        made.problem(&row.place, what);
        return None;
    }
    let Some(user) = row.text(&["user_id", "user"]).map(str::trim) else {
        return Some(format!("settings/{key}"));
    };
    if check_segment(user).is_err() {
        let what =
            "has a `user_id` that no name can hold; letters, digits and `._:@+-` are allowed, at most 128";
        made.problem(&row.place, what);
        return None;
    }
    Some(format!("users/{user}/settings/{key}"))
}

/// The key of a setting: its one spelling, but for the keys that everybody knows. Of an acronym before another word nobody
/// can tell where it ends: `openAIAPIKey` is `openai_api_key` all the same.
fn key_of(given: &str) -> String {
    let bare = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect::<String>()
    };
    let wanted = bare(given);
    let known = KNOWN.iter().flat_map(|row| row.keys).find(|name| bare(name) == wanted);
    known.map_or_else(|| setting_key::normalise(given).into_owned(), |name| name.to_ascii_lowercase())
}

/// The columns that say how old a row is, the better one first.
const TIMES: [&str; 2] = ["updated_at", "created_at"];

/// Which of two rows is the newer; of equals the later one. Times that can't be read say nothing.
fn age(one: &Row, other: &Row) -> Ordering {
    let number = |row: &Row| row.get(&["id"]).and_then(|id| id.whole::<i64>());
    for column in TIMES {
        let times = [one, other].map(|row| row.text(&[column]).and_then(time));
        if let [Some(one), Some(other)] = times
            && one != other
        {
            return one.cmp(&other);
        }
    }
    number(one).cmp(&number(other))
}

/// Tells of times on which it depended what stays, and that can't be read.
fn unread_times(made: &mut Gathered, row: &Row) {
    for column in TIMES {
        if row.text(&[column]).is_some_and(|text| time(text).is_none()) {
            let why = "is no time that is known, such as 2026-01-31T12:00:00Z, and was not compared: what else there is \
                       decides which row is the newer";
            made.left_out(format!("{}, {column}", row.place), why);
        }
    }
}

/// A time in one of the forms that databases dump, in UTC.
fn time(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let utc = |time: chrono::DateTime<chrono::FixedOffset>| time.naive_utc();
    let iso = || chrono::DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)).ok().map(utc);
    let short = || chrono::DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(utc);
    let mail = || chrono::DateTime::parse_from_rfc2822(text).ok().map(utc);
    let bare = || NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f").ok();
    let minute = || NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M").ok();
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    iso()
        .or_else(short)
        .or_else(bare)
        .or_else(minute)
        .or_else(date)
        .or_else(mail)
        .or_else(|| since_1970(text))
}

/// Seconds since 1970, or milliseconds where these would be thousands of years.
fn since_1970(text: &str) -> Option<NaiveDateTime> {
    const MOST_SECONDS: f64 = 1e11;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let seconds = if number < MOST_SECONDS { number } else { number / 1000.0 };
    let since = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    let since = chrono::Duration::from_std(since).ok()?;
    chrono::DateTime::UNIX_EPOCH.naive_utc().checked_add_signed(since)
}

fn setting(made: &mut Gathered, input: &Input<'_>, row: &Row, name: String) {
    let Some(value) = row.get(&["value"]) else {
        return made.left_out(&row.place, "has no value");
    };
    let key = name.rsplit('/').next().unwrap_or_default().to_owned();
    let word = row.text(&["value_type", "type"]).map(str::to_ascii_lowercase);
    let spelt = row.text(&["key"]).is_some_and(|given| given == key);
    let mut note = if spelt { String::new() } else { format!("its key is `{key}` from now on") };
    let secret = setting_key::is_secret(&key) || matches!(word.as_deref(), Some("secret" | "password"));
    let value = if secret {
        match parts::open(input.keys, value.text().unwrap_or_default(), Column::Plain) {
            Ok(opened) if is_placeholder(opened.value.expose()) => {
                return made.left_out(&row.place, "holds a placeholder and no secret");
            }
            Ok(opened) => {
                if opened.clear {
                    note_also(&mut note, "was stored in the clear; consider it known, and rotate it");
                }
                databases::secret(opened.value.expose().to_owned()).map(Value::SecretValue)
            }
            Err(what) => return made.problem(&row.place, what),
        }
    } else {
        Some(sealed_if_shown(typed(value, word.as_deref(), &mut note), &mut note))
    };
    let Some(value) = value else {
        return made.left_out(&row.place, "has an empty value, and is the name of a secret");
    };
    let description = row.text(&["description"]).unwrap_or_default().to_owned();
    let spec = SettingSpec { value: Some(value), description };
    made.put(&row.place, name.as_str(), Spec::Setting(spec));
    let outcome = if note.is_empty() { Outcome::Imported } else { Outcome::Changed };
    made.item(&row.place, name, outcome, note);
}

/// The value as a secret, where it would show a credential to everybody who may read settings.
fn sealed_if_shown(value: Value, note: &mut String) -> Value {
    let Some(found) = credential_in(&value) else { return value };
    let (Value::StringValue(text) | Value::JsonValue(text)) = value else { return value };
    note_also(note, &format!("it holds {found}: it is a secret from now on, and was stored in the clear"));
    Value::SecretValue(Secret { value: Some(text), ..Secret::default() })
}

fn note_also(note: &mut String, more: &str) {
    if !note.is_empty() {
        note.push_str("; ");
    }
    note.push_str(more);
}

/// The value with its type; text where it is not of the type that it should be.
fn typed(value: &Tree, word: Option<&str>, note: &mut String) -> Value {
    let text = || value.text().map_or_else(|| value.to_json(), str::to_owned);
    let found = match word {
        None => return guessed(value),
        Some("string" | "str" | "text" | "varchar") => return Value::StringValue(text()),
        Some("int" | "integer" | "bigint" | "long") => value.whole().map(Value::IntValue),
        Some("float" | "double" | "number" | "numeric" | "decimal" | "real") => {
            float(value).map(Value::FloatValue)
        }
        Some("bool" | "boolean") => value.flag().map(Value::BoolValue),
        Some("json" | "jsonb" | "object" | "array" | "dict" | "list") => {
            Some(Value::JsonValue(match value {
                Tree::Text(text) => text.clone(),
                other => other.to_json(),
            }))
        }
        Some("duration" | "interval" | "timedelta") => {
            value.text().and_then(duration).map(Value::DurationValue)
        }
        Some(_) => {
            note_also(note, "its type is unknown; it is text from now on");
            return Value::StringValue(text());
        }
    };
    found.unwrap_or_else(|| {
        note_also(note, "is not of the type that it should be; it is text from now on");
        Value::StringValue(text())
    })
}

fn guessed(value: &Tree) -> Value {
    match value {
        Tree::Bool(flag) => Value::BoolValue(*flag),
        Tree::List(_) | Tree::Map(_) => Value::JsonValue(value.to_json()),
        Tree::Number(text) | Tree::Text(text) => {
            let whole = text.parse::<i64>().ok().filter(|number| number.to_string() == *text);
            let fraction = || {
                text.parse::<f64>().ok().filter(|number| number.is_finite() && number.to_string() == *text)
            };
            match text.as_str() {
                "true" => Value::BoolValue(true),
                "false" => Value::BoolValue(false),
                _ => match whole {
                    Some(number) => Value::IntValue(number),
                    None => fraction().map_or_else(|| Value::StringValue(text.clone()), Value::FloatValue),
                },
            }
        }
        Tree::Null => Value::StringValue(String::new()),
    }
}

fn float(value: &Tree) -> Option<f64> {
    value.text()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Seconds as a number, or a length of time with its unit.
fn duration(text: &str) -> Option<prost_types::Duration> {
    let seconds =
        text.parse::<f64>().ok().and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    let length = seconds.or_else(|| humantime::parse_duration(text).ok())?;
    prost_types::Duration::try_from(length).ok()
}
