//! Every field of every kind: one example that is taken and one that is refused, with the field's path and with what would be
//! right; alike on both databases.
//!
//! The examples lie in `tests/examples/{kind}.yaml`; `tests/support/examples.rs` says what stands there. Whoever adds a field without an example is told here which one is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage};
use serde_json::{Map, Value, json};
use signalbox::proto::v1::{CreateResourceRequest, GetResourceRequest, Resource};
use tonic_types::StatusExt as _;

use crate::{
    harness::{Home, Server, api::Api},
    postgres,
    support::examples::{Examples, arms, examples, merge, put, targets},
};

/// A spec that is sent, and what is to come of it: nothing, or a refusal of a field that says something.
struct Case {
    what: String,
    resource: Resource,
    refusal: Option<(String, String)>,
}

/// The message that stands in a field, unless that is written as one value.
fn message_in(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    match kind {
        Kind::Message(message)
            if message.full_name() != "signalbox.v1.Secret"
                && message.package_name() != "google.protobuf" =>
        {
            Some(message)
        }
        _ => None,
    }
}

/// Every field of a message that holds a value, by its path without indices and keys. Messages that hold themselves are
/// gone into once.
fn leaves(message: &MessageDescriptor, path: &str, above: &[String], found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let here = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        match message_in(&field) {
            Some(below) if above.contains(&below.full_name().to_owned()) => {}
            Some(below) => leaves(&below, &here, &[above, &[below.full_name().to_owned()]].concat(), found),
            None => drop(found.insert(here)),
        }
    }
}

/// The path of a field without indices and keys.
fn bare(message: &MessageDescriptor, at: &str) -> String {
    let (mut message, mut names) = (Some(message.clone()), Vec::new());
    let mut parts = at.split('.');
    while let Some(part) = parts.next() {
        let name = part.split('[').next().unwrap_or_default();
        let here = message.unwrap_or_else(|| panic!("{at} goes beyond a value"));
        let field = here.get_field_by_name(name).unwrap_or_else(|| panic!("{at}: there is no {name}"));
        if field.is_map() {
            // The key, where it is given.
            parts.next();
        }
        names.push(name.to_owned());
        message = message_in(&field);
    }
    names.join(".")
}

/// The cases of a kind, each with a name of its own.
fn cases(arm: &FieldDescriptor, examples: &Examples) -> Vec<Case> {
    let kind = arm.name();
    let mut cases = Vec::new();
    let mut add = |at: &str, with: &Map<String, Value>, value: &Value, refusal: Option<(String, String)>| {
        let mut spec = examples.base.clone();
        merge(&mut spec, with);
        put(&mut spec, at, value.clone());
        let name = format!("{}{}", examples.name, cases.len());
        let document = json!({"name": name, kind: spec});
        let read = DynamicMessage::deserialize(Resource::default().descriptor(), document);
        let read = read.unwrap_or_else(|error| panic!("{kind}.{at}: {error}"));
        let resource = read.transcode_to().unwrap();
        let what = format!("{kind}.{at}, {}", if refusal.is_some() { "invalid" } else { "valid" });
        cases.push(Case { what, resource, refusal });
    };
    for field in &examples.fields {
        let path = field.path.as_deref().unwrap_or(&field.at);
        add(&field.at, &field.with, &field.valid, None);
        let refusal = (format!("resource.{kind}.{path}"), field.says.clone());
        add(&field.at, &field.with, &field.invalid, Some(refusal));
    }
    for field in &examples.free {
        assert!(!field.why.is_empty());
        add(&field.at, &field.with, &field.valid, None);
    }
    for field in &examples.made {
        let refusal = (format!("resource.{kind}.{}", field.at), field.says.clone());
        add(&field.at, &Map::new(), &field.invalid, Some(refusal));
    }
    cases
}

/// What a server makes of all cases: the spec as it is stored then, or every violation.
async fn outcomes(api: &mut Api, cases: &[Case]) -> Vec<Result<String, BTreeMap<String, String>>> {
    let create =
        |resource: Resource| CreateResourceRequest { resource: Some(resource), ..Default::default() };
    for target in targets() {
        let read = DynamicMessage::deserialize(Resource::default().descriptor(), target).unwrap();
        api.config.create_resource(create(read.transcode_to().unwrap())).await.expect("a target");
    }
    let mut outcomes = Vec::new();
    for case in cases {
        let outcome = match api.config.create_resource(create(case.resource.clone())).await {
            Ok(_) => {
                let request = GetResourceRequest { name: case.resource.name.clone(), ..Default::default() };
                let found = api.config.get_resource(request).await.expect("it was created").into_inner();
                let spec = found.resource.unwrap().spec;
                let made = matches!(spec, Some(signalbox::proto::v1::resource::Spec::VirtualKey(_)));
                // What is random differs.
                Ok(if made { String::new() } else { format!("{spec:?}") })
            }
            Err(status) => {
                let found =
                    status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
                let mut told: BTreeMap<String, String> =
                    found.into_iter().map(|found| (found.field, found.description)).collect();
                if told.is_empty() {
                    told.insert(String::new(), status.message().to_owned());
                }
                Err(told)
            }
        };
        outcomes.push(outcome);
    }
    outcomes
}

#[test]
fn every_field_of_every_kind_has_its_examples() {
    let mut missing = Vec::new();
    for arm in arms() {
        let message = message_in(&arm).unwrap();
        let examples = examples(arm.name());
        let mut wanted = BTreeSet::new();
        leaves(&message, "", &[message.full_name().to_owned()], &mut wanted);
        let given = examples.fields.iter().map(|field| &field.at);
        let given = given.chain(examples.free.iter().map(|field| &field.at));
        let given = given.chain(examples.made.iter().map(|field| &field.at));
        let given: BTreeSet<String> = given.map(|at| bare(&message, at)).collect();
        missing.extend(wanted.difference(&given).map(|path| format!("{}.{path}", arm.name())));
    }
    assert!(missing.is_empty(), "fields without an example in tests/examples/:\n{}", missing.join("\n"));
}

#[tokio::test]
async fn every_field_is_taken_or_refused_as_its_examples_say_on_both_databases() {
    let cases: Vec<Case> = arms().iter().flat_map(|arm| cases(arm, &examples(arm.name()))).collect();
    let sqlite = Server::start().await;
    let here = outcomes(&mut Api::admin(&sqlite).await, &cases).await;
    let mut wrong = Vec::new();
    for (case, outcome) in cases.iter().zip(&here) {
        let Case { what, refusal, .. } = case;
        match (refusal, outcome) {
            (None, Ok(_)) => {}
            (None, Err(told)) => wrong.push(format!("{what}: was refused: {told:?}")),
            (Some(_), Ok(_)) => wrong.push(format!("{what}: was taken")),
            (Some((field, says)), Err(told)) => match told.get(field) {
                Some(description) if !says.is_empty() && description.contains(says.as_str()) => {}
                _ => wrong.push(format!("{what}: {field} was to say {says:?}, but was told {told:?}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));

    let home = Home::new();
    let key = String::from_utf8(home.run(&["keys", "generate"]).await.stdout).unwrap();
    let home = home
        .with("SIGNALBOX_DATABASE_URL", postgres::shared().database().await)
        .with("ENCRYPTION_KEY", key.trim());
    let postgres = Server::start_in(&Arc::new(home)).await;
    let local = ["token", "create", "--local", "--role", "admin", "--ttl", "1h"];
    let token = String::from_utf8(postgres.home().run(&local).await.stdout).unwrap();
    let there = outcomes(&mut Api::with(&postgres, token.trim()).await, &cases).await;
    for ((case, here), there) in cases.iter().zip(&here).zip(&there) {
        assert_eq!(here, there, "{} on SQLite and on PostgreSQL", case.what);
    }
}
