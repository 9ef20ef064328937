//! Documents: what `set -f` takes, and what it refuses.

use super::{
    super::{document::read_all, session},
    fields::provider,
    with_session,
};
use crate::{
    cli::session::Format,
    proto::v1::{self, ProviderType},
};

const YAML: &str = "\
name: providers/groq
uid: output-only
labels: {env: prod}
provider:
  type: groq
  displayName: Groq
  auth: {header_template: 'x: {api_key}'}
  headers:
    X-A: {plain: v}
  models: [a, b]
  enabled: false
---
name: providers/groq/apiKeys/prod
api_key:
  secret: {value: gsk}
---
name: settings/timeout
setting: {durationValue: 1.500s, description: null}
";

#[test]
fn documents_are_read_in_both_spellings() {
    let documents = read_all(YAML, false, None).unwrap();
    assert_eq!(documents.len(), 3);
    assert_eq!(
        documents[0].mask,
        [
            "labels",
            "provider.auth.header_template",
            "provider.display_name",
            "provider.enabled",
            "provider.headers",
            "provider.models",
            "provider.type"
        ]
    );
    assert_eq!(documents[0].resource.uid, "", "what only the server fills in is read over");
    assert_eq!(provider(documents[0].resource.clone()).r#type(), ProviderType::Groq);
    assert_eq!(documents[1].mask, ["api_key.secret"]);
    assert_eq!(documents[2].mask, ["setting.description", "setting.duration_value"]);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let resources: Vec<v1::Resource> =
        read_all(YAML, false, None).unwrap().into_iter().map(|document| document.resource).collect();
    for (format, is_json) in [(Format::Json, true), (Format::Yaml, false)] {
        let json = session::canonical_all(&resources).unwrap();
        let (done, out, _) = with_session(format, "", |session| session.documents(&json));
        assert!(done.unwrap());
        let again = read_all(&out, is_json, None).unwrap().into_iter().map(|document| document.resource);
        assert_eq!(again.collect::<Vec<_>>(), resources, "{out}");
    }
    let listed =
        format!("{{\"resources\": {}}}", serde_json::json!(session::canonical_all(&resources).unwrap()));
    assert_eq!(read_all(&listed, true, None).unwrap().len(), 3);
}

#[test]
fn wrong_documents_are_refused_with_their_path() {
    let deep =
        format!("{{\"name\": \"settings/x\", \"setting\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_yaml = format!("name: settings/x\nsetting: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: &[(&str, bool, &str)] = &[
        (
            "{name: settings/x, setting: {nonsense: 1}}",
            false,
            "settings/x: setting.nonsense: there is no such field",
        ),
        (
            "{name: providers/x, provider: {headers: {A: {b: 1}}}}",
            false,
            "providers/x: provider.headers[A].b: there is no",
        ),
        (
            "{name: providers/x, provider: {models: [a, 5]}}",
            false,
            "provider.models[1]: must be text; write it in quotes",
        ),
        ("{name: providers/x, provider: {models: a}}", false, "provider.models: must be a list, but is text"),
        (
            "{name: providers/x, provider: {enabled: 'no'}}",
            false,
            "provider.enabled: must be true or false, but is text",
        ),
        ("{name: providers/x, provider: {auth: bearer}}", false, "provider.auth: must be a map, but is text"),
        (
            "{name: providers/x, provider: {display_name: a, displayName: b}}",
            false,
            "stands beside `display_name`",
        ),
        ("{name: settings/x, setting: {int_value: 1, bool_value: true}}", false, "stands beside `int_value`"),
        ("{\"name\": \"settings/x\", \"name\": \"settings/y\"}", true, "the key `name` is given twice"),
        ("name: settings/x\nname: settings/y", false, "name"),
        ("{provider: {type: groq}}", false, "document 1: name: is missing"),
        (
            "{name: settings/x, provider: {type: groq}}",
            false,
            "settings/x: provider: does not go with the name, which is of the kind setting",
        ),
        (
            "{name: settings/x, value: 5}",
            false,
            "settings/x: value: there is no such field; what it holds stands beneath `setting`: ",
        ),
        ("[{name: settings/x}, {name: settings/x}]", false, "settings/x: is given twice"),
        ("just text", false, "document 1: is text; a resource is a map"),
        ("", false, "holds no resource"),
        ("{\"name\": ", true, "EOF"),
        (&deep, true, "nested deeper than 64 levels"),
        (&deep_yaml, false, ""),
    ];
    for (text, is_json, expected) in cases {
        let wrong = read_all(text, *is_json, None).expect_err(expected);
        assert!(wrong.contains(expected), "{expected}: {wrong}");
    }
    let several = read_all("{name: settings/x, a: 1, b: 2}\n---\n{c: 3}", false, None).unwrap_err();
    assert_eq!(several.lines().count(), 4, "{several}");
    let hidden =
        read_all("{name: providers/x/apiKeys/y, api_key: {secret: sk-123}}", false, None).unwrap_err();
    assert!(hidden.contains("api_key.secret: must be a map") && !hidden.contains("sk-123"), "{hidden}");
}

#[test]
fn a_name_can_be_given_beside_a_document() {
    let read = |text| read_all(text, false, Some("settings/x"));
    assert_eq!(read("{setting: {int_value: 1}}").unwrap()[0].resource.name, "settings/x");
    assert!(read("{name: settings/y}").unwrap_err().contains("is not settings/x"));
}

#[test]
fn regression_an_empty_group_is_mentioned_and_both_spellings_are_named() {
    let text = "{name: providers/x, provider: {requestBuilder: {}}}";
    let documents = read_all(text, false, None).unwrap();
    assert_eq!(documents[0].mask, ["provider.request_builder"]);
    let text = "{name: providers/x, provider: {display_name: a, displayName: b}}";
    let told = read_all(text, false, None).unwrap_err();
    assert!(
        told.contains("provider.displayName: stands beside `display_name`, which is the same field"),
        "{told}"
    );
}
