//! For every field of a mapping what is accepted, and what is refused under which path.

use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::{Map, Value, json};

use super::{Call, Mapping, check};
use crate::proto::v1::{ChatMessage, ChatRole, ProviderSpec};

/// What the oldest documents of request builders and extractors hold, and nothing more.
fn least() -> Value {
    json!({
        "base_url": "https://llm.example.com/v1",
        "endpoint_path": "/chat",
        "request_builder": {"version": "1.0", "payload_structure": {
            "model": {"source": "param:model_name", "required": true},
            "messages": {"source": "param:messages"},
        }},
        "response_extractor": {"version": "1.0", "extraction_rules": {
            "text_content": {"type": "string", "paths": ["choices[0].message.content"]},
            "usage_stats": {"type": "object", "fields": {"total_tokens": {"type": "integer", "paths": ["usage.total"]}}},
        }},
        "model_listing": {"path": "/models", "models_path": "data[*]", "id_paths": ["id"]},
    })
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().unwrap();
    for (name, value) in patch {
        match value {
            Value::Null => drop(object.remove(&name)),
            value => merge(object.entry(name).or_insert(Value::Null), value),
        }
    }
}

fn provider(patch: Value) -> ProviderSpec {
    let mut whole = least();
    merge(&mut whole, patch);
    let read = DynamicMessage::deserialize(ProviderSpec::default().descriptor(), whole);
    read.unwrap().transcode_to().unwrap()
}

/// The patch that changes one place, given by its path; keys may hold no dot.
fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |inner, name| json!({ name: inner }))
}

#[track_caller]
fn good(path: &str, value: Value) {
    assert_eq!(check(&provider(at(path, value))), []);
}

/// Refused are exactly the fields of these paths, beneath the place that is changed where they begin with a dot.
#[track_caller]
fn bad(path: &str, value: Value, expected: &[&str]) {
    let found: Vec<String> = check(&provider(at(path, value))).into_iter().map(|found| found.path).collect();
    let beneath =
        |field: &&str| if field.starts_with('.') { format!("{path}{field}") } else { (*field).to_owned() };
    let expected: Vec<String> = match expected {
        [] => vec![path.to_owned()],
        fields => fields.iter().map(beneath).collect(),
    };
    assert_eq!(found, expected);
}

const BUILDER: &str = "request_builder";
const ENTRY: &str = "request_builder.payload_structure.x";
const EXTRACTOR: &str = "response_extractor";
const RULE: &str = "response_extractor.extraction_rules.x";
const STREAM: &str = "response_extractor.stream";

#[test]
fn the_least_that_a_mapping_holds_is_accepted_in_both_spellings() {
    assert_eq!(check(&provider(json!({}))), []);
    let camel = json!({"request_builder": null, "requestBuilder": least()["request_builder"]});
    assert_eq!(provider(camel), provider(json!({})));
    assert!(Mapping::of(&provider(json!({}))).is_ok());
}

#[test]
fn nothing_is_told_with_what_would_be_right() {
    let empty = provider(json!({BUILDER: null, EXTRACTOR: null}));
    assert_eq!(check(&empty), [], "both may be left out");
    let mut empty = empty;
    empty.request_builder = Some(Default::default());
    empty.response_extractor = Some(Default::default());
    empty.model_listing = Some(Default::default());
    let problems = check(&empty);
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "request_builder.version",
            "request_builder.payload_structure.model",
            "request_builder.payload_structure.messages",
            "response_extractor.version",
            "response_extractor.extraction_rules.text_content",
            "response_extractor.extraction_rules.usage_stats",
            "model_listing.path",
            "model_listing.models_path",
            "model_listing.id_paths",
        ]
    );
    assert!(problems[0].description.contains("`1.0`"), "{problems:?}");
}

#[test]
fn entries() {
    for source in ["param:seed", "literal:{\"a\": [1, \"{text}\"]}", "literal:null", "literal:\"\""] {
        good(ENTRY, json!({"source": source}));
    }
    for source in
        ["", "model_name", "param:", "param:Seed", "param:api_key", "literal:", "literal:{", "env:KEY"]
    {
        bad(ENTRY, json!({"source": source}), &[".source"]);
    }
    let seed = |rest: Value| {
        let mut entry = json!({"source": "param:seed"});
        merge(&mut entry, rest);
        entry
    };
    good(ENTRY, seed(json!({"target": "a.b-c.d_e", "default_json": "7", "when": "stream"})));
    good(ENTRY, seed(json!({"values": {"1": "{\"a\": null}"}, "template_json": "[\"{value}\"]"})));
    for target in [".", "a.", "a..b", "a[0]", "url:", "url:a.b", "url:a/b", "a b", &"a".repeat(300)] {
        bad(ENTRY, seed(json!({"target": target})), &[".target"]);
    }
    bad(ENTRY, seed(json!({"default_json": "x"})), &[".default_json"]);
    bad(ENTRY, seed(json!({"template_json": "\"{text}\""})), &[".template_json"]);
    bad(ENTRY, seed(json!({"when": "streaming"})), &[".when"]);
    good(ENTRY, seed(json!({"when": "thinking_mode=enabled"})));
    for when in ["=enabled", "mode=enabled", "thinking_mode="] {
        bad(ENTRY, seed(json!({"when": when})), &[".when"]);
    }
    bad(ENTRY, seed(json!({"item_json": "1"})), &[".item_json"]);
    bad(ENTRY, seed(json!({"values": {"1": "{"}})), &[".values.1"]);
    bad(ENTRY, seed(json!({"values": {"1": "\"{tool}\""}})), &[".values.1"]);
    bad(ENTRY, seed(json!({"values": {"1": "2", "1.0": "3"}})), &[".values.1.0"]);
    bad(ENTRY, seed(json!({"message_format": {}})), &[".message_format"]);
    good(ENTRY, json!({"source": "param:tool_choice", "values": {"tool": "\"{tool}\""}}));
    good(ENTRY, json!({"source": "param:tools", "item_json": "{\"n\": \"{name}\"}"}));
    bad(ENTRY, json!({"source": "param:tools"}), &[".item_json"]);
    bad(ENTRY, json!({"source": "param:tools", "item_json": "\"{value}\""}), &[".item_json"]);
    bad(ENTRY, json!({"source": "literal:1", "values": {"1": "2"}}), &[".values"]);
    bad("request_builder.payload_structure.a/b", json!({"source": "param:seed"}), &[]);
    let many: Map<String, Value> = (0..70).map(|index| (format!("e{index}"), seed(json!({})))).collect();
    bad("request_builder.payload_structure", Value::Object(many), &[]);
}

#[test]
fn regression_a_call_has_its_model_and_its_conversation() {
    let structure = "request_builder.payload_structure";
    bad(structure, json!({"model": {"when": "stream=true"}}), &[".model.when"]);
    bad(structure, json!({"messages": {"when": "thinking_mode=enabled"}}), &[".messages.when"]);
    for source in ["literal:[]", "param:system_prompt"] {
        bad(structure, json!({"messages": {"source": source}}), &[".messages.source"]);
    }
    bad(structure, json!({"model": {"source": "param:system_prompt"}}), &[".model.source"]);
    good(structure, json!({"model": {"source": "literal:\"the-only-one\""}}));
}

#[test]
fn regression_a_condition_that_never_holds_is_refused() {
    let entry = |when: &str| json!({"source": "param:seed", "when": when});
    for when in [
        "temperature=1.0",
        "temperature=1",
        "temperature=1e-7",
        "frequency_penalty=-0.5",
        "seed=-1",
        "seed=1.0",
        "max_tokens=5",
        "stream=false",
        "thinking_mode=adaptive",
        "reasoning_effort=xhigh",
        "tool_choice=required",
        "model_name=GPT",
        "tools=true",
    ] {
        good(ENTRY, entry(when));
    }
    for when in [
        "temperature=NaN",
        "temperature=9.0",
        "temperature=+1",
        "frequency_penalty=-2.1",
        "top_k=-1",
        "top_k=1.5",
        "top_k=5000000000",
        "max_tokens=0",
        "thinking_tokens=0",
        "seed=1.5",
        "seed=01",
        "max_tokens=many",
        "stream=True",
        "thinking_mode=ENABLED",
        "reasoning_effort=unspecified",
        "tool_choice=any",
        "stop_sequences=a",
        "tools=tools/a",
    ] {
        bad(ENTRY, entry(when), &[".when"]);
    }
}

/// Both were taken by an earlier release: a call without its conversation is none, and of its model it may still decide.
#[test]
fn regression_a_stored_source_of_something_else_is_told_of_where_it_does_harm() {
    let stored = |key: &str| {
        let source = json!({"source": "param:system_prompt"});
        provider(at(&format!("request_builder.payload_structure.{key}"), source))
    };
    let problems = Mapping::of(&stored("messages")).unwrap_err();
    assert_eq!(problems[0].path, "request_builder.payload_structure.messages.source");
    assert!(problems[0].description.contains("`param:messages`"), "{problems:?}");
    assert!(Mapping::of(&stored("model")).is_ok());
}

/// It was taken by an earlier release, and nothing could be rendered for its provider any more.
#[test]
fn regression_a_stored_condition_that_never_holds_stops_no_call() {
    let stored = provider(at(ENTRY, json!({"source": "param:seed", "when": "thinking_mode=ENABLED"})));
    assert_eq!(check(&stored).len(), 1, "it is not written again");
    assert!(Mapping::of(&stored).is_ok());
    let wrong = provider(at(ENTRY, json!({"source": "param:seed", "when": "mode=enabled"})));
    assert!(Mapping::of(&wrong).is_err());
}

/// The path of a call without what belongs into it is that of something else.
#[test]
fn regression_a_path_is_not_called_without_what_belongs_into_it() {
    let entry = |value: &str, when: &str| json!({"source": format!("literal:\"{value}\""), "target": "url:v", "when": when});
    let entries = json!({"a": entry("on", "stream=true"), "b": entry("off", "stream=false")});
    let stream =
        json!({"framing": "sse", "extraction_rules": {"text_content": {"type": "string", "paths": ["a"]}}});
    let provider = provider(json!({
        "endpoint_path": "/x/{v}", BUILDER: {"payload_structure": entries}, EXTRACTOR: {"stream": stream},
    }));
    let mapping = Mapping::of(&provider).unwrap();
    let rendered = |stream: Option<bool>| {
        let messages =
            vec![ChatMessage { role: ChatRole::User.into(), text: "Hi".into(), ..Default::default() }];
        let mut call = Call { model: "m".into(), messages, ..Default::default() };
        call.chat.stream = stream;
        mapping.request(&call).map(|rendered| rendered.request.url)
    };
    assert_eq!(rendered(Some(true)), Ok("https://llm.example.com/v1/x/on".into()));
    assert_eq!(rendered(Some(false)), Ok("https://llm.example.com/v1/x/off".into()));
    let problems = rendered(None).unwrap_err();
    assert!(problems.iter().all(|problem| problem.path == "chat.stream" && problem.reason == "REQUIRED"));
    assert_eq!(problems.len(), 2);
}

#[test]
fn no_two_entries_go_to_one_place() {
    for target in ["model", "model.x", "messages"] {
        let found = check(&provider(at(ENTRY, json!({"source": "param:seed", "target": target}))));
        assert_eq!(found.len(), 1, "{target}");
        assert!(found[0].path.ends_with(".x.target") && found[0].reason == "DUPLICATE", "{found:?}");
    }
    good(ENTRY, json!({"source": "param:seed", "target": "models.x"}));
}

#[test]
fn entries_of_which_one_call_uses_one_may_go_to_one_place() {
    let two = |one: &str, other: &str| {
        let entry = |when: &str| json!({"source": "literal:0", "target": "budget", "when": when});
        let entries = json!({"one": entry(one), "other": entry(other)});
        check(&provider(at("request_builder.payload_structure", entries))).len()
    };
    assert_eq!(two("thinking_mode=enabled", "thinking_mode=disabled"), 0);
    for (one, other) in [
        ("thinking_mode=enabled", "thinking_mode=enabled"),
        ("thinking_mode=enabled", "thinking_mode"),
        ("thinking_mode=enabled", "reasoning_effort=none"),
        ("thinking_mode=enabled", ""),
    ] {
        assert_eq!(two(one, other), 1, "{one} and {other}");
    }
}

#[test]
fn paths_and_entries_go_together() {
    let with = |path: &str, target: &str| json!({"endpoint_path": path, BUILDER: {"payload_structure": {"model": {"target": target}}}});
    assert_eq!(check(&provider(with("/m/{model}", "url:model"))), []);
    for (path, target) in
        [("/m", "url:model"), ("/m/{model}", "model"), ("/m/{id}", "url:model"), ("m", "model")]
    {
        let found = check(&provider(with(path, target)));
        assert!(
            !found.is_empty() && found.iter().all(|one| one.path == "endpoint_path"),
            "{path}: {found:?}"
        );
    }
    let mut streamed = with("/m/{model}", "url:model");
    merge(&mut streamed, json!({BUILDER: {"stream_endpoint_path": "/s/{model}"}}));
    assert_eq!(check(&provider(streamed.clone())), []);
    merge(&mut streamed, json!({BUILDER: {"stream_endpoint_path": "/s"}}));
    let found = check(&provider(streamed));
    assert_eq!(found[0].path, "request_builder.stream_endpoint_path");
    bad("request_builder.stream_endpoint_path", json!("https://evil.example"), &[]);
}

#[test]
fn message_formats() {
    let field = "request_builder.payload_structure.messages.message_format";
    let part = |place: &str, template: &str| json!({"place": place, "template_json": template});
    good(
        field,
        json!({"roles": {"assistant": "model"}, "content_field": "parts", "text_json": "{\"t\": \"{text}\"}", "merge": true}),
    );
    good(
        field,
        json!({"tool_call": part("field:calls", "\"{arguments_text}\""), "tool_result": part("list", "\"{text}\"")}),
    );
    bad(field, json!({"roles": {"model": "assistant"}}), &[".roles.model"]);
    bad(field, json!({"roles": {"user": ""}}), &[".roles.user"]);
    bad(field, json!({"content_field": "a.b"}), &[".content_field"]);
    bad(field, json!({"text_json": "\"{value}\""}), &[".text_json"]);
    bad(field, json!({"merge": true}), &[".merge"]);
    bad(field, json!({"tool_call": part("content", "1")}), &[".tool_call.place"]);
    bad(field, json!({"tool_call": part("field:content", "1")}), &[".tool_call.place"]);
    bad(field, json!({"tool_call": part("beside", "1")}), &[".tool_call.place"]);
    bad(field, json!({"tool_call": {}}), &[".tool_call.place", ".tool_call.template_json"]);
    bad(field, json!({"tool_result": part("field:x", "1")}), &[".tool_result.place"]);
    bad(field, json!({"tool_result": part("list", "\"{arguments}\"")}), &[".tool_result.template_json"]);
}

#[test]
fn rules() {
    let paths = json!(["a[0].b", "$"]);
    for of in ["string", "integer", "number", "boolean", "any", "array", "object"] {
        good(RULE, json!({"type": of, "paths": paths}));
    }
    bad(RULE, json!({"type": "", "paths": paths}), &[".type"]);
    bad(RULE, json!({"type": "text", "paths": paths}), &[".type"]);
    bad(RULE, json!({"type": "string"}), &[".paths"]);
    bad(RULE, json!({"type": "string", "paths": vec!["a"; 9]}), &[".paths"]);
    bad(RULE, json!({"type": "string", "paths": ["a", "b["]}), &[".paths[1]"]);
    bad(
        RULE,
        json!({"type": "string", "paths": paths, "fields": {"a": {"type": "any", "paths": ["a"]}}}),
        &[".fields"],
    );
    bad(RULE, json!({"type": "integer", "paths": paths, "values": {"a": "b"}}), &[".values"]);
    bad(
        RULE,
        json!({"type": "array", "paths": paths, "fields": {"a": {}}}),
        &[".fields.a.type", ".fields.a.paths"],
    );
    bad(
        RULE,
        json!({"type": "array", "paths": paths, "fields": {"a": {"type": "object", "paths": paths}}}),
        &[".fields.a.type"],
    );
    bad("response_extractor.extraction_rules.a/b", json!({"type": "any", "paths": paths}), &[]);
    let rules = "response_extractor.extraction_rules";
    bad(rules, json!({"text_content": {"type": "array"}}), &[".text_content.type"]);
    bad(rules, json!({"usage_stats": {"fields": null, "paths": ["usage"]}}), &[".usage_stats.fields"]);
    let count = json!({"total_tokens": {"type": "number"}});
    bad(rules, json!({"usage_stats": {"fields": count}}), &[".usage_stats.fields.total_tokens.type"]);
    let calls = json!({"type": "array", "paths": ["calls"], "fields": {"function": {"type": "string", "paths": ["f"]}}});
    bad(rules, json!({"tool_calls": calls}), &[".tool_calls.fields.function"]);
    bad("response_extractor.version", json!("2.0"), &[]);
    bad("request_builder.version", json!("1"), &[]);
}

#[test]
fn streams_and_errors() {
    let stream = json!({"framing": "sse", "extraction_rules": {"text_content": {"type": "string", "paths": ["a"]}}, "end_data": "[DONE]"});
    good(STREAM, stream.clone());
    for (patch, field) in [
        (json!({"framing": null}), ".framing"),
        (json!({"framing": "xml"}), ".framing"),
        (json!({"extraction_rules": {"text_content": null}}), ".extraction_rules.text_content"),
        (json!({"end_data": "a\nb"}), ".end_data"),
        (json!({"end_paths": ["a["]}), ".end_paths[0]"),
        (json!({"error_paths": [""]}), ".error_paths[0]"),
    ] {
        let mut spoilt = stream.clone();
        merge(&mut spoilt, patch);
        bad(STREAM, spoilt, &[field]);
    }
    let field = "response_extractor.errors";
    good(
        field,
        json!({"message_paths": ["error"], "code_paths": ["code"], "bad_key_rules": [{"status": 401}]}),
    );
    bad(field, json!({"message_paths": ["."]}), &[".message_paths[0]"]);
    for (rule, path) in [
        (json!({}), ".bad_key_rules[0].status"),
        (json!({"status": 700}), ".bad_key_rules[0].status"),
        (json!({"status": 401, "value": "x"}), ".bad_key_rules[0].path"),
        (json!({"status": 401, "path": "x"}), ".bad_key_rules[0].value"),
        (json!({"status": 401, "path": "[", "value": "x"}), ".bad_key_rules[0].path"),
    ] {
        bad(field, json!({"bad_key_rules": [rule]}), &[path]);
    }
}

#[test]
fn streams_in_frames() {
    const FRAMES: &str = "response_extractor.frame_stream";
    let text = json!({"text_content": {"type": "string", "paths": ["said.text"]}});
    let frames = json!({"extraction_rules": text, "end_paths": ["end"], "error_statuses": {"slow": 429}});
    good(FRAMES, frames.clone());
    let many: Map<String, Value> = (0..33).map(|at| (format!("e{at}"), json!(400))).collect();
    for (patch, field) in [
        (json!({"extraction_rules": {"text_content": null}}), ".extraction_rules.text_content"),
        (json!({"end_paths": ["a["]}), ".end_paths[0]"),
        (json!({"error_statuses": {"slow": 200}}), ".error_statuses.slow"),
        (json!({"error_statuses": {"slow": 70_000}}), ".error_statuses.slow"),
        (json!({"error_statuses": {"": 500}}), ".error_statuses"),
        (json!({"error_statuses": {("x".repeat(129)): 500}}), ".error_statuses"),
        (json!({"error_statuses": many}), ".error_statuses"),
    ] {
        let mut spoilt = frames.clone();
        merge(&mut spoilt, patch);
        bad(FRAMES, spoilt, &[field]);
    }
    let beside = json!({"stream": {"framing": "sse", "extraction_rules": text}, "frame_stream": frames});
    let found = check(&provider(json!({EXTRACTOR: beside})));
    assert_eq!(
        found.iter().map(|one| (one.path.as_str(), one.reason)).collect::<Vec<_>>(),
        [(FRAMES, "NOT_ALLOWED")]
    );
}

#[test]
fn model_listings() {
    let field = "model_listing";
    good(
        field,
        json!({"host_label": "bedrock-2", "page_token_parameter": "p", "page_token_path": "next", "key_check_path": "/key"}),
    );
    for (patch, path) in [
        (json!({"path": "models"}), ".path"),
        (json!({"path": "/{model}"}), ".path"),
        (json!({"key_check_path": "//evil.example"}), ".key_check_path"),
        (json!({"host_label": "evil.example"}), ".host_label"),
        (json!({"host_label": "a/b"}), ".host_label"),
        (json!({"models_path": ""}), ".models_path"),
        (json!({"id_paths": []}), ".id_paths"),
        (json!({"context_window_paths": ["."]}), ".context_window_paths[0]"),
        (json!({"page_token_parameter": "a&b", "page_token_path": "n"}), ".page_token_parameter"),
        (json!({"page_token_path": "n"}), ".page_token_parameter"),
        (json!({"has_more_path": "["}), ".has_more_path"),
        (json!({"id_prefix": "x".repeat(200)}), ".id_prefix"),
    ] {
        bad(field, patch, &[path]);
    }
}

/// A template repeats what another one repeats, in every entry: what is made is bounded, not only what is sent.
#[test]
fn regression_builders_do_not_multiply_without_a_bound() {
    let many = |name: &str| format!("[{}]", vec![format!("\"{{{name}}}\""); 400].join(","));
    let entry = |at: usize| {
        json!({"source": "param:messages", "target": format!("x{at}"), "template_json": many("value"),
               "message_format": {"text_json": many("text")}})
    };
    let mut entries: Map<String, Value> = (0..25).map(|at| (format!("x{at}"), entry(at))).collect();
    entries.extend(least()["request_builder"]["payload_structure"].as_object().unwrap().clone());
    let provider = provider(json!({BUILDER: {"payload_structure": entries}}));
    let mapping = Mapping::of(&provider).unwrap();
    let call = |chars: usize| {
        let text = "x".repeat(chars);
        let messages = vec![ChatMessage { role: ChatRole::User.into(), text, ..Default::default() }];
        Call { model: "m".into(), messages, ..Default::default() }
    };
    let refused = mapping.request(&call(3000)).unwrap_err();
    assert_eq!(
        refused.iter().map(|found| (found.path.as_str(), found.reason)).collect::<Vec<_>>(),
        [("messages", "TOO_LONG")]
    );
}
