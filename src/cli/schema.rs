//! What the descriptors say of resources: which kind a name belongs to, and which fields there are.
//!
//! New kinds follow from the proto files without a change here.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, ReflectMessage};

use crate::proto::v1;

/// Fields of a resource that the server fills in; they are read over in documents, so that what `get` printed can
/// be edited and given back.
pub const OUTPUT_ONLY: [&str; 8] = [
    "uid",
    "version",
    "create_revision",
    "update_revision",
    "create_time",
    "update_time",
    "updated_by",
    "observations",
];

/// The descriptor of `Resource`.
#[must_use]
pub fn resource() -> MessageDescriptor {
    v1::Resource::default().descriptor()
}

/// The arms of `Resource.spec`.
pub fn arms() -> impl Iterator<Item = FieldDescriptor> {
    resource()
        .fields()
        .filter(|field| field.containing_oneof().is_some_and(|oneof| oneof.name() == "spec"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The arm that belongs to a name.
#[must_use]
pub fn arm_of_name(name: &str) -> Option<FieldDescriptor> {
    let segments: Vec<&str> = name.split('/').collect();
    match segments.as_slice() {
        [.., collection, _] if segments.len().is_multiple_of(2) => arm_of_collection(collection),
        // `models/{provider}/{model}` has an id of two segments.
        [collection, ..] => arm_of_collection(collection),
        [] => None,
    }
}

/// The arm that belongs to a collection: `apiKeys` holds `api_key`.
#[must_use]
pub fn arm_of_collection(collection: &str) -> Option<FieldDescriptor> {
    let snake = snake_case(collection);
    let singular = match snake.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => snake.strip_suffix('s')?.to_owned(),
    };
    arms().find(|arm| arm.name() == singular)
}

/// The arm of a kind, in either spelling: `api_key`, `apiKey`.
#[must_use]
pub fn arm_of_kind(kind: &str) -> Option<FieldDescriptor> {
    arms().find(|arm| arm.name() == kind || arm.json_name() == kind)
}

/// A field by its name in either spelling.
#[must_use]
pub fn field(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(key).or_else(|| message.get_field_by_json_name(key))
}

/// The message that a field holds, if it holds one that has fields of ours.
#[must_use]
pub fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

/// Whether a message is `Secret`.
#[must_use]
pub fn is_secret(message: &MessageDescriptor) -> bool {
    message.full_name() == "signalbox.v1.Secret"
}

/// Whether a message is a moment.
#[must_use]
pub fn is_timestamp(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}

/// Whether a message is written as one value, like `google.protobuf.Duration`.
#[must_use]
pub fn is_well_known(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

/// Whether a message is fields beneath a field: neither one value nor a secret.
#[must_use]
pub fn is_group(message: &MessageDescriptor) -> bool {
    !is_well_known(message) && !is_secret(message)
}

/// A `oneof` that was written as such, not the one that stands for `optional`.
#[must_use]
pub fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| oneof.fields().len() > 1)
}

/// The names of a message's fields, for an error.
#[must_use]
pub fn field_names(message: &MessageDescriptor) -> String {
    message.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>().join(", ")
}

/// The names of the kinds, for an error.
#[must_use]
pub fn kind_names() -> String {
    arms().map(|arm| arm.name().to_owned()).collect::<Vec<_>>().join(", ")
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_kind() {
        let arm = |name| arm_of_name(name).map(|arm| arm.name().to_owned());
        assert_eq!(arm("providers/groq").as_deref(), Some("provider"));
        assert_eq!(arm("providers/groq/apiKeys/prod").as_deref(), Some("api_key"));
        assert_eq!(arm("settings/maxRetries").as_deref(), Some("setting"));
        assert_eq!(arm("users/alice/settings/max_retries").as_deref(), Some("setting"));
        for (name, kind) in [
            ("databases/main", "database"),
            ("virtualKeys/team-a", "virtual_key"),
            ("notificationChannels/ops", "notification_channel"),
            ("featureFlags/new_ui", "feature_flag"),
            ("cachePolicies/default", "cache_policy"),
        ] {
            assert_eq!(arm(name).as_deref(), Some(kind));
        }
        assert_eq!(arm("nonsense/x"), None);
        assert_eq!(arm("providers"), Some("provider".to_owned()));
        assert_eq!(arm(""), None);
    }
}
