//! The mappings of all families against the shared vectors, by configuration alone; and that nothing that a provider may
//! answer or an operator may write leads to a panic.

mod custom;

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{frame_tests::StreamBody, *};
use crate::{
    domain::{FeatureLevel, Spec},
    kinds,
    proto::v1::{
        ExtractionRule, RenderRequestRequest, RequestBuilder, RequestEntry, ResponseExtractor, ToolSpec,
    },
};

#[derive(Deserialize)]
struct Vectors {
    tools: BTreeMap<String, Value>,
    families: Vec<Family>,
    custom: Vec<custom::Custom>,
}

#[derive(Deserialize)]
struct Family {
    family: String,
    provider: Value,
    requests: Vec<RequestCase>,
    #[serde(default)]
    refused: Vec<RefusedCase>,
    answers: Vec<AnswerCase>,
    streams: Vec<StreamCase>,
    errors: Vec<ErrorCase>,
    malformed: Vec<String>,
    models: Vec<ModelsCase>,
    key_check_url: Option<String>,
}

#[derive(Deserialize)]
struct RequestCase {
    name: String,
    call: Value,
    expect: Value,
}

#[derive(Deserialize)]
struct RefusedCase {
    name: String,
    call: Value,
    paths: Vec<String>,
}

#[derive(Deserialize)]
struct AnswerCase {
    name: String,
    body: Value,
    expect: Value,
}

#[derive(Deserialize)]
struct StreamCase {
    name: String,
    #[serde(flatten)]
    body: StreamBody,
    expect: Option<Value>,
    fails: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct ErrorCase {
    name: String,
    status: u16,
    body: Option<Value>,
    text: Option<String>,
    key: Option<String>,
    expect: Value,
}

#[derive(Deserialize)]
struct ModelsCase {
    body: Value,
    url: String,
    expect: Value,
    next_url: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/wire.json")).unwrap()
}

impl StreamCase {
    fn is_failed(&self, failure: &StreamFailure, what: &str) {
        let kind = match failure {
            StreamFailure::Malformed(_) => "malformed",
            StreamFailure::Failed(_) => "failed",
            StreamFailure::CutOff => "cut_off",
            StreamFailure::TooLarge => "too_large",
        };
        assert_eq!(Some(kind), self.fails.as_deref(), "{what}");
        let StreamFailure::Failed(told) = failure else { return };
        let found = [&told.message, &told.code, word(told.reason)];
        for (wanted, found) in [&self.message, &self.code, &self.reason].into_iter().zip(found) {
            assert!(wanted.as_deref().is_none_or(|wanted| wanted == found), "{what}: {told:?}");
        }
    }
}

/// A message from its JSON.
fn message<M: ReflectMessage + Default>(value: &Value) -> M {
    let read = DynamicMessage::deserialize(M::default().descriptor(), value.clone());
    read.unwrap_or_else(|error| panic!("{error}: {value}")).transcode_to().unwrap()
}

/// A provider as it is stored once somebody has written this of it.
fn stored(written: &Value) -> ProviderSpec {
    let mut spec = Spec::Provider(message(written));
    let (name, kind) = kinds::parse_name("providers/some").unwrap();
    kind.fill_defaults(&mut spec, &name);
    kind.fill_newer_defaults(&mut spec, FeatureLevel::CURRENT);
    let Spec::Provider(spec) = spec else { unreachable!("it is a provider") };
    spec
}

fn call(vectors: &Vectors, value: &Value) -> Call {
    let request: RenderRequestRequest = message(value);
    let tools = request.tools.iter().map(|name| {
        let spec: ToolSpec = message(&vectors.tools[name]);
        Tool { name: name.clone(), spec }
    });
    Call {
        tools: tools.collect(),
        model: request.model,
        messages: request.messages,
        generation: request.generation.unwrap_or_default(),
        chat: request.chat.unwrap_or_default(),
        reasoning: request.reasoning.unwrap_or_default(),
    }
}

fn shown_request(rendered: &Rendered) -> Value {
    let request = &rendered.request;
    let headers: BTreeMap<&str, &str> =
        request.headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
    json!({
        "method": request.method.as_str_name(), "url": request.url, "headers": headers, "body": request.body,
        "unused": rendered.unused
    })
}

fn shown_answer(answer: &Answer) -> Value {
    let calls = answer.tool_calls.iter();
    let calls: Vec<_> = calls.map(|call| json!([call.id, call.function_name, call.arguments_json])).collect();
    json!({
        "text": answer.text, "reasoning": answer.reasoning, "finish_reason": answer.finish_reason,
        "usage": answer.usage, "tool_calls": calls
    })
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::BadKey => "bad_key",
        Reason::PermissionDenied => "permission_denied",
        Reason::NotFound => "not_found",
        Reason::RateLimited => "rate_limited",
        Reason::Timeout => "timeout",
        Reason::InvalidRequest => "invalid_request",
        Reason::Unavailable => "unavailable",
    }
}

/// Reads a stream that arrives in pieces of this size; gives the answer with the pieces of text put together.
fn streamed(mapping: &Mapping, body: &[u8], size: usize) -> Result<(Answer, String), StreamFailure> {
    let mut reader = mapping.stream().expect("answers are streamed");
    let mut text = String::new();
    for piece in body.chunks(size) {
        for delta in reader.push(piece)? {
            match delta {
                Delta::Text(more) => text += &more,
                Delta::Reasoning(more) => assert!(!more.is_empty()),
            }
        }
    }
    Ok((reader.finish()?, text))
}

/// Every family with what is expected of it.
fn for_each_family(look: impl Fn(&Vectors, &Family, &Mapping)) {
    let vectors = vectors();
    for family in &vectors.families {
        let mapping = Mapping::of(&stored(&family.provider));
        let mapping = mapping.unwrap_or_else(|problems| panic!("{}: {problems:?}", family.family));
        look(&vectors, family, &mapping);
    }
}

#[test]
fn every_family_has_vectors_and_nothing_is_wrong_with_it() {
    let vectors = vectors();
    let mut told: Vec<&str> = vectors.families.iter().map(|family| family.family.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, families::names().collect::<Vec<_>>());
    for family in &vectors.families {
        assert_eq!(check(&stored(&family.provider)), [], "{}", family.family);
    }
}

#[test]
fn requests_are_rendered() {
    for_each_family(|vectors, family, mapping| {
        for case in &family.requests {
            let what = format!("{}: {}", family.family, case.name);
            let rendered = mapping.request(&call(vectors, &case.call));
            let rendered = rendered.unwrap_or_else(|problems| panic!("{what}: {problems:?}"));
            assert_eq!(shown_request(&rendered), case.expect, "{what}");
        }
        for case in &family.refused {
            let problems = mapping.request(&call(vectors, &case.call)).unwrap_err();
            let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert_eq!(paths, case.paths, "{}: {}", family.family, case.name);
        }
    });
}

#[test]
fn answers_are_read() {
    for_each_family(|_, family, mapping| {
        for case in &family.answers {
            let answer = mapping.answer(case.body.to_string().as_bytes());
            let answer = answer.unwrap_or_else(|error| panic!("{}: {}: {error}", family.family, case.name));
            assert_eq!(shown_answer(&answer), case.expect, "{}: {}", family.family, case.name);
        }
        for body in &family.malformed {
            let answer = mapping.answer(body.as_bytes());
            assert!(answer.is_err(), "{}: {body}: {answer:?}", family.family);
        }
    });
}

#[test]
fn streams_are_read_however_they_are_cut() {
    for_each_family(|_, family, mapping| {
        for case in &family.streams {
            for size in [1, 2, 7, 64, usize::MAX] {
                let what = format!("{}: {} in pieces of {size}", family.family, case.name);
                let outcome = streamed(mapping, &case.body.bytes(), size);
                match (&case.expect, outcome) {
                    (Some(expected), Ok((answer, text))) => {
                        assert_eq!(shown_answer(&answer), *expected, "{what}");
                        assert_eq!(text, answer.text, "{what}");
                    }
                    (None, Err(failure)) => case.is_failed(&failure, &what),
                    (_, outcome) => panic!("{what}: {outcome:?}"),
                }
            }
        }
        assert_eq!(mapping.stream().is_some(), !family.streams.is_empty(), "{}", family.family);
    });
}

#[test]
fn errors_are_read() {
    for_each_family(|_, family, mapping| {
        for case in &family.errors {
            let body = case.body.as_ref().map(Value::to_string).or(case.text.clone()).unwrap();
            let failure = mapping.failure(case.status, body.as_bytes(), case.key.as_deref());
            let Failure { reason, message, code, .. } = failure;
            let shown = json!({"reason": word(reason), "message": message, "code": code});
            assert_eq!(shown, case.expect, "{}: {}", family.family, case.name);
        }
    });
}

#[test]
fn models_are_listed() {
    for_each_family(|_, family, mapping| {
        for case in &family.models {
            let request = mapping.models_request("").unwrap();
            assert_eq!((request.url, request.body), (case.url.clone(), None), "{}", family.family);
            let page = mapping.models_page(case.body.to_string().as_bytes()).unwrap();
            let rows = page.models.iter().map(|model| {
                let ListedModel { id, display_name, context_window_tokens, max_output_tokens } = model;
                json!([id, display_name, context_window_tokens, max_output_tokens])
            });
            let shown = json!({"models": rows.collect::<Vec<_>>(), "next": page.next_page_token});
            assert_eq!(shown, case.expect, "{}", family.family);
            if let Some(url) = &case.next_url {
                assert_eq!(mapping.models_request(&page.next_page_token).unwrap().url, *url);
            }
        }
        let check = mapping.key_check_request().map(|request| request.url);
        assert_eq!(check, family.key_check_url, "{}", family.family);
        assert!(mapping.models_page(b"<html>").is_err() && mapping.models_page(b"7").is_err());
    });
}

/// What was stored before providers held a mapping works as if it held that of its type.
#[test]
fn a_provider_without_a_mapping_has_that_of_its_type() {
    for family in &vectors().families {
        let whole = stored(&family.provider);
        let mut older = whole.clone();
        (older.request_builder, older.response_extractor, older.model_listing) = (None, None, None);
        assert_eq!(Mapping::of(&older).unwrap().provider, whole, "{}", family.family);
    }
    let custom = ProviderSpec { r#type: 16, base_url: "https://x.example".into(), ..Default::default() };
    let paths: Vec<String> = Mapping::of(&custom).unwrap_err().into_iter().map(|found| found.path).collect();
    assert_eq!(paths, ["request_builder", "response_extractor"]);
}

#[test]
fn events_of_all_forms_are_cut_out() {
    let mapping = Mapping::of(&stored(&json!({"type": "PROVIDER_TYPE_GROQ"}))).unwrap();
    let event = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
    let (one, other) = event.split_at(20);
    for body in [
        format!("\u{FEFF}data: {event}\n\ndata: [DONE]\n\n"),
        format!(": a comment\nid: 7\nretry: 1\ndata:{event}\r\rdata:[DONE]\r\r"),
        format!("event: x\r\ndata: {one}\r\ndata: {other}\r\n\r\ndata: [DONE]"),
        format!("data: {event}\n\ndata\n\ndata: \n\n\n\ndata: [DONE]\n\ndata: not looked at\n\n"),
    ] {
        for size in [1, 3, 1000] {
            let outcome = streamed(&mapping, body.as_bytes(), size);
            assert_eq!(outcome.map(|(answer, _)| answer.text), Ok("a".into()), "{body:?}");
        }
    }
    let endless = vec![b'x'; 2 << 20];
    assert_eq!(streamed(&mapping, &endless, 4096), Err(StreamFailure::TooLarge));
}

/// Any JSON of bounded size.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("choices"),
        Just("message"),
        Just("content"),
        Just("type"),
        Just("text"),
        Just("usage"),
        Just("delta"),
        Just("output"),
        Just("tool_calls"),
        Just("error"),
        Just("index"),
        Just("arguments")
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z\\PC]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let object = proptest::collection::btree_map(names.clone(), inner.clone(), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// A text that stands where a builder or an extractor has a word, mostly a sensible one.
fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop_oneof![
            Just("param:messages"),
            Just("param:tools"),
            Just("param:model_name"),
            Just("param:tool_choice"),
            Just("literal:{\"a\": 1}"),
            Just("url:model"),
            Just("a.b"),
            Just("{\"a\": \"{value}\"}"),
            Just("\"{name}\""),
            Just("string"),
            Just("array"),
            Just("object"),
            Just("stream"),
            Just("$"),
            Just("choices[0].message"),
            Just(""),
        ]
        .prop_map(str::to_owned),
        "[a-z{}\\[\\]\".:=*$\\PC]{0,10}",
    ]
}

fn any_entry() -> impl Strategy<Value = RequestEntry> {
    let words = (any_word(), any_word(), any_word(), any_word(), any_word(), any_word());
    (words, any::<bool>(), proptest::collection::btree_map(any_word(), any_word(), 0..2)).prop_map(
        |(words, required, values)| RequestEntry {
            source: words.0,
            target: words.1,
            default_json: words.2,
            item_json: words.3,
            template_json: words.4,
            when: words.5,
            required,
            values,
            message_format: None,
        },
    )
}

fn any_mapping() -> impl Strategy<Value = ProviderSpec> {
    let key = prop_oneof![Just("model".to_owned()), Just("messages".to_owned()), any_word()];
    let entries = proptest::collection::btree_map(key, any_entry(), 0..5);
    let rule = (any_word(), proptest::collection::vec(any_word(), 0..3))
        .prop_map(|(r#type, paths)| ExtractionRule { r#type, paths, ..Default::default() });
    let name = prop_oneof![Just("text_content".to_owned()), any_word()];
    let rules = proptest::collection::btree_map(name, rule, 0..4);
    (entries, rules, prop_oneof![Just("/x/{model}"), Just("/x"), Just("{")]).prop_map(
        |(entries, rules, path)| {
            let version = "1.0".to_owned();
            ProviderSpec {
                r#type: 5,
                endpoint_path: path.into(),
                request_builder: Some(RequestBuilder {
                    version: version.clone(),
                    payload_structure: entries,
                    ..Default::default()
                }),
                response_extractor: Some(ResponseExtractor {
                    version,
                    extraction_rules: rules,
                    ..Default::default()
                }),
                ..Default::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn any_answer_is_judged(value in any_json(), status in 100..600_u16, size in 1..9_usize) {
        let body = value.to_string();
        for_each_family(|_, _, mapping| {
            let _ = (mapping.answer(body.as_bytes()), mapping.models_page(body.as_bytes()));
            let _ = mapping.failure(status, body.as_bytes(), Some("key"));
            if mapping.stream().is_some() {
                let _ = streamed(mapping, format!("data: {body}\n\n{body}\n").as_bytes(), size);
            }
        });
    }

    #[test]
    fn any_mapping_is_judged_and_what_is_accepted_renders(provider in any_mapping(), value in any_json()) {
        let problems = check(&provider);
        match Mapping::of(&provider) {
            Ok(mapping) => {
                // Only what is let be where it is stored already.
                let older = [".when", ".model.source"];
                prop_assert!(problems.iter().all(|one| older.iter().any(|end| one.path.ends_with(end))));
                let vectors = vectors();
                for case in &vectors.families[0].requests {
                    let _ = mapping.request(&call(&vectors, &case.call));
                }
                let _ = mapping.answer(value.to_string().as_bytes());
            }
            Err(told) => prop_assert!(told.iter().all(|one| problems.contains(one))),
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..60), size in 1..9_usize) {
        for_each_family(|_, _, mapping| {
            let _ = mapping.answer(&bytes);
            if mapping.stream().is_some() {
                let _ = streamed(mapping, &bytes, size);
            }
        });
    }
}
