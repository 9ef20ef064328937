//! Specs as dynamic messages, for what is done to all kinds alike.
//!
//! The way there and back is by bytes. The buffers are wiped, because the bytes may hold secrets.

use prost::Message;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use zeroize::Zeroizing;

use crate::{
    domain::record::{Labels, Spec},
    proto::v1::{Resource, Secret},
};

/// Descriptor of `Resource`.
pub(super) fn resource() -> MessageDescriptor {
    Resource::default().descriptor()
}

/// The arms of `Resource.spec`.
pub(super) fn arms() -> Vec<FieldDescriptor> {
    let spec = resource().oneofs().find(|oneof| oneof.name() == "spec");
    spec.map(|spec| spec.fields().collect()).unwrap_or_default()
}

/// The arm of a kind.
pub(super) fn arm(name: &str) -> Option<FieldDescriptor> {
    arms().into_iter().find(|field| field.name() == name)
}

/// The enumeration that the field at a path is of; the path begins with the arm, and may hold indices and keys.
pub(super) fn enumeration_at(path: &str) -> Option<EnumDescriptor> {
    let mut segments = path.split('.');
    let mut field = arm(segments.next()?)?;
    loop {
        if field.is_map() {
            // The key.
            segments.next()?;
        }
        let kind = match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
            kind => kind,
        };
        let message = match kind {
            Kind::Enum(found) => return Some(found),
            Kind::Message(message) => message,
            _ => return None,
        };
        field = message.get_field_by_name(segments.next()?.split('[').next()?)?;
    }
}

/// Whether a message is a secret.
pub(super) fn is_secret(message: &MessageDescriptor) -> bool {
    message.full_name() == "signalbox.v1.Secret"
}

/// A resource that holds nothing but this spec.
pub(super) fn to_dynamic(spec: &Spec) -> DynamicMessage {
    // As large as it will be, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(spec.encoded_len()));
    spec.encode(&mut *bytes);
    DynamicMessage::decode(resource(), bytes.as_slice())
        .unwrap_or_else(|error| unreachable!("a spec is not its own descriptor's: {error}"))
}

/// A resource that holds nothing but labels and a spec.
pub(super) fn to_dynamic_with(labels: &Labels, spec: Option<&Spec>) -> DynamicMessage {
    let mut message = spec.map_or_else(|| DynamicMessage::new(resource()), to_dynamic);
    let entries =
        labels.iter().map(|(key, value)| (MapKey::String(key.clone()), Value::String(value.clone())));
    message.set_field_by_name("labels", Value::Map(entries.collect()));
    message
}

/// The typed resource again.
pub(super) fn from_dynamic(message: &DynamicMessage) -> Resource {
    let mut bytes = Zeroizing::new(Vec::with_capacity(message.encoded_len()));
    message
        .encode(&mut *bytes)
        .map_err(|error| error.to_string())
        .and_then(|()| Resource::decode(bytes.as_slice()).map_err(|error| error.to_string()))
        .unwrap_or_else(|error| unreachable!("a resource is not its own descriptor's: {error}"))
}

/// Calls `visit` with the path of every secret in the message, and the secret.
pub(super) fn visit_secrets(message: &mut DynamicMessage, visit: &mut dyn FnMut(&str, &mut DynamicMessage)) {
    visit_fields(message, &mut String::new(), visit);
}

fn visit_fields(
    message: &mut DynamicMessage,
    path: &mut String,
    visit: &mut dyn FnMut(&str, &mut DynamicMessage),
) {
    for (field, value) in message.fields_mut() {
        within(path, field.name(), |path| match value {
            Value::List(values) => {
                for (index, value) in values.iter_mut().enumerate() {
                    within(path, &index.to_string(), |path| visit_value(value, path, visit));
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    within(path, &key_text(key), |path| visit_value(value, path, visit));
                }
            }
            value => visit_value(value, path, visit),
        });
    }
}

fn visit_value(value: &mut Value, path: &mut String, visit: &mut dyn FnMut(&str, &mut DynamicMessage)) {
    match value {
        Value::Message(message) if is_secret(&message.descriptor()) => visit(path, message),
        Value::Message(message) => visit_fields(message, path, visit),
        _ => {}
    }
}

/// Calls `visit` with the path of every text in the message, and the text.
pub(super) fn visit_texts(message: &DynamicMessage, visit: &mut dyn FnMut(&str, &str)) {
    texts_of(message, "", visit);
}

fn texts_of(message: &DynamicMessage, path: &str, visit: &mut dyn FnMut(&str, &str)) {
    let dot = if path.is_empty() { "" } else { "." };
    for (field, value) in message.fields() {
        let path = format!("{path}{dot}{}", field.name());
        match value {
            Value::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    text_of(value, &format!("{path}[{index}]"), visit);
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    text_of(value, &format!("{path}.{}", key_text(key)), visit);
                }
            }
            value => text_of(value, &path, visit),
        }
    }
}

fn text_of(value: &Value, path: &str, visit: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => visit(path, text),
        Value::Message(message) => texts_of(message, path, visit),
        _ => {}
    }
}

/// Puts the secrets of another message into the fields of this one that nothing is in, wherever both have the same place;
/// `wanted` is asked for each by its path. Says whether there were any.
pub(super) fn adopt_secrets(
    message: &mut DynamicMessage,
    other: &DynamicMessage,
    wanted: &dyn Fn(&str) -> bool,
) -> bool {
    adopt_fields(message, other, &mut String::new(), wanted)
}

fn adopt_fields(
    message: &mut DynamicMessage,
    other: &DynamicMessage,
    path: &mut String,
    wanted: &dyn Fn(&str) -> bool,
) -> bool {
    let mut adopted = false;
    for (field, value) in other.fields() {
        within(path, field.name(), |path| match value {
            Value::Message(secret) if is_secret(&secret.descriptor()) => {
                let alternatives = field.containing_oneof();
                let taken =
                    alternatives.is_some_and(|oneof| oneof.fields().any(|other| message.has_field(&other)));
                if !taken && !message.has_field(&field) && wanted(path) {
                    message.set_field(&field, value.clone());
                    adopted = true;
                }
            }
            Value::Message(inner) if message.has_field(&field) => {
                if let Some(own) = message.get_field_mut(&field).as_message_mut() {
                    adopted |= adopt_fields(own, inner, path, wanted);
                }
            }
            Value::Map(entries) if message.has_field(&field) => {
                let Some(own) = message.get_field_mut(&field).as_map_mut() else { return };
                for (key, own) in own {
                    let inner = entries.get(key).and_then(Value::as_message);
                    if let (Some(own), Some(inner)) = (own.as_message_mut(), inner) {
                        adopted |=
                            within(path, &key_text(key), |path| adopt_fields(own, inner, path, wanted));
                    }
                }
            }
            _ => {}
        });
    }
    adopted
}

/// Runs `inside` with the path longer by one segment.
fn within<T>(path: &mut String, segment: &str, inside: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(segment);
    let result = inside(path);
    path.truncate(length);
    result
}

/// A map's key as text.
pub(super) fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
    }
}

/// Wipes every secret's value before the message is dropped.
pub(super) fn wipe_secrets(mut message: DynamicMessage) {
    visit_secrets(&mut message, &mut |_, secret| drop(take_secret(secret).value.map(Zeroizing::new)));
}

/// Reads a dynamic secret; the plaintext moves out of it.
pub(super) fn take_secret(message: &mut DynamicMessage) -> Secret {
    let value = match message.take_field_by_name("value") {
        Some(Value::String(value)) => Some(value),
        _ => None,
    };
    let state = message.get_field_by_name("state").and_then(|state| state.as_enum_number());
    Secret { value, state: state.unwrap_or_default() }
}

/// Writes a dynamic secret.
pub(super) fn put_secret(message: &mut DynamicMessage, secret: Secret) {
    match secret.value {
        Some(value) => message.set_field_by_name("value", Value::String(value)),
        None => message.clear_field_by_name("value"),
    }
    message.set_field_by_name("state", Value::EnumNumber(secret.state));
}
