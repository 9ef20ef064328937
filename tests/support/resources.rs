//! Resources as tests make them, and their secrets: where they are, how they are taken out and put in.
//!
//! Written by hand for each kind, and not with the server's own walk over descriptors, which it is to check.

use std::collections::BTreeMap;

use signalbox::proto::v1::{
    ApiKeySpec, HeaderValue, ProviderSpec, ProviderType, Resource, Secret, Selector, SettingSpec,
    database_option, header_value, resource::Spec, secret::State, selector::Pattern, setting_spec::Value,
};

/// Every secret of every test holds this, and nothing else does: what carries it, carries a secret.
pub const CANARY: &str = "CaNaRy";

/// Secrets of one resource by field path.
pub type Secrets = BTreeMap<String, String>;

pub fn named(name: &str, spec: Spec) -> Resource {
    Resource { name: name.to_owned(), spec: Some(spec), ..Resource::default() }
}

pub fn provider(name: &str) -> Resource {
    let spec = ProviderSpec {
        r#type: ProviderType::Openai.into(),
        display_name: "Made by a test".to_owned(),
        ..ProviderSpec::default()
    };
    named(name, Spec::Provider(spec))
}

pub fn api_key(name: &str, secret: &str) -> Resource {
    let spec = ApiKeySpec { secret: Some(given(secret)), ..ApiKeySpec::default() };
    named(name, Spec::ApiKey(spec))
}

pub fn setting(name: &str, value: impl Into<String>) -> Resource {
    let value = Some(Value::StringValue(value.into()));
    named(name, Spec::Setting(SettingSpec { value, ..SettingSpec::default() }))
}

pub fn secret_setting(name: &str, secret: &str) -> Resource {
    let value = Some(Value::SecretValue(given(secret)));
    named(name, Spec::Setting(SettingSpec { value, ..SettingSpec::default() }))
}

pub fn labelled(mut resource: Resource, labels: &[(&str, &str)]) -> Resource {
    resource.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    resource
}

/// A secret header of a provider.
pub fn with_header(mut provider: Resource, name: &str, secret: &str) -> Resource {
    if let Some(Spec::Provider(spec)) = &mut provider.spec {
        let value = HeaderValue { value: Some(header_value::Value::Secret(given(secret))) };
        spec.headers.insert(name.to_owned(), value);
    }
    provider
}

pub fn given(secret: &str) -> Secret {
    Secret { value: Some(secret.to_owned()), state: State::Unspecified.into() }
}

pub fn by_name(name: &str) -> Selector {
    Selector { pattern: Some(Pattern::Name(name.to_owned())), ..Selector::default() }
}

pub fn by_prefix(prefix: &str) -> Selector {
    Selector { pattern: Some(Pattern::Prefix(prefix.to_owned())), ..Selector::default() }
}

pub fn by_kind(kind: &str) -> Selector {
    Selector { pattern: Some(Pattern::Kind(kind.to_owned())), ..Selector::default() }
}

pub fn narrowed(mut selector: Selector, key: &str, value: &str) -> Selector {
    selector.labels.insert(key.to_owned(), value.to_owned());
    selector
}

/// Name of the arm that a resource holds.
pub fn kind(resource: &Resource) -> &'static str {
    match &resource.spec {
        Some(Spec::Provider(_)) => "provider",
        Some(Spec::ApiKey(_)) => "api_key",
        Some(Spec::Setting(_)) => "setting",
        Some(_) => "another",
        None => "",
    }
}

/// Every secret of a resource, by its path.
pub fn secrets_in(resource: &mut Resource) -> Vec<(String, &mut Secret)> {
    match &mut resource.spec {
        Some(Spec::Provider(spec)) => secret_headers(&mut spec.headers).collect(),
        Some(Spec::ApiKey(spec)) => {
            spec.secret.iter_mut().map(|secret| ("secret".to_owned(), secret)).collect()
        }
        Some(Spec::Setting(spec)) => match &mut spec.value {
            Some(Value::SecretValue(secret)) => vec![("secret_value".to_owned(), secret)],
            _ => Vec::new(),
        },
        Some(Spec::Database(spec)) => {
            let options = spec.options.iter_mut().filter_map(|(name, option)| match &mut option.value {
                Some(database_option::Value::Secret(secret)) => Some((format!("options.{name}"), secret)),
                _ => None,
            });
            let password = spec.password.iter_mut().map(|secret| ("password".to_owned(), secret));
            options.chain(password).collect()
        }
        Some(Spec::VirtualKey(spec)) => {
            spec.key_hash.iter_mut().map(|secret| ("key_hash".to_owned(), secret)).collect()
        }
        Some(Spec::NotificationChannel(spec)) => {
            let url = spec.url.iter_mut().map(|secret| ("url".to_owned(), secret));
            let signing = spec.signing_secret.iter_mut().map(|secret| ("signing_secret".to_owned(), secret));
            url.chain(signing).chain(secret_headers(&mut spec.headers)).collect()
        }
        // Kinds without secrets.
        _ => Vec::new(),
    }
}

fn secret_headers(
    headers: &mut BTreeMap<String, HeaderValue>,
) -> impl Iterator<Item = (String, &mut Secret)> {
    headers.iter_mut().filter_map(|(name, header)| match &mut header.value {
        Some(header_value::Value::Secret(secret)) => Some((format!("headers.{name}"), secret)),
        _ => None,
    })
}

/// The values that a resource carries.
pub fn values_in(resource: &Resource) -> Secrets {
    let mut resource = resource.clone();
    let values =
        secrets_in(&mut resource).into_iter().filter_map(|(path, secret)| Some((path, secret.value.take()?)));
    values.collect()
}

/// The resource without the values of its secrets.
pub fn masked(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    secrets_in(&mut resource).into_iter().for_each(|(_, secret)| secret.value = None);
    resource
}

/// The masked resource with the values of its secrets.
pub fn opened(masked: &Resource, values: &Secrets) -> Resource {
    let mut resource = masked.clone();
    for (path, secret) in secrets_in(&mut resource) {
        secret.value = values.get(&path).cloned();
    }
    resource
}

/// Whether bytes hold a text.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    let (text, first) = (text.as_bytes(), text.as_bytes()[0]);
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(index, _)| index);
    starts.into_iter().any(|start| bytes[start..].starts_with(text))
}
