//! A `config.yaml` of thirty models.

use super::*;
use crate::proto::v1::{AuthScheme, ProviderType, RoutingStrategy, header_value, secret::State};

fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "OPENAI_API_KEY" => "sk-openai",
        "AZURE_API_KEY" => "azure-key",
        "AZURE_API_BASE" => "https://team.openai.azure.com/",
        "HOUSE_KEY" => "house-key",
        _ => return None,
    };
    Some(value.into())
}

fn thirty() -> Imported {
    let files = [fixture("litellm.yaml")];
    let models = files[0].text.expose().matches("- model_name:").count();
    assert_eq!(models, 30);
    run("litellm", &files, &environment).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn providers_keys_and_models() {
    let imported = thirty();
    let openai = spec_of!(imported, Provider, "providers/chatgpt");
    assert_eq!(openai.r#type(), ProviderType::Openai);
    assert_eq!(openai.default_model, "gpt-4o");
    assert_eq!(openai.models.len(), 7);
    assert_eq!(key_of(&imported, "providers/chatgpt/apiKeys/openai_api_key"), "sk-openai");
    let azure = spec_of!(imported, Provider, "providers/azure_openai");
    assert_eq!(azure.base_url, "https://team.openai.azure.com");
    assert!(azure.endpoint_path.ends_with("api-version=2024-10-21"));
    assert_eq!(azure.models, ["gpt-4o-eu"]);
    let house = spec_of!(imported, Provider, "providers/llm.internal.example");
    assert_eq!((house.r#type(), house.models[0].as_str()), (ProviderType::OpenaiCompatible, "house-7b"));
    assert!(
        spec_of!(imported, Provider, "providers/openrouter").models.is_empty(),
        "a pattern lets all through"
    );
    let bedrock = spec_of!(imported, Provider, "providers/bedrock");
    assert_eq!(bedrock.base_url, "https://bedrock-runtime.eu-central-1.amazonaws.com");
    assert_eq!(bedrock.models, ["anthropic.claude-sonnet-4-5-20250929-v1:0"]);
    let ollama = spec_of!(imported, Provider, "providers/ollama");
    assert_eq!(
        ollama.auth.as_ref().map_or(AuthScheme::Unspecified, |auth| auth.scheme()),
        AuthScheme::Unspecified
    );

    let model = spec_of!(imported, Model, "models/llm.internal.example/house-7b");
    let prices = model.prices.as_ref().unwrap();
    assert_eq!((prices.input.as_str(), prices.output.as_str()), ("0.25", "1.25"));
    find(&imported, "models/together/Qwen+Qwen2.5-72B-Instruct-Turbo");
    find(&imported, "models/groq/openai+gpt-oss-120b");
    let models = imported.resources.iter().filter(|resource| resource.name.starts_with("models/")).count();
    assert_eq!(models, 27, "all but the pattern and the two that go nowhere");
}

#[test]
fn references_to_the_environment() {
    let imported = thirty();
    assert_eq!(key_of(&imported, "providers/anthropic/apiKeys/litellm"), "sk-ant-canary-literal-1");
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/groq_api_key"), "gsk_canary_from_file");
    for name in ["providers/anthropic/apiKeys/anthropic_api_key", "providers/xai/apiKeys/xai_api_key"] {
        let key = spec_of!(imported, ApiKey, name);
        assert_eq!(
            key.secret.as_ref().map(|secret| (secret.value.clone(), secret.state())),
            Some((None, State::Missing))
        );
    }
    let told = told(&imported, "model_list[21].litellm_params.api_key");
    assert!(told.contains("XAI_API_KEY is not set here: the key is MISSING"), "{told}");
}

#[test]
fn routers_with_their_fallbacks() {
    let imported = thirty();
    let default = spec_of!(imported, Router, "routers/default");
    assert_eq!(
        (default.primary.as_str(), default.fallbacks.as_slice()),
        ("providers/chatgpt", ["providers/groq".to_owned()].as_slice())
    );
    let router = spec_of!(imported, Router, "routers/gpt-4o");
    assert_eq!(router.primary, "providers/chatgpt");
    assert_eq!(router.fallbacks, ["providers/azure_openai", "providers/anthropic", "providers/google_ai"]);
    // By its strategy the fallbacks would get calls of every day.
    assert_eq!(router.strategy(), RoutingStrategy::Ordered);
    assert_eq!(default.strategy(), RoutingStrategy::Ordered);
    assert_eq!(router.retries.as_ref().unwrap().max_retries, Some(3));
    let timeouts = router.timeouts.unwrap();
    assert_eq!((timeouts.request.unwrap().seconds, timeouts.first_token.unwrap().seconds), (30, 10));
    assert_eq!(spec_of!(imported, Router, "routers/claude-opus").fallbacks, ["providers/bedrock"]);
    assert_eq!(spec_of!(imported, CachePolicy, "cachePolicies/default").ttl.unwrap().seconds, 600);
    let routers = imported.resources.iter().filter(|resource| resource.name.starts_with("routers/")).count();
    assert_eq!(routers, 3);
}

/// By name, so that nobody has to guess what got lost.
#[test]
fn what_could_not_be_carried_over_is_listed_by_name() {
    let imported = thirty();
    let expected = [
        "environment_variables.GROQ_API_KEY",
        "environment_variables.LANGFUSE_SECRET_KEY",
        "model_list[0].litellm_params.rpm",
        "model_list[0].litellm_params.tpm",
        "model_list[5].litellm_params.timeout",
        "model_list[9].litellm_params.max_tokens",
        "model_list[25] (house-model).model_info.id",
        "model_list[25] (house-model).model_info.team_id",
        "model_list[27].litellm_params.api_key",
        "model_list[27].litellm_params.aws_access_key_id",
        "model_list[27].litellm_params.aws_secret_access_key",
        "model_list[28] (gemini-vertex)",
        "model_list[29] (lost-azure)",
        "router_settings.allowed_fails",
        "router_settings.cooldown_time",
        "router_settings.redis_host",
        "router_settings.redis_password",
        "router_settings.context_window_fallbacks",
        "litellm_settings.cache_params.type",
        "litellm_settings.cache_params.host",
        "litellm_settings.drop_params",
        "litellm_settings.success_callback",
        "general_settings.master_key",
        "general_settings.database_url",
        "router_settings.fallbacks: gpt-4.1 to gpt-4.1-mini",
        "router_settings.fallbacks: nowhere",
        "router_settings.fallbacks",
    ];
    // The names that callers asked for are looked at below.
    let mut found = left_out(&imported);
    found.retain(|from| !from.ends_with(", model_name"));
    assert_eq!(found, expected);
    assert!(told(&imported, "model_list[28] (gemini-vertex)").contains("`vertex_ai` is no type here"));
    assert!(told(&imported, "model_list[29] (lost-azure)").contains("NOT_SET_ANYWHERE"));
    assert!(told(&imported, "router_settings.fallbacks").contains("no model `gone`"));
    assert!(
        told(&imported, "model_list[8] (claude-sonnet), model_name")
            .contains("callers asked for `claude-sonnet`")
    );
}

#[test]
fn malformed_files_name_the_path() {
    for (text, place) in [
        ("model_list: 5", "file: model_list: is a number"),
        ("other: 1", "file: has no `model_list`"),
        ("model_list: [{model_name: a}]", "model_list[0]: has no map `litellm_params`"),
        (
            "model_list: [{model_name: a, litellm_params: {api_key: k}}]",
            "model_list[0].litellm_params.model: is missing",
        ),
        ("model_list: [{litellm_params: {model: openai/a}}]", "model_list[0].model_name: is missing"),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/a, api_key: 'a b'}}]",
            "model_list[0].litellm_params.api_key: may hold only visible ASCII",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/a, api_base: 'ftp://x'}}]",
            "model_list[0].litellm_params.api_base: must begin with",
        ),
        (
            "model_list: []\nrouter_settings: {num_retries: many}",
            "file: router_settings.num_retries: is not a whole number",
        ),
        (
            "model_list: []\nrouter_settings: {timeout: -1}",
            "file: router_settings.timeout: is not a number of seconds",
        ),
        (
            "model_list: []\nlitellm_settings: {fallbacks: x}",
            "file: litellm_settings.fallbacks: is not a list",
        ),
        ("a: [", "file: is not YAML"),
        ("a: 1\na: 2", "file: is not YAML"),
    ] {
        let told = problems("litellm", text);
        assert!(told.contains(place), "{text}: {told}");
    }
}

/// A variable that is referred to may hold anything, and these fields are in the clear.
#[test]
fn regression_references_bring_no_secret_into_open_fields() {
    let model = |model: &str, more: &str| {
        format!("  - {{model_name: m, litellm_params: {{model: {model}, api_key: k-0123456789, {more}}}}}\n")
    };
    let text = [
        "model_list:\n".to_owned(),
        model("openai/a", "organization: os.environ/HOUSE_KEY"),
        model("azure/b", "api_base: 'https://x.openai.azure.com', api_version: os.environ/HOUSE_KEY"),
        model("bedrock/c", "aws_region_name: os.environ/HOUSE_KEY"),
        model("groq/d", "organization: org-x"),
        model("openai/e", "organization: os.environ/ORGANIZATION"),
        model("azure/f", "api_base: 'https://y.openai.azure.com', api_version: os.environ/VERSION"),
        model("bedrock/g", "aws_region_name: os.environ/REGION"),
    ];
    let environment = |name: &str| {
        let value = match name {
            "HOUSE_KEY" => "sk-canary-0123456789",
            "ORGANIZATION" => "org-a1B2",
            "VERSION" => "2025-01-01-preview",
            "REGION" => "us-gov-west-1",
            _ => return None,
        };
        Some(OsString::from(value))
    };
    let files = [File { name: "file".to_owned(), text: text.concat().into() }];
    let imported = run("litellm", &files, &environment).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!format!("{imported:?}").contains("canary"));
    for (index, field) in [(0, "organization"), (1, "api_version"), (3, "organization")] {
        let path = format!("model_list[{index}].litellm_params.{field}");
        assert!(left_out(&imported).contains(&path.as_str()), "{path}");
    }
    let lost = ["model_list[2].litellm_params.aws_region_name", "model_list[2] (m)"];
    assert!(lost.iter().all(|path| left_out(&imported).contains(path)), "{:?}", left_out(&imported));
    let organizations = imported.resources.iter().filter_map(|resource| match &resource.spec {
        Some(Spec::Provider(spec)) => spec.headers.get("OpenAI-Organization"),
        _ => None,
    });
    let plain = header_value::Value::Plain("org-a1B2".into());
    assert_eq!(organizations.map(|header| header.value.clone()).collect::<Vec<_>>(), [Some(plain)]);
    let azure = spec_of!(imported, Provider, "providers/azure_openai-2");
    assert!(azure.endpoint_path.ends_with("api-version=2025-01-01-preview"));
    let bedrock = spec_of!(imported, Provider, "providers/bedrock");
    assert_eq!(bedrock.base_url, "https://bedrock-runtime.us-gov-west-1.amazonaws.com");
}

#[test]
fn regression_a_fallback_to_another_model_than_the_default_is_told() {
    let text = "model_list:
- {model_name: a1, litellm_params: {model: xai/mod-a}}
- {model_name: b1, litellm_params: {model: deepseek/mod-b}}
- {model_name: b2, litellm_params: {model: deepseek/mod-b2}}
router_settings: {fallbacks: [{a1: [FALLBACK]}]}
";
    for (fallback, outcome, note) in [
        ("b1", Outcome::Imported, ""),
        ("b2", Outcome::Changed, "calls deepseek with its default model mod-b, not with mod-b2"),
    ] {
        let file = File { name: "file".into(), text: text.replace("FALLBACK", fallback).as_str().into() };
        let imported = run("litellm", &[file], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        let from = format!("router_settings.fallbacks: a1 to {fallback}");
        let item = imported.items.iter().find(|item| item.from == from).unwrap();
        assert_eq!((item.outcome, item.note.as_str()), (outcome, note));
        assert_eq!(item.to, "routers/a1");
    }
}

/// They are a field of providers here; entries with others go to another provider.
#[test]
fn regression_extra_headers_are_carried_over() {
    let text = "
model_list:
- model_name: a
  litellm_params:
    model: openai/a
    api_key: sk-canary-1
    extra_headers: {X-Team: search, X-Auth-Token: canary-2, X-Ref: os.environ/TOKEN, X-Lost: os.environ/NOWHERE, Host: x}
- {model_name: b, litellm_params: {model: openai/b, api_key: sk-canary-1}}
- {model_name: c, litellm_params: {model: xai/c, extra_headers: [x]}}
";
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let environment = |name: &str| (name == "TOKEN").then(|| OsString::from("canary-3"));
    let keys = ForeignKeys::none();
    let input = Input { files: &files, environment: &environment, keys: &keys, only: &[], ids: &[] };
    let imported = (format_named("litellm").unwrap().convert)(&input).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(imported.problems.len(), 1);
    assert!(imported.problems[0].place.ends_with("extra_headers"), "{:?}", imported.problems);
    let headers = &spec_of!(imported, Provider, "providers/chatgpt").headers;
    let shown = |name: &str| match headers[name].value.as_ref().unwrap() {
        header_value::Value::Plain(text) => (text.clone(), None),
        header_value::Value::Secret(secret) => {
            (secret.value.clone().unwrap_or_default(), Some(secret.state()))
        }
    };
    assert_eq!(shown("X-Team"), ("search".to_owned(), None));
    assert_eq!(shown("X-Auth-Token"), ("canary-2".to_owned(), Some(State::Unspecified)));
    assert_eq!(shown("X-Ref"), ("canary-3".to_owned(), Some(State::Unspecified)));
    assert_eq!(shown("X-Lost"), (String::new(), Some(State::Missing)));
    assert!(spec_of!(imported, Provider, "providers/chatgpt-2").headers.is_empty());
    let from = "model_list[0].litellm_params.extra_headers";
    assert!(told(&imported, &format!("{from}.X-Lost")).contains("NOWHERE is not set here"));
    assert!(told(&imported, &format!("{from}.Host")).contains("not carried over"));
    assert!(imported.items.iter().all(|item| !item.to_string().contains("canary")));
}

#[test]
fn regression_placeholders_are_no_keys() {
    let text = "model_list:\n- {model_name: a, litellm_params: {model: openai/a, api_key: sk-ant-xxx}}\n";
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("litellm", &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(told(&imported, "model_list[0].litellm_params.api_key").contains("placeholder"));
    assert!(!imported.resources.iter().any(|one| one.name.contains("/apiKeys/")));
}

fn of_text(text: &str) -> Imported {
    let files = [File { name: "config.yaml".to_owned(), text: text.to_owned().into() }];
    run("litellm", &files, &environment).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A model without a provider was taken for OpenAI's, and so its key went there.
#[test]
fn regression_a_key_goes_to_nobody_but_whose_it_is() {
    let of = |model: &str, more: &str| {
        of_text(&format!(
            "model_list:\n- model_name: m\n  litellm_params: {{model: {model}, api_key: k-1{more}}}\n"
        ))
    };
    for (model, key) in [
        ("claude-3-5-sonnet-20240620", "providers/anthropic/apiKeys/litellm"),
        ("gemini-pro", "providers/google_ai/apiKeys/litellm"),
        ("command-r", "providers/cohere/apiKeys/litellm"),
        ("gpt-4o", "providers/chatgpt/apiKeys/litellm"),
        ("o3-mini", "providers/chatgpt/apiKeys/litellm"),
    ] {
        assert_eq!(key_of(&of(model, ""), key), "k-1", "{model}");
    }
    let of = |model: &str, variable: &str| {
        let params = format!("{{model: {model}, api_key: os.environ/{variable}}}");
        of_text(&format!("model_list:\n- model_name: m\n  litellm_params: {params}\n"))
    };
    find(&of("our-finetune", "MISTRAL_API_KEY"), "providers/mistral/apiKeys/mistral_api_key");
    for (model, variable, told) in [
        ("gpt-4o", "ANTHROPIC_API_KEY", "write `openai/gpt-4o` or `anthropic/gpt-4o`"),
        ("gpt-4o", "AZURE_API_KEY", "write `openai/gpt-4o` or `azure_openai/gpt-4o`"),
        ("gpt-4o", "OLD_ANTHROPIC_API_KEY", "write `openai/gpt-4o` or `anthropic/gpt-4o`"),
        ("gpt-4o", "TOGETHERAI_API_KEY", "write `openai/gpt-4o` or `together/gpt-4o`"),
        ("deepseek-chat", "FIREWORKS_API_KEY", "write `deepseek/deepseek-chat` if it is"),
        ("our-finetune", "HOUSE_KEY", "for example `openai/our-finetune`"),
    ] {
        let imported = of(model, variable);
        assert!(imported.resources.iter().all(|one| !one.name.contains("apiKeys")), "{model} {variable}");
        let items: Vec<String> = imported.items.iter().map(ToString::to_string).collect();
        assert!(items.iter().any(|item| item.contains(told)), "{items:?}");
    }
}

#[test]
fn regression_a_base_url_is_cut_where_its_type_is() {
    let entry = |model: &str, base: &str| {
        format!(
            "- model_name: {model}\n  litellm_params: {{model: {model}, api_key: k-1, api_base: \"{base}\"}}\n"
        )
    };
    let list = [
        entry("anthropic/claude-x", "https://api.anthropic.com"),
        entry("gemini/gemini-x", "https://generativelanguage.googleapis.com/v1beta"),
        entry("mistral/m", "https://api.mistral.ai/v1/chat/completions"),
        entry("groq/g", "https://proxy.example"),
    ];
    let imported = of_text(&format!("model_list:\n{}", list.concat()));
    for (name, base) in [
        ("providers/anthropic", "https://api.anthropic.com/v1"),
        ("providers/google_ai", "https://generativelanguage.googleapis.com"),
        ("providers/mistral", "https://api.mistral.ai/v1"),
        ("providers/groq", "https://proxy.example"),
    ] {
        assert_eq!(spec_of!(imported, Provider, name).base_url, base);
    }
    let cut = imported.items.iter().filter(|item| item.note.starts_with("is cut where")).count();
    assert_eq!(cut, 3);
}

/// Who takes any model has the first one for calls that name none, as anybody has.
#[test]
fn regression_a_pattern_takes_no_default_model_away() {
    let text = "model_list:
- {model_name: gpt-5, litellm_params: {model: openai/gpt-5}}
- {model_name: any, litellm_params: {model: openai/*}}
";
    let file = File { name: "file".to_owned(), text: text.into() };
    let imported = run("litellm", &[file], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let spec = spec_of!(imported, Provider, "providers/chatgpt");
    assert_eq!((spec.default_model.as_str(), spec.models.len()), ("gpt-5", 0));
}
