//! Where providers are: base URLs in the forms that people have them in.

use super::*;
use crate::proto::v1::ProviderType;

fn of(format: &str, text: &str) -> Imported {
    let files = [File { name: "file".to_owned(), text: text.into() }];
    run(format, &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn entries(entries: &[&str]) -> Imported {
    let entry = |params: &&str| format!("- {{model_name: m, litellm_params: {{api_key: k-1, {params}}}}}\n");
    of("litellm", &format!("model_list:\n{}", entries.iter().map(entry).collect::<String>()))
}

#[test]
fn regression_a_base_url_with_the_endpoint_in_it_is_not_doubled() {
    for (provider, url, base) in [
        ("openai", "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("custom", "https://c.example.com/v1/chat/completions", "https://c.example.com/v1"),
        ("custom", "https://c.example.com/v1", "https://c.example.com/v1"),
    ] {
        let text =
            format!(r#"{{"provider": {{"name": "{provider}", "base_url": "{url}", "api_key": "k-1"}}}}"#);
        let imported = of("admin-settings", &text);
        let spec = imported.resources.iter().find_map(|one| match &one.spec {
            Some(Spec::Provider(spec)) => Some(spec),
            _ => None,
        });
        assert_eq!(spec.unwrap().base_url, base, "{url}");
        assert_eq!(imported.items.iter().any(|item| item.note.starts_with("is cut where")), base != url);
    }
}

#[test]
fn regression_google_speaks_the_openai_protocol_at_an_address_of_its_own() {
    let url = "https://generativelanguage.googleapis.com/v1beta/openai";
    let imported =
        of("admin-settings", &format!(r#"{{"providers": {{"google": {{"base_url": "{url}"}}}}}}"#));
    let google = spec_of!(imported, Provider, "providers/google_ai");
    assert_eq!((google.r#type(), google.base_url.as_str()), (ProviderType::OpenaiCompatible, url));
    assert!(told(&imported, "file: providers.google, base URL").contains("openai_compatible"));
}

#[test]
fn regression_a_target_uri_of_azure_is_taken_apart() {
    let uri = |deployment: &str, more: &str| {
        format!("https://x.openai.azure.com/openai/deployments/{deployment}/chat/completions{more}")
    };
    let imported = entries(&[
        &format!("model: azure/dep, api_base: \"{}\"", uri("dep", "?api-version=2024-10-21")),
        &format!("model: azure/gpt-4o, api_base: \"{}\", api_version: 2024-06-01", uri("other", "")),
    ]);
    for (name, path) in [
        ("providers/azure_openai", "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"),
        ("providers/azure_openai-2", "/openai/deployments/other/chat/completions?api-version=2024-06-01"),
    ] {
        let spec = spec_of!(imported, Provider, name);
        assert_eq!(
            (spec.base_url.as_str(), spec.endpoint_path.as_str()),
            ("https://x.openai.azure.com", path)
        );
    }
}

/// Without the call behind it LiteLLM takes it as well; the path was said twice then.
#[test]
fn regression_an_address_of_azure_is_understood_however_much_of_it_is_there() {
    let chat = |deployment: &str, version: &str| {
        format!("/openai/deployments/{deployment}/chat/completions?api-version={version}")
    };
    for (params, path) in [
        (
            "api_base: \"https://x.example/openai/deployments/m\", api_version: 2024-10-21",
            chat("{model}", "2024-10-21"),
        ),
        (
            "api_base: \"https://x.example/openai/deployments/other/\", api_version: 2024-10-21",
            chat("other", "2024-10-21"),
        ),
        (
            "api_base: \"https://x.example/openai/responses?api-version=2025-04-01-preview\"",
            chat("{model}", "2025-04-01-preview"),
        ),
        ("api_base: \"https://x.example/openai/v1/responses\"", "/openai/v1/chat/completions".to_owned()),
        (
            "api_base: \"https://x.example/openai/v1/\", api_version: 2024-10-21",
            chat("{model}", "2024-10-21"),
        ),
    ] {
        let imported = entries(&[&format!("model: azure/m, {params}")]);
        let spec = spec_of!(imported, Provider, "providers/azure_openai");
        assert_eq!(spec.base_url, "https://x.example", "{params}");
        let given =
            if spec.endpoint_path.is_empty() { "/openai/v1/chat/completions" } else { &spec.endpoint_path };
        assert_eq!(given, path, "{params}");
        assert!(told(&imported, "model_list[0].litellm_params.api_base").contains("is cut"), "{params}");
    }
    for (params, why) in [
        ("api_base: \"https://x.example/openai/deployments/m/embeddings\"", "leads to no chat"),
        ("api_base: \"https://x.example/openai/deployments/other\"", "has no `api_version`"),
    ] {
        let imported = entries(&[&format!("model: azure/m, {params}")]);
        assert!(imported.resources.is_empty());
        assert!(told(&imported, "model_list[0] (m)").contains(why), "{params}");
    }
    // What a target URI does not hold is not dropped, and told once.
    for more in ["?api-version=2024-10-21&key=canary", "#canary"] {
        let url = format!("https://x.example/openai/deployments/m/chat/completions{more}");
        let text = format!(
            "model_list: [{{model_name: m, litellm_params: {{model: azure/m, api_key: k-1, api_base: '{url}'}}}}]"
        );
        let problems = problems("litellm", &text);
        assert!(problems.lines().count() == 1 && problems.contains("must not hold a"), "{problems}");
    }
}

/// Only variables and LiteLLM's file were understood; from elsewhere every call went nowhere.
#[test]
fn regression_an_address_of_azure_is_understood_in_every_format() {
    let base = "https://x.openai.azure.com";
    let of = |url: &str, model: &str| {
        let spec = format!(r#"{{"base_url": "{base}{url}", "api_key": "k-1234567890"{model}}}"#);
        let text =
            format!(r#"{{"providers": {{"azure_openai": {spec}}}, "active_provider": "azure_openai"}}"#);
        let file = File { name: "file".to_owned(), text: text.as_str().into() };
        let imported =
            run("admin-settings", &[file], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        let spec = spec_of!(imported, Provider, "providers/azure_openai").clone();
        assert_eq!(spec.base_url, base, "{url}");
        let notes: Vec<&str> = imported.items.iter().map(|item| item.note.as_str()).collect();
        (spec.endpoint_path, spec.default_model, notes.join("\n"))
    };
    let chat = |deployment: &str| {
        format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21")
    };
    let uri = "/openai/deployments/mine/chat/completions?api-version=2024-10-21";
    for (url, model, path, default, told) in [
        ("/openai/deployments/mine", r#", "model": "mine""#, String::new(), "mine", "is cut"),
        (uri, "", chat("{model}"), "mine", "its deployment `mine` is the default model"),
        (uri, r#", "model": "gpt-5""#, chat("mine"), "gpt-5", "is cut"),
        (
            "/openai/deployments/mine",
            r#", "model": "gpt-5""#,
            String::new(),
            "gpt-5",
            "that it names is not taken",
        ),
        ("/openai/v1/responses?api-version=preview", "", String::new(), "", "is no date"),
        ("/openai", "", String::new(), "", "is cut"),
    ] {
        let (found, model, notes) = of(url, model);
        assert_eq!((found, model.as_str()), (path, default), "{url}");
        assert!(notes.contains(told), "{url}: {notes}");
    }
}

/// It is another service, on another wire.
#[test]
fn regression_azure_ai_is_not_azure_openai() {
    let imported =
        entries(&["model: azure_ai/mistral-large, api_base: \"https://x.inference.ai.azure.com\""]);
    assert!(imported.resources.is_empty());
    assert!(told(&imported, "model_list[0] (m)").contains("`azure_ai` is no type here"));
}

const SHARED: &str = "
credential_list:
- {credential_name: ours, credential_values: {api_key: k-0}}
- credential_name: ours
  credential_values: {api_key: os.environ/OURS_KEY, api_base: https://team.openai.azure.com, api_version: 2024-10-21}
- {credential_name: idle, credential_values: {api_key: k-2}}
model_list:
- {model_name: a, litellm_params: {model: azure/a, litellm_credential_name: ours}}
- {model_name: b, litellm_params: {model: azure/b, litellm_credential_name: ours, api_base: https://own.openai.azure.com}}
- {model_name: c, litellm_params: {model: openai/c, litellm_credential_name: gone}}
- {model_name: d, litellm_params: {model: groq/d, api_key: k-3}}
litellm_settings: {default_fallbacks: [d]}
";

#[test]
fn regression_what_entries_share_is_carried_over() {
    let files = [File { name: "file".to_owned(), text: SHARED.into() }];
    let environment = |name: &str| match name {
        "OURS_KEY" => Some(OsString::from("canary-ours")),
        // What the entry does not mean.
        "OPENAI_API_KEY" => Some(OsString::from("canary-other")),
        _ => None,
    };
    let imported = run("litellm", &files, &environment).unwrap_or_else(|problems| panic!("{problems}"));
    for (name, base) in [
        ("providers/azure_openai", "https://team.openai.azure.com"),
        ("providers/azure_openai-2", "https://own.openai.azure.com"),
    ] {
        let spec = spec_of!(imported, Provider, name);
        assert_eq!(spec.base_url, base, "the entry's own comes first");
        assert!(spec.endpoint_path.ends_with("api-version=2024-10-21"));
        assert_eq!(key_of(&imported, &format!("{name}/apiKeys/ours_key")), "canary-ours");
    }
    assert_eq!(
        left_out(&imported),
        ["credential_list[0] (ours)", "model_list[2] (c)", "credential_list[2] (idle)"]
    );
    assert!(told(&imported, "model_list[2] (c)").contains("names the credential `gone`"));
    assert!(!imported.resources.iter().any(|one| one.name.starts_with("providers/chatgpt")));
    let default = told(&imported, "litellm_settings.default_fallbacks");
    assert!(default.contains("routers/default: imported"), "{default}");
    // Without a name that can be read it would have got the key of a variable.
    let text =
        "credential_list: [{credential_name: ours, credential_values: {api_key: k-1}, credential_info: {}}]
model_list: [{model_name: a, litellm_params: {model: openai/a, litellm_credential_name: [ours]}}]";
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("litellm", &files, &environment).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(imported.resources.is_empty());
    assert!(told(&imported, "model_list[0] (a)").contains("by a list"));
    told(&imported, "credential_list[0] (ours).credential_info");
    for (text, wrong) in [
        ("credential_list: 5", "file: credential_list: is a number"),
        ("credential_list: [{credential_name: a}]", "credential_list[0]: has no `credential_name` with"),
    ] {
        let told = problems("litellm", &format!("{text}\nmodel_list: []"));
        assert!(told.contains(wrong), "{told}");
    }
}
