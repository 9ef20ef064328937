//! Prompt templates of a table, with their preferences.

use super::*;
use crate::proto::v1::{ReasoningEffort, setting_spec::Value};

#[test]
fn prompt_templates_keep_every_preference() {
    let imported = import("prompt-templates", &["prompt_templates.json"]);
    let spec = spec_of!(imported, PromptTemplate, "promptTemplates/summarise");
    assert_eq!(spec.template, "Summarise for {{audience}}: {{text}}");
    let names: Vec<&str> = spec.variables.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["audience", "text"]);
    let generation = spec.generation.as_ref().unwrap();
    assert_eq!(
        (generation.temperature, generation.top_p, generation.max_tokens),
        (Some(0.2), Some(0.9), Some(500))
    );
    assert_eq!(
        (generation.top_k, generation.stop_sequences.as_slice()),
        (Some(40), ["END".to_owned()].as_slice())
    );
    assert_eq!((generation.frequency_penalty, generation.presence_penalty), (Some(0.1), Some(0.2)));
    let chat = spec.chat.as_ref().unwrap();
    assert_eq!((chat.system_prompt.as_str(), chat.parallel_tool_calls), ("You are brief.", Some(false)));
    let reasoning = spec.reasoning.as_ref().unwrap();
    assert_eq!((reasoning.effort(), reasoning.thinking_tokens), (ReasoningEffort::Low, Some(100)));
    let kept = spec_of!(imported, Setting, "settings/prompt_templates.summarise.preferences");
    assert_eq!(kept.value, Some(Value::JsonValue(r#"{"favouriteColour":"blue","ui":{"wide":true}}"#.into())));
    assert_eq!(imported.count(Outcome::LeftOut), 0, "no preference is lost");
}

/// The setting that keeps preferences is in the clear.
#[test]
fn regression_secrets_among_preferences_are_left_out() {
    let text = r#"[{"name": "a", "template": "x", "llm_preferences": {
        "api_key": "sk-canary-1", "openAIApiKey": "sk-canary-2", "smtp password": "canary-3", "tone": "dry",
        "max_tokens_shown": 5, "nested": {"list": [{"accessToken": "canary-4", "page_token": "p"}]},
        "headers": {"Authorization": "Bearer canary-5", "X-Title": "t"}}}]"#;
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("prompt-templates", &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let kept = spec_of!(imported, Setting, "settings/prompt_templates.a.preferences");
    let expected = r#"{"tone":"dry","max_tokens_shown":5,"nested":{"list":[{"page_token":"p"}]},"headers":{"X-Title":"t"}}"#;
    assert_eq!(kept.value, Some(Value::JsonValue(expected.into())));
    let row = "file, row 1, llm_preferences";
    let keys =
        ["api_key", "openAIApiKey", "smtp password", "nested.list[0].accessToken", "headers.Authorization"];
    assert_eq!(left_out(&imported), keys.map(|key| format!("{row}.{key}")));
    assert!(!format!("{imported:?}").contains("canary"));

    let text = r#"[{"name": "a", "template": "x", "llm_preferences": {"api_key": "sk-canary"}}]"#;
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("prompt-templates", &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(imported.resources.len(), 1, "no setting without a preference");
}

#[test]
fn invalid_preferences_are_told_and_get_their_default() {
    let imported = import("prompt-templates", &["prompt_templates.json"]);
    let spec = spec_of!(imported, PromptTemplate, "promptTemplates/translate");
    let generation = spec.generation.as_ref().unwrap();
    assert_eq!((generation.temperature, generation.max_tokens, generation.top_p), (None, None, Some(0.5)));
    let row = "prompt_templates.json, row 2, llm_preferences";
    let told = |key: &str| told(&imported, &format!("{row}.{key}"));
    assert!(told("temperature").contains("default used: must be from 0 to 2; the default is used"));
    assert!(told("maxTokens").contains("default used: is text, and has to be a whole number"));
    assert!(told("top_p").contains("imported"));
    find(&imported, "promptTemplates/broken");
    assert!(
        super::told(&imported, "prompt_templates.json, row 3, llm_preferences")
            .contains("the defaults are used")
    );
    assert!(problems("prompt-templates", r#"[{"template": "x"}]"#).contains("row 1: has no `name`"));
    assert!(
        problems("prompt-templates", r#"[{"name": "x", "template": "{{a"}]"#)
            .contains("prompt_template.template")
    );
}

/// Preferences that are right each by itself, and not together, failed the whole import.
#[test]
fn regression_preferences_that_contradict_each_other_are_replaced_by_defaults() {
    let text = r#"[{"name": "a", "template": "x", "llm_preferences":
        {"thinkingTokens": 2000, "maxTokens": 50, "temperature": 0.5, "top_p": 7}},
        {"name": "b", "template": "y"}]"#;
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("prompt-templates", &files, &|_| None).unwrap();
    let spec = spec_of!(imported, PromptTemplate, "promptTemplates/a");
    let generation = spec.generation.as_ref().unwrap();
    assert_eq!(
        (generation.temperature, generation.top_p, generation.max_tokens),
        (Some(0.5), None, Some(50))
    );
    assert_eq!(spec.reasoning.and_then(|reasoning| reasoning.thinking_tokens), None);
    let of = |outcome| {
        let items = imported.items.iter().filter(move |item| item.outcome == outcome);
        items.map(|item| item.from.as_str()).collect::<Vec<_>>()
    };
    let defaulted = of(Outcome::Defaulted);
    assert_eq!(defaulted.len(), 2, "{defaulted:?}");
    for key in ["thinkingTokens", "top_p"] {
        assert!(defaulted.contains(&format!("file, row 1, llm_preferences.{key}").as_str()), "{defaulted:?}");
    }
    assert!(of(Outcome::Imported).contains(&"file, row 1, llm_preferences.maxTokens"));
    assert!(imported.resources.iter().any(|one| one.name == "promptTemplates/b"));
}

/// Both were told as imported.
#[test]
fn regression_a_preference_in_two_spellings_is_told() {
    let text = r#"[{"name": "a", "template": "x", "llm_preferences":
        {"top_k": 5, "topK": 7, "my_own": 1, "myOwn": 2, "max_completion_tokens": 3, "maxTokens": 4}}]"#;
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("prompt-templates", &files, &|_| None).unwrap();
    let spec = spec_of!(imported, PromptTemplate, "promptTemplates/a");
    let generation = spec.generation.as_ref().unwrap();
    assert_eq!((generation.top_k, generation.max_tokens), (Some(5), Some(4)));
    let place = "file, row 1, llm_preferences";
    assert_eq!(left_out(&imported), [format!("{place}.topK"), format!("{place}.max_completion_tokens")]);
    assert!(imported.items.iter().any(|item| item.note == "`top_k` says the same, and is taken"));
}
