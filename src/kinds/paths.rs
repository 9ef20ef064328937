//! Paths of fields: from text to steps through a message, by descriptor. Masks and filters both read them.
//!
//! Segments are joined by dots; proto names and JSON names are both taken. In the place of a map's entry stands its
//! key. A key with a dot in it is put between backticks, but for the keys of maps of plain values (labels), where the
//! rest of the path is the key.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::reflect;
use crate::domain::KindName;

/// One step into a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// To a field.
    Field(FieldDescriptor),
    /// To the entry of the map that the step before led to.
    Key {
        /// The entry's key.
        key: String,
        /// The field that describes the entry's value.
        value: FieldDescriptor,
    },
}

/// Why a text leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// There is no such field.
    Unknown {
        /// The segment that names none.
        segment: String,
        /// What there is in its place.
        known: Vec<String>,
    },
    /// The path goes on where nothing can follow.
    TooDeep {
        /// The last part that names something.
        end: String,
        /// Whether that is a secret.
        secret: bool,
    },
}

/// Cuts a path into segments. Backticks hold a segment together.
pub(super) fn split(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut quoted = false;
    for letter in path.chars() {
        match letter {
            '`' => quoted = !quoted,
            '.' if !quoted => segments.push(String::new()),
            _ => segments.last_mut().into_iter().for_each(|segment| segment.push(letter)),
        }
    }
    segments
}

/// The field with this proto or JSON name.
pub(super) fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

/// Follows segments through a message.
pub(super) fn resolve(message: &MessageDescriptor, segments: &[String]) -> Result<Vec<Step>, PathError> {
    let mut steps = Vec::new();
    let mut message = message.clone();
    let mut rest = segments;
    while let Some((segment, after)) = rest.split_first() {
        let found = field(&message, segment).ok_or_else(|| unknown(&message, segment))?;
        steps.push(Step::Field(found.clone()));
        rest = after;
        if rest.is_empty() {
            break;
        }
        let holder = if found.is_map() { enter_map(&found, &mut rest, &mut steps) } else { Some(found) };
        if rest.is_empty() {
            break;
        }
        message = holder.as_ref().and_then(inside).ok_or_else(|| PathError::TooDeep {
            end: segment.clone(),
            secret: holder.is_some_and(|field| is_secret(&field)),
        })?;
    }
    Ok(steps)
}

/// Steps to a map's entry; gives the field of its value.
fn enter_map(map: &FieldDescriptor, rest: &mut &[String], steps: &mut Vec<Step>) -> Option<FieldDescriptor> {
    let Kind::Message(entry) = map.kind() else { return None };
    if entry.map_entry_key_field().kind() != Kind::String {
        return None;
    }
    let value = entry.map_entry_value_field();
    let (key, after) = match value.kind() {
        Kind::Message(_) => (rest.first().cloned().unwrap_or_default(), rest.get(1..).unwrap_or_default()),
        _ => (rest.join("."), Default::default()),
    };
    *rest = after;
    steps.push(Step::Key { key, value: value.clone() });
    Some(value)
}

/// The message that a path may go on into. Secrets are one thing, and so are messages of other packages.
fn inside(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() && is_open(&message) => Some(message),
        _ => None,
    }
}

/// Whether the parts of a message have paths of their own.
pub(super) fn is_open(message: &MessageDescriptor) -> bool {
    message.package_name() == "signalbox.v1" && !reflect::is_secret(message)
}

/// Whether a field holds a secret.
pub(super) fn is_secret(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if reflect::is_secret(&message))
}

/// Whether the last step leads to a secret.
pub(super) fn ends_in_secret(steps: &[Step]) -> bool {
    match steps.last() {
        Some(Step::Field(field) | Step::Key { value: field, .. }) => is_secret(field),
        None => false,
    }
}

/// Whether a segment is the arm of a kind, by its proto or JSON name.
pub(super) fn arm_is(segment: &str, kind: KindName) -> bool {
    reflect::arm(kind.0).is_some_and(|arm| arm.name() == segment || arm.json_name() == segment)
}

fn unknown(message: &MessageDescriptor, segment: &str) -> PathError {
    let known = message.fields().map(|field| field.name().to_owned()).collect();
    PathError::Unknown { segment: segment.to_owned(), known }
}

/// What a path leads to in a message.
pub(super) enum Found<'message> {
    /// A value that is set.
    Set(&'message Value),
    /// A value that is not set, and reads as this default.
    Default(Value),
    /// Nothing.
    Nothing,
}

/// Follows steps through a message.
pub(super) fn find<'message>(message: &'message DynamicMessage, steps: &[Step]) -> Found<'message> {
    let mut holder = message;
    let mut current: Option<&Value> = None;
    for step in steps {
        let next = match (step, current) {
            (Step::Key { key, .. }, Some(Value::Map(map))) => map.get(&MapKey::String(key.clone())),
            (Step::Key { .. }, _) => None,
            (Step::Field(field), inner) => {
                if let Some(Value::Message(message)) = inner {
                    holder = message;
                }
                match set_value(holder, field) {
                    None if !field.supports_presence() && steps.last() == Some(step) => {
                        return Found::Default(field.default_value());
                    }
                    value => value,
                }
            }
        };
        match next {
            Some(value) => current = Some(value),
            None => return Found::Nothing,
        }
    }
    current.map_or(Found::Nothing, Found::Set)
}

/// The value of a field, if it is set.
pub(super) fn set_value<'message>(
    message: &'message DynamicMessage,
    field: &FieldDescriptor,
) -> Option<&'message Value> {
    match message.get_field(field) {
        std::borrow::Cow::Borrowed(value) if message.has_field(field) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(path: &str) -> Result<usize, PathError> {
        resolve(&reflect::resource(), &split(path)).map(|steps| steps.len())
    }

    #[test]
    fn paths_lead_through_fields_and_maps() {
        for (path, steps) in [
            ("provider", 1),
            ("provider.display_name", 2),
            ("provider.displayName", 2),
            ("provider.headers.X-Token", 3),
            ("provider.headers.X-Token.secret", 4),
            ("provider.headers.`X.Y`.plain", 4),
            ("labels.app.kubernetes.io/name", 2),
            ("setting.duration_value", 2),
        ] {
            assert_eq!(follow(path), Ok(steps), "{path}");
        }
    }

    #[test]
    fn paths_end_where_nothing_follows() {
        assert!(
            matches!(follow("provider.nothing"), Err(PathError::Unknown { segment, .. }) if segment == "nothing")
        );
        assert!(matches!(follow(""), Err(PathError::Unknown { .. })));
        assert!(matches!(follow("provider..x"), Err(PathError::Unknown { .. })));
        for (path, is_secret) in [
            ("api_key.secret.value", true),
            ("provider.headers.X.secret.state", true),
            ("provider.models.0", false),
            ("provider.display_name.x", false),
            ("setting.duration_value.seconds", false),
        ] {
            assert!(
                matches!(follow(path), Err(PathError::TooDeep { secret, .. }) if secret == is_secret),
                "{path}"
            );
        }
    }
}
