//! What is not valid, and how far it takes along what is around it.

use super::*;

/// What is left with `--skip-invalid`.
fn rest_of(format: &str, text: &str) -> Imported {
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let keys = ForeignKeys::none();
    let input = Input { files: &files, environment: &|_| None, keys: &keys, only: &[], ids: &[] };
    let imported = (format_named(format).unwrap().convert)(&input).unwrap_or_else(|told| panic!("{told}"));
    assert!(!imported.problems.is_empty(), "{text}");
    imported.without_invalid()
}

fn names(imported: &Imported) -> Vec<&str> {
    imported.resources.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn regression_a_key_that_can_not_be_opened_takes_no_provider_along() {
    for (format, text, place) in [
        (
            "llm-provider-configs",
            "provider_name,is_active,api_key_encrypted\ngroq,true,c30d04070302\n",
            "file, row 1, api_key_encrypted",
        ),
        (
            "settings",
            r#"[{"setting_type": "llm_provider", "config": {"provider": "groq", "is_primary": true, "api_key": "gAAAAABcut"}}]"#,
            "file, row 1, api_key",
        ),
        (
            "admin-settings",
            r#"{"active_provider": "groq", "providers": {"groq": {"api_key": "gAAAAABcut"}}}"#,
            "file: providers.groq.api_key",
        ),
    ] {
        let imported = rest_of(format, text);
        assert_eq!(names(&imported), ["providers/groq", "routers/default"], "{format}");
        assert!(told(&imported, place).contains("not valid"), "{format}");
    }
}

/// It failed the whole, and said that nothing else was there.
#[test]
fn regression_a_row_that_is_no_object_is_left_out() {
    let text = r#"[{"provider_type":"openai","key_name":"a","api_key":"sk-aaaaaaaa"}, null, 7]"#;
    let imported = rest_of("api-keys", text);
    assert_eq!(names(&imported), ["providers/chatgpt", "providers/chatgpt/apiKeys/a"]);
    assert!(told(&imported, "file, row 2").contains("not valid: is nothing; a row is an object"));
    assert!(told(&imported, "file, row 3").contains("not valid: is a number; a row is an object"));
    let problems = problems("prompt-templates", r#"[{"name": "a", "template": "x"}, 7]"#);
    assert!(problems.contains("file, row 2: is a number"), "{problems}");
}

/// LiteLLM has no active provider: that the first one is, is a rule of ours.
#[test]
fn regression_the_first_that_is_valid_becomes_active() {
    let text = "model_list:
- {model_name: c, litellm_params: {model: openai_like/c, api_base: 'https://x.example/a b/sk-proj-0123456789abcdefghij0123456789'}}
- {model_name: g, litellm_params: {model: groq/g}}
- {model_name: m, litellm_params: {model: mistral/m}}
litellm_settings: {default_fallbacks: [g, m]}
";
    let imported = rest_of("litellm", text);
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(
        (router.primary.as_str(), &router.fallbacks[..]),
        ("providers/groq", &["providers/mistral".to_owned()][..])
    );
    let note = told(&imported, "model_list[0]");
    assert!(note.contains("which is not valid, gives way to providers/groq"), "{note}");
}

#[test]
fn regression_models_go_with_the_provider_that_is_left_out() {
    let text = "model_list:
- {model_name: c, litellm_params: {model: openai_like/c, api_base: 'ftp://x.example'}}
- {model_name: g, litellm_params: {model: groq/g, api_base: 'ftp://y.example'}}
- {model_name: h, litellm_params: {model: groq/h, api_base: 'https://proxy.example'}}
- {model_name: m, litellm_params: {model: mistral/m, api_base: 'ftp://z.example'}}
";
    let imported = rest_of("litellm", text);
    // Its own go, although another provider of the type stays.
    assert_eq!(names(&imported), ["models/groq/h", "providers/groq-2", "routers/default"]);
}

#[test]
fn regression_a_fallback_that_is_left_out_takes_no_router_along() {
    let rows = |bad: &str| {
        let url = |name: &str| if name == bad { "ftp://x.example" } else { "" };
        let row = |name: &&str| format!("{name},true,{}\n", url(name));
        format!(
            "provider_name,is_active,base_url\n{}",
            ["groq", "mistral", "xai"].iter().map(row).collect::<String>()
        )
    };
    let imported = rest_of("llm-provider-configs", &rows("xai"));
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(
        (router.primary.as_str(), &router.fallbacks[..]),
        ("providers/groq", &["providers/mistral".to_owned()][..])
    );
    assert!(told(&imported, "is_active").contains("without the fallback providers/xai, which is not valid"));
    // Who becomes active instead of the one that the rows say is nobody's to guess.
    assert_eq!(
        names(&rest_of("llm-provider-configs", &rows("groq"))),
        ["providers/mistral", "providers/xai"]
    );
}

#[test]
fn regression_the_first_that_is_enabled_becomes_active() {
    let text = "provider_name,is_active,is_enabled\ngroq,true,false\nmistral,true,true\nxai,true,true\n";
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("llm-provider-configs", &files, &|_| None).unwrap();
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(router.primary, "providers/mistral");
    assert_eq!(router.fallbacks, ["providers/xai", "providers/groq"]);
    let told = told(&imported, "is_active");
    assert!(
        told.contains("providers/groq is disabled, so that providers/mistral is the active one"),
        "{told}"
    );
}

#[test]
fn regression_a_field_of_the_only_provider_is_told_once() {
    let text = r#"{"base_url": "https://api.groq.com", "api_key": "gsk_1", "temperature": 1}"#;
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("admin-settings", &files, &|_| None).unwrap();
    assert_eq!(left_out(&imported), ["file.temperature"]);
}

#[test]
fn models_of_some_providers_are_taken_alone() {
    let of = |words: &[String]| {
        let input = Input {
            files: &[fixture("models_dev.json")],
            environment: &|_| None,
            keys: &ForeignKeys::none(),
            only: words,
            ids: &[],
        };
        (format_named("models-dev").unwrap().convert)(&input).unwrap_or_else(|told| panic!("{told}"))
    };
    let (all, some) = (of(&[]), of(&["OpenAI".to_owned()]));
    assert!(!some.resources.is_empty() && some.resources.len() < all.resources.len());
    assert!(some.resources.iter().all(|one| one.name.starts_with("models/openai/")));
    assert!(told(&some, "models of other providers").ends_with("that were not asked for"));
    let wrong = |word: &str| has_all(&some, &[word.to_owned()]).unwrap_err();
    assert!(has_all(&some, &["OpenAI".to_owned(), "bedrock".to_owned()]).is_ok());
    assert!(wrong("nobody").starts_with("the files have no model of `nobody`; they have those of "));
    assert!(wrong("").contains("names no provider"));
}

/// They were listed and counted, whoever they are of.
#[test]
fn regression_nothing_is_told_of_entries_that_nobody_asked_for() {
    let text = r#"{
        "openai/a": {"litellm_provider": "openai", "mode": "chat"},
        "vertex/b": {"litellm_provider": "vertex_ai-language-models", "mode": "chat", "unheard_of": 1},
        "broken/one": {"litellm_provider": "anthropic", "max_input_tokens": "many"},
        "broken/two": {"mode": "chat"}
    }"#;
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let keys = ForeignKeys::none();
    let input =
        Input { files: &files, environment: &|_| None, keys: &keys, only: &["openai".to_owned()], ids: &[] };
    let imported = (format_named("litellm-prices").unwrap().convert)(&input).unwrap();
    assert_eq!(names(&imported), ["models/openai/a"]);
    assert_eq!(left_out(&imported), ["models of other providers"]);
    assert!(told(&imported, "models of other providers").contains(": 3 that"));
    let wrong = has_all(&imported, &["vertex_ai".to_owned()]).unwrap_err();
    assert_eq!(wrong, "the files have no model of `vertex_ai`; they have those of vertex_ai-language-models");
}
