//! What is not valid, and how far it takes along what is around it.

use super::*;

/// What is left with `--skip-invalid`.
fn rest_of(format: &str, text: &str) -> Imported {
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let keys = ForeignKeys::none();
    let input = Input { files: &files, environment: &|_| None, keys: &keys };
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

#[test]
fn regression_models_go_with_the_provider_that_is_left_out() {
    let text = "model_list:
- {model_name: c, litellm_params: {model: openai_like/c, api_base: 'ftp://x.example'}}
- {model_name: g, litellm_params: {model: groq/g, api_base: 'ftp://y.example'}}
- {model_name: h, litellm_params: {model: groq/h, api_base: 'https://proxy.example'}}
- {model_name: m, litellm_params: {model: mistral/m, api_base: 'ftp://z.example'}}
";
    let imported = rest_of("litellm", text);
    // A model of a type stays where one provider of the type does.
    assert_eq!(names(&imported), ["models/groq/g", "models/groq/h", "providers/groq-2"]);
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
    let imported = || import("models-dev", &["models_dev.json"]);
    let all = imported();
    let some = only(imported(), &["OpenAI".to_owned()]).unwrap();
    assert!(!some.resources.is_empty() && some.resources.len() < all.resources.len());
    assert!(some.resources.iter().all(|one| one.name.starts_with("models/openai/")));
    let others = all.resources.len() - some.resources.len();
    assert!(
        told(&some, "models of other providers").ends_with(&format!(": {others} that were not asked for"))
    );
    assert_eq!(only(imported(), &["nobody".to_owned()]).unwrap_err(), "the files have no model of `nobody`");
}
