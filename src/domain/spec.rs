//! Specs as canonical proto JSON: what the database holds, what the log hashes, what a person reads there.
//!
//! The text is `{"<arm>":{...}}` with keys sorted, so that the same content always has the same bytes.

use prost_reflect::{DeserializeOptions, DynamicMessage, ReflectMessage, SerializeOptions};
use serde_json::Value;

use super::{KindName, record::Spec};
use crate::proto::v1::Resource;

include!(concat!(env!("OUT_DIR"), "/spec_arms.rs"));

/// Why a text is not a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a spec: {0}")]
pub struct SpecError(String);

/// The kind with this name, if the API has it.
#[must_use]
pub fn kind_named(name: &str) -> Option<KindName> {
    kinds().find(|kind| kind.0 == name)
}

/// All kinds that the API has an arm for.
pub fn kinds() -> impl Iterator<Item = KindName> {
    ARMS.iter().copied().map(KindName)
}

/// The kind that a spec belongs to.
#[must_use]
pub fn kind_of(spec: &Spec) -> KindName {
    KindName(arm(spec))
}

/// Writes a spec as canonical JSON.
///
/// # Errors
/// When the spec holds something that JSON can't: the caller has checked it before, so this is a defect.
pub fn to_json(spec: &Spec) -> Result<String, SpecError> {
    Ok(to_value(spec)?.to_string())
}

/// A spec as a JSON value, `{"<arm>":{...}}`.
///
/// # Errors
/// As [`to_json`].
pub fn to_value(spec: &Spec) -> Result<Value, SpecError> {
    let resource = Resource { spec: Some(spec.clone()), ..Resource::default() };
    resource
        .transcode_to_dynamic()
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|error| SpecError(error.to_string()))
}

/// Reads a spec that [`to_json`] wrote. Fields of a newer binary are ignored.
///
/// # Errors
/// When the text is no spec of a kind that this binary knows.
pub fn from_json(text: &str) -> Result<Spec, SpecError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let dynamic = DynamicMessage::deserialize_with_options(
        Resource::default().descriptor(),
        &mut deserializer,
        &options,
    )
    .map_err(|error| SpecError(error.to_string()))?;
    deserializer.end().map_err(|error| SpecError(error.to_string()))?;
    let resource: Resource = dynamic.transcode_to().map_err(|error| SpecError(error.to_string()))?;
    resource.spec.ok_or_else(|| SpecError("no arm is set".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{HeaderValue, ProviderSpec, header_value};

    #[test]
    fn json_is_canonical_and_reads_back() {
        let mut provider = ProviderSpec {
            r#type: 5,
            display_name: "Groq".into(),
            enabled: Some(true),
            ..Default::default()
        };
        for name in ["X-B", "X-A", "X-C"] {
            let value = Some(header_value::Value::Plain(name.to_lowercase()));
            provider.headers.insert(name.into(), HeaderValue { value });
        }
        let spec = Spec::Provider(provider);
        let json = to_json(&spec).unwrap();
        assert_eq!(
            json,
            r#"{"provider":{"displayName":"Groq","enabled":true,"headers":{"X-A":{"plain":"x-a"},"X-B":{"plain":"x-b"},"X-C":{"plain":"x-c"}},"type":"PROVIDER_TYPE_GROQ"}}"#
        );
        assert_eq!(from_json(&json).unwrap(), spec);
        assert_eq!(kind_named(kind_of(&spec).0), Some(kind_of(&spec)));
    }

    #[test]
    fn every_arm_is_known() {
        let first: Vec<&str> = kinds().map(|kind| kind.0).take(5).collect();
        assert_eq!(first, ["provider", "api_key", "setting", "model", "prompt_template"]);
    }
}
