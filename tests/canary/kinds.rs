//! A secret in every field that is there to hold one, and where somebody may put it by mistake.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use signalbox::proto::v1::{
    DatabaseOption, DatabaseSpec, DatabaseType, HeaderValue, NotificationChannelSpec,
    NotificationChannelType, Resource, Secret, database_option, header_value, resource::Spec,
};

use crate::{
    api::secret,
    cases::{Row, resource, resources},
};

/// Fields that the server fills in itself, and refuses from a caller.
const MADE_BY_THE_SERVER: [&str; 2] =
    ["signalbox.v1.ApiKeySpec.previous_secret", "signalbox.v1.VirtualKeySpec.key_hash"];

/// Resources of the kinds that are not as simple as a key.
pub fn rows() -> Vec<Row> {
    vec![
        ("database password", true, |canary, n| database(n, |spec| spec.password = Some(secret(canary)))),
        ("database option", true, |canary, n| {
            database(n, |spec| {
                let value = Some(database_option::Value::Secret(secret(canary)));
                spec.options.insert("sslpassword".into(), DatabaseOption { value });
            })
        }),
        ("database option in the clear", false, |canary, n| {
            database(n, |spec| {
                let value = Some(database_option::Value::Plain(canary.into()));
                spec.options.insert("sslpassword".into(), DatabaseOption { value });
            })
        }),
        ("database URL for a host", false, |canary, n| {
            database(n, |spec| spec.host = format!("postgres://me:{canary}@db.example/app"))
        }),
        ("database option for the password", false, |canary, n| {
            database(n, |spec| {
                let value = Some(database_option::Value::Plain(canary.into()));
                spec.options.insert("password".into(), DatabaseOption { value });
            })
        }),
        ("notification URL", true, |canary, n| channel(n, |spec| spec.url = Some(hook(canary)))),
        ("notification signature", true, |canary, n| {
            channel(n, |spec| spec.signing_secret = Some(secret(canary)))
        }),
        ("notification header", true, |canary, n| {
            channel(n, |spec| {
                let value = Some(header_value::Value::Secret(secret(canary)));
                spec.headers.insert("x-token".into(), HeaderValue { value });
            })
        }),
        ("notification URL that is none", false, |canary, n| {
            channel(n, |spec| spec.url = Some(secret(&format!("https://hooks.example/{canary}"))))
        }),
        ("notification URL of a private network", false, |canary, n| {
            channel(n, |spec| {
                let url = hook(canary).value().replace("hooks.example", "10.0.0.1");
                spec.url = Some(secret(&url));
            })
        }),
        ("notification selector", false, |canary, n| {
            channel(n, |spec| spec.selectors = vec![canary.to_owned()])
        }),
    ]
}

/// A URL that holds a secret as such URLs do.
fn hook(canary: &str) -> Secret {
    let encoded = |byte: u8| match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    secret(&format!("https://hooks.example/services/{}", canary.bytes().map(encoded).collect::<String>()))
}

fn channel(number: usize, change: impl FnOnce(&mut NotificationChannelSpec)) -> Resource {
    let mut spec = NotificationChannelSpec {
        r#type: NotificationChannelType::Webhook.into(),
        url: Some(secret("https://hooks.example/")),
        ..Default::default()
    };
    change(&mut spec);
    resource(format!("notificationChannels/c{number}"), Spec::NotificationChannel(spec))
}

fn database(number: usize, change: impl FnOnce(&mut DatabaseSpec)) -> Resource {
    let mut spec = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host: "db.example".into(),
        ..Default::default()
    };
    change(&mut spec);
    resource(format!("databases/d{number}"), Spec::Database(spec))
}

/// The fields that can hold a secret, by their full names.
fn secret_fields(message: &MessageDescriptor, found: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        let prost_reflect::Kind::Message(inner) = field.kind() else { continue };
        if inner.full_name() == "signalbox.v1.Secret" {
            found.insert(field.full_name().to_owned());
        } else {
            secret_fields(&inner, found, seen);
        }
    }
}

/// Those of them that a message has a value in.
fn used_fields(message: &DynamicMessage, used: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        let messages: Vec<&DynamicMessage> = match value {
            Value::Message(message) => vec![message],
            Value::List(items) => items.iter().filter_map(Value::as_message).collect(),
            Value::Map(entries) => entries.values().filter_map(Value::as_message).collect(),
            _ => vec![],
        };
        for inner in messages {
            if inner.descriptor().full_name() == "signalbox.v1.Secret" {
                used.insert(field.full_name().to_owned());
            } else {
                used_fields(inner, used);
            }
        }
    }
}

#[test]
fn every_secret_field_of_every_kind_has_its_case() {
    let (mut fields, mut used) = (BTreeSet::new(), BTreeSet::new());
    secret_fields(&Resource::default().descriptor(), &mut fields, &mut BTreeSet::new());
    for (_, succeeds, make) in resources() {
        if succeeds {
            used_fields(&make("canary", 0).transcode_to_dynamic(), &mut used);
        }
    }
    used.extend(MADE_BY_THE_SERVER.map(str::to_owned));
    assert!(fields.contains("signalbox.v1.DatabaseSpec.password"), "{fields:?}");
    assert_eq!(fields, used, "the left ones are all, the right ones have a case that succeeds");
}
