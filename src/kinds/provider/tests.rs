//! For every field of a provider what is accepted, and what is refused under which path.

use super::*;
use crate::{
    kinds::{
        DISABLED, ENABLED, ROTATED, UPDATED,
        rules::shown,
        tests::{plan, secret, wrong},
    },
    proto::v1::{RequestBuilder, Secret, secret::State},
};

const NAME: &str = "providers/some";

fn groq() -> ProviderSpec {
    ProviderSpec { r#type: ProviderType::Groq.into(), ..Default::default() }
}

fn spec(change: impl FnOnce(&mut ProviderSpec)) -> Spec {
    let mut provider = groq();
    change(&mut provider);
    Spec::Provider(provider)
}

#[track_caller]
fn good(change: impl FnOnce(&mut ProviderSpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut ProviderSpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("provider.{path}")]);
}

fn header(name: &str, value: Value) -> impl FnOnce(&mut ProviderSpec) {
    let name = name.to_owned();
    move |spec| drop(spec.headers.insert(name, HeaderValue { value: Some(value) }))
}

fn plain(text: &str) -> Value {
    Value::Plain(text.to_owned())
}

fn auth(scheme: AuthScheme, template: &str) -> impl FnOnce(&mut ProviderSpec) {
    let auth = ProviderAuth { scheme: scheme.into(), header_template: template.to_owned() };
    move |spec| spec.auth = Some(auth)
}

#[test]
fn a_type_is_enough_where_there_is_one_address() {
    for row in &crate::kinds::provider_types::TYPES {
        let given = Spec::Provider(ProviderSpec { r#type: row.provider_type.into(), ..Default::default() });
        let fields = wrong(NAME, given);
        let expected: &[&str] = match (row.base_url, row.scheme) {
            (Some(_), _) => &[],
            (None, AuthScheme::Unspecified) => {
                &["provider.base_url", "provider.auth.scheme", "provider.endpoint_path"]
            }
            (None, _) => &["provider.base_url"],
        };
        assert_eq!(fields, expected, "{:?}", row.provider_type);
    }
}

#[test]
fn defaults_are_filled_in_and_leave_alone_what_is_given() {
    let (Spec::Provider(filled), _) = plan(NAME, spec(|_| ()), None) else { panic!() };
    assert_eq!(filled.base_url, "https://api.groq.com/openai/v1");
    assert_eq!(filled.endpoint_path, "/chat/completions");
    assert_eq!((filled.method(), filled.enabled), (HttpMethod::Post, Some(true)));
    assert_eq!(filled.auth.unwrap().scheme(), AuthScheme::Bearer);

    let given = spec(|spec| {
        spec.r#type = ProviderType::Anthropic.into();
        spec.base_url = "http://10.0.0.1:8080/x".into();
        spec.enabled = Some(false);
        header("Anthropic-Version", plain("2024-01-01"))(spec);
    });
    let (Spec::Provider(filled), violations) = plan(NAME, given, None) else { panic!() };
    assert_eq!(violations, []);
    assert_eq!(filled.base_url, "http://10.0.0.1:8080/x");
    assert_eq!(filled.enabled, Some(false));
    assert_eq!(filled.auth.unwrap().header_template, "x-api-key: {api_key}");
    assert_eq!(filled.headers.len(), 1);
}

#[test]
fn type_method_and_texts() {
    bad("type", |spec| spec.r#type = 0);
    bad("type", |spec| spec.r#type = 99);
    good(|spec| spec.method = HttpMethod::Put.into());
    bad("method", |spec| spec.method = 99);
    good(|spec| spec.display_name = "Groq 🚀".into());
    bad("display_name", |spec| spec.display_name = "x".repeat(201));
    bad("display_name", |spec| spec.display_name = "a\0".into());
    bad("display_name", |spec| spec.display_name = "\u{202E}a".into());
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "x".repeat(4097));
    good(|spec| spec.max_output_tokens = u32::MAX);
    good(|spec| spec.capabilities = Some(Default::default()));
}

#[test]
fn base_urls() {
    for url in ["https://a.example/v1", "HTTP://localhost:1/", "http://[::1]:8000/v1", "https://a/@cf/x"] {
        good(|spec| spec.base_url = url.into());
    }
    for url in [
        "a.example",
        "/v1",
        "https:a.example",
        "https://",
        "ftp://a.example",
        "https://u:p@a.example",
        "https://u@a.example",
        "https://@a.example",
        "https://a.example?x=1",
        "https://a.example#x",
        "https://a b",
        "https://a\n",
        "https://{resource}.example",
        "https://a.example\\@b",
        "https://ä.example",
        "javascript://x",
        "https://a:99999/",
        &format!("https://a/{}", "x".repeat(2048)),
    ] {
        bad("base_url", |spec| spec.base_url = url.into());
    }
}

#[test]
fn authentication() {
    good(auth(AuthScheme::None, ""));
    good(auth(AuthScheme::Header, "x-api-key: {api_key}"));
    good(auth(AuthScheme::Header, "Authorization: Token {api_key}"));
    bad("auth.scheme", |spec| spec.auth = Some(ProviderAuth { scheme: 9, ..Default::default() }));
    for template in [
        "",
        "x-api-key",
        "x-api-key: secret",
        "x-api-key: {api_key}{api_key}",
        "x-api-key: {key}",
        "x y: {api_key}",
        "Host: {api_key}",
        "x: {api_key}\r\ny: 1",
        ": {api_key}",
    ] {
        bad("auth.header_template", auth(AuthScheme::Header, template));
    }
    bad("auth.header_template", auth(AuthScheme::Bearer, "x-api-key: {api_key}"));
}

#[test]
fn endpoint_paths() {
    for path in ["/", "/v1/{model}:generate", "/chat?api-version=2024-10-21"] {
        good(|spec| spec.endpoint_path = path.into());
    }
    for path in ["chat", "//evil.example", "/{id}", "/{model}/{model}", "/a b", "/a#b", "/../x", "/a\n", "/{"]
    {
        bad("endpoint_path", |spec| spec.endpoint_path = path.into());
    }
    bad("endpoint_path", |spec| spec.endpoint_path = format!("/{}", "x".repeat(1024)));
}

#[test]
fn headers() {
    good(header("X-Team", plain("a b")));
    good(header("X-Token", Value::Secret(secret("s3cret"))));
    for name in ["", "a b", "a:b", "a\n", "Host", "Transfer-Encoding", "a.b", "Authorization"] {
        let path = format!("headers.{}", shown(name));
        let value = Value::Secret(secret("x"));
        bad(&path, header(name, value));
    }
    bad("headers.X.plain", header("X", plain("a\r\nb")));
    bad("headers.X.plain", header("X", plain("")));
    bad("headers.X.plain", header("X", plain(&"x".repeat(4097))));
    bad("headers.x-api-key.plain", header("x-api-key", plain("abc")));
    bad("headers.X.secret", header("X", Value::Secret(secret("a\nb"))));
    bad("headers.X.secret", header("X", Value::Secret(secret(""))));
    bad("headers.X.secret", header("X", Value::Secret(Default::default())));
    bad("headers.X", |spec| drop(spec.headers.insert("X".into(), HeaderValue::default())));
    bad("headers.x-a", |spec| {
        header("X-A", plain("1"))(spec);
        header("x-a", plain("1"))(spec);
    });
    bad("headers", |spec| (0..33).for_each(|number| header(&format!("X{number:02}"), plain("1"))(spec)));
    // The header of the key is the scheme's.
    let both = spec(|spec| {
        auth(AuthScheme::Header, "X-Key: {api_key}")(spec);
        header("x-key", Value::Secret(secret("x")))(spec);
    });
    assert_eq!(wrong(NAME, both), ["provider.headers.x-key"]);
}

#[test]
fn models() {
    let with = |models: &[&str], default: &str| {
        let models: Vec<String> = models.iter().map(|model| (*model).to_owned()).collect();
        let default = default.to_owned();
        move |spec: &mut ProviderSpec| (spec.models, spec.default_model) = (models, default)
    };
    good(with(&["a", "meta/llama-3:8b"], "a"));
    good(with(&[], "any"));
    bad("default_model", with(&["a"], "b"));
    bad("default_model", with(&[], "a\nb"));
    bad("models[1]", with(&["a", "a"], ""));
    bad("models[0]", with(&[" a"], ""));
    bad("models[0]", with(&[""], ""));
    bad("models", |spec| spec.models = (0..1001).map(|number| number.to_string()).collect());
}

#[test]
fn everything_wrong_is_told_at_once() {
    let given = spec(|spec| {
        (spec.base_url, spec.endpoint_path, spec.method) = ("x".into(), "y".into(), 77);
    });
    assert_eq!(wrong(NAME, given), ["provider.method", "provider.base_url", "provider.endpoint_path"]);
}

#[test]
fn a_stored_secret_does_not_follow_to_another_address() {
    let (stored, _) = plan(NAME, spec(header("X-Token", Value::Secret(secret("x")))), None);
    let moved = |value: Option<&str>| {
        let Spec::Provider(mut after) = stored.clone() else { panic!() };
        after.base_url = "https://elsewhere.example".into();
        if let Some(value) = value {
            header("X-Token", Value::Secret(secret(value)))(&mut after);
        }
        plan(NAME, Spec::Provider(after), Some(&stored)).1
    };
    assert_eq!(moved(None)[0].field, "provider.headers.X-Token.secret");
    assert_eq!(moved(Some("new")), []);

    // Nor for a caller who pretends that there is none, which would keep it as well.
    let Spec::Provider(mut after) = stored.clone() else { panic!() };
    after.base_url = "https://elsewhere.example".into();
    let pretended = Secret { value: None, state: State::Missing.into() };
    header("X-Token", Value::Secret(pretended))(&mut after);
    let fields: Vec<String> =
        plan(NAME, Spec::Provider(after), Some(&stored)).1.into_iter().map(|found| found.field).collect();
    assert_eq!(fields, ["provider.headers.X-Token.secret"]);
}

#[test]
fn how_it_is_spoken_to_is_filled_in_and_checked() {
    let (Spec::Provider(filled), _) = plan(NAME, spec(|_| ()), None) else { panic!() };
    let builder = filled.request_builder.unwrap();
    assert_eq!(builder.payload_structure["max_tokens"].target, "max_completion_tokens");
    assert!(filled.response_extractor.is_some() && filled.model_listing.is_some());

    let (Spec::Provider(responses), _) =
        plan(NAME, spec(|spec| spec.endpoint_path = "/responses".into()), None)
    else {
        panic!()
    };
    assert_eq!(responses.request_builder.unwrap().payload_structure["messages"].target, "input");
    let in_path = spec(|spec| spec.endpoint_path = "/deployments/{model}/chat?api-version=1".into());
    let (Spec::Provider(in_path), violations) = plan(NAME, in_path, None) else { panic!() };
    assert_eq!(violations, []);
    assert_eq!(in_path.request_builder.unwrap().payload_structure["model"].target, "url:model");

    let empty = spec(|spec| spec.request_builder = Some(Default::default()));
    let fields = wrong(NAME, empty);
    assert_eq!(fields[0], "provider.request_builder.version");
    let given = groq_with(&builder, |builder| drop(builder.payload_structure.remove("messages")));
    assert_eq!(wrong(NAME, given), ["provider.request_builder.payload_structure.messages"]);
    let given = groq_with(&builder, |builder| drop(builder.payload_structure.remove("seed")));
    let (Spec::Provider(kept), violations) = plan(NAME, given, None) else { panic!() };
    assert_eq!(violations, []);
    assert!(!kept.request_builder.unwrap().payload_structure.contains_key("seed"), "what is given stays");
}

fn groq_with(builder: &RequestBuilder, change: impl FnOnce(&mut RequestBuilder)) -> Spec {
    let mut builder = builder.clone();
    change(&mut builder);
    spec(|spec| spec.request_builder = Some(builder))
}

#[test]
fn an_older_store_gets_nothing_that_an_older_binary_could_not_hold() {
    let mut older = spec(|_| ());
    Provider.fill_newer_defaults(&mut older, FeatureLevel::KINDS);
    assert_eq!((older == spec(|_| ()), Provider.feature_level(&older)), (true, FeatureLevel::FIRST));
    let (newer, _) = plan(NAME, spec(|_| ()), None);
    assert_eq!(Provider.feature_level(&newer), FeatureLevel::WIRE);
    let mut again = newer.clone();
    Provider.fill_newer_defaults(&mut again, FeatureLevel::CURRENT);
    assert_eq!(again, newer);
}

/// Answers in frames came later: what is filled in is without them below their level, what is given waits for it.
#[test]
fn frames_are_written_only_where_every_replica_knows_them() {
    let bedrock = || spec(|spec| spec.r#type = ProviderType::Bedrock.into());
    let filled_at = |level| {
        let mut filled = bedrock();
        Provider.fill_newer_defaults(&mut filled, level);
        let needs = Provider.feature_level(&filled);
        let Spec::Provider(filled) = filled else { panic!() };
        (filled.response_extractor.unwrap(), needs)
    };
    let (older, needs) = filled_at(FeatureLevel::FLEET);
    assert_eq!((older.frame_stream.is_none(), needs), (true, FeatureLevel::WIRE));
    let (newer, needs) = filled_at(FeatureLevel::FRAMES);
    assert_eq!((newer.frame_stream.is_some(), needs), (true, FeatureLevel::FRAMES));
    for given in [older, newer] {
        let mut kept = bedrock();
        let Spec::Provider(spec) = &mut kept else { panic!() };
        spec.response_extractor = Some(given.clone());
        for level in [FeatureLevel::FLEET, FeatureLevel::FRAMES] {
            Provider.fill_newer_defaults(&mut kept, level);
            let Spec::Provider(spec) = &kept else { panic!() };
            assert_eq!(spec.response_extractor.as_ref(), Some(&given));
        }
    }
}

/// A listing on a neighbouring host takes the key there.
#[test]
fn a_stored_secret_does_not_follow_to_another_neighbour() {
    let (stored, _) = plan(NAME, spec(header("X-Token", Value::Secret(secret("x")))), None);
    let Spec::Provider(mut after) = stored.clone() else { panic!() };
    after.model_listing.as_mut().unwrap().host_label = "other".into();
    let moved = Spec::Provider(after.clone());
    assert_eq!(Provider.moves_secrets_beneath(&stored, &moved), Some("provider.model_listing.host_label"));
    let fields: Vec<String> =
        plan(NAME, moved.clone(), Some(&stored)).1.into_iter().map(|found| found.field).collect();
    assert_eq!(fields, ["provider.headers.X-Token.secret"]);
    assert_eq!(Provider.moves_secrets_beneath(&moved, &stored), None, "it goes nowhere else than before");
}

#[test]
fn actions_and_warnings() {
    let (on, off) = (spec(|_| ()), spec(|spec| spec.enabled = Some(false)));
    assert_eq!(Provider.action(&on, &off, true), DISABLED);
    assert_eq!(Provider.action(&off, &on, false), ENABLED);
    assert_eq!(Provider.action(&on, &on, true), ROTATED);
    assert_eq!(Provider.action(&on, &on, false), UPDATED);

    let (stored, _) = plan(NAME, on, None);
    assert_eq!(Provider.warnings(None, &stored), [""; 0]);
    let changed = |change: fn(&mut ProviderSpec)| {
        let Spec::Provider(mut after) = stored.clone() else { panic!() };
        change(&mut after);
        Provider.warnings(Some(&stored), &Spec::Provider(after)).join("\n")
    };
    assert!(
        changed(|spec| spec.r#type = ProviderType::Openai.into()).contains("still `https://api.groq.com")
    );
    assert!(changed(|spec| spec.r#type = ProviderType::Cohere.into()).contains("still that of before"));
    assert!(changed(|spec| spec.endpoint_path = "/responses".into()).contains("clear all three"));
    assert_eq!(
        changed(|spec| (spec.endpoint_path, spec.request_builder, spec.response_extractor) =
            ("/responses".into(), None, None)),
        ""
    );
    assert!(changed(|spec| spec.base_url = "http://a.example".into()).contains("in the clear"));
    assert!(changed(|spec| spec.method = HttpMethod::Get.into()).contains("makes a body"));
    let placed = changed(|spec| {
        let value = Some(Value::Plain("{api_key}".into()));
        spec.headers.insert("X-Foo".into(), HeaderValue { value });
    });
    assert!(placed.contains("`headers.X-Foo` is sent with `{api_key}` as it stands"), "{placed}");
    assert_eq!(changed(|spec| spec.base_url = "http://localhost:1".into()), "");
    assert!(changed(|spec| (spec.context_window_tokens, spec.max_output_tokens) = (1, 2)).contains("larger"));
}

fn entry(key: &str, source: &str, default_json: &str) -> impl FnOnce(&mut ProviderSpec) {
    let entry = crate::proto::v1::RequestEntry {
        source: source.to_owned(),
        default_json: default_json.to_owned(),
        ..Default::default()
    };
    let key = key.to_owned();
    move |spec| {
        wire::families::fill(spec);
        spec.request_builder.get_or_insert_default().payload_structure.insert(key, entry);
    }
}

#[test]
fn regression_credentials_are_refused_wherever_everybody_reads_them() {
    const KEY: &str = "gsk_CANARY0123456789abcdef";
    let (key, document) = (|| KEY.to_owned(), format!("\"{KEY}\""));
    let structure = "request_builder.payload_structure";
    bad("auth.header_template", auth(AuthScheme::Header, &format!("x-k: {KEY} {{api_key}}")));
    good(auth(AuthScheme::Header, "x-k: Bearer {api_key}"));
    bad("base_url", |spec| spec.base_url = format!("https://x.example/{KEY}"));
    bad("endpoint_path", |spec| spec.endpoint_path = format!("/{KEY}/chat"));
    bad("default_model", |spec| spec.default_model = key());
    bad("models[1]", |spec| spec.models = vec!["a".into(), key()]);
    bad(&format!("{structure}.k.source"), entry("k", &format!("literal:{document}"), ""));
    bad(&format!("{structure}.user.default_json"), entry("user", "param:seed", &document));
    bad(&format!("{structure}.api_key.source"), entry("api_key", "literal:\"hunter2\"", ""));
    bad(&format!("{structure}.k.source"), entry("k", "literal:{\"password\": \"hunter2\"}", ""));
    good(entry("max_think_tokens", "literal:1000", ""));
    good(entry("stop_token", "literal:\"</s>\"", ""));
    let (_, violations) = plan(NAME, spec(|spec| spec.default_model = key()), None);
    assert!(violations[0].description.contains("what looks like a key"), "{violations:?}");
    assert!(!violations[0].description.contains(KEY));
}
