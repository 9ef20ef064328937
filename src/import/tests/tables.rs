//! Dumps of tables, and `admin_settings.json`.

use super::*;
use crate::proto::v1::{AuthScheme, DatabaseTlsMode, HeaderValue, header_value, setting_spec::Value};

#[test]
fn admin_settings() {
    let imported = import("admin-settings", &["admin_settings.json"]);
    let groq = spec_of!(imported, Provider, "providers/groq");
    assert_eq!(
        (groq.base_url.as_str(), groq.endpoint_path.as_str()),
        ("https://api.groq.com", "/openai/v1/responses")
    );
    assert_eq!((groq.default_model.as_str(), groq.max_output_tokens), ("openai/gpt-oss-120b", 8192));
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/admin_settings"), "gsk_canary_admin");
    assert_eq!(spec_of!(imported, Provider, "providers/openrouter").enabled, Some(false));
    let headers = &spec_of!(imported, Provider, "providers/chatgpt").headers;
    assert_eq!(headers.len(), 1, "the header of the key is the key's");
    assert_eq!(spec_of!(imported, Router, "routers/default").primary, "providers/groq");
    let expected = [
        "admin_settings.json: theme",
        "admin_settings.json: providers.groq.temperature",
        "admin_settings.json: providers.openrouter.api_key",
        "admin_settings.json: providers.google_ai.api_key",
        "admin_settings.json: providers.chatgpt.headers, header Authorization",
        "admin_settings.json: providers.chatgpt.api_key",
    ];
    assert_eq!(left_out(&imported), expected);
}

#[test]
fn the_shape_that_is_told_is_accepted() {
    let shape = format_named("admin-settings").unwrap().shape();
    let (example, _) = shape.split_once("\nNames may").unwrap();
    let files = [File { name: "file".into(), text: example.into() }];
    let imported = run("admin-settings", &files, &|_| None).unwrap();
    assert_eq!(spec_of!(imported, Provider, "providers/groq").endpoint_path, "/openai/v1/responses");
    assert!(left_out(&imported) == ["file: providers.groq.api_key"], "its key is a placeholder");
}

#[test]
fn regression_a_provider_of_several_names_is_one_provider() {
    let read = |text: &str| {
        let files = [File { name: "file".into(), text: text.into() }];
        run("admin-settings", &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
    };
    for word in ["openai", "OpenAI", "chatgpt", "open-ai"] {
        let imported = read(&format!(
            r#"{{"activeProvider": "{word}", "providers": {{"{word}": {{"api_key": "sk-1"}}}}}}"#
        ));
        assert_eq!(spec_of!(imported, Router, "routers/default").primary, "providers/chatgpt", "{word}");
        assert_eq!(key_of(&imported, "providers/chatgpt/apiKeys/admin_settings"), "sk-1");
    }
    let imported =
        read(r#"{"active_provider": "chatgpt", "providers": {"openai": {}, "chatgpt": {"model": "m"}}}"#);
    assert_eq!(spec_of!(imported, Provider, "providers/chatgpt").default_model, "m", "to the letter");
    assert_eq!(
        spec_of!(imported, Provider, "providers/openai").default_model,
        "",
        "which keeps its own then"
    );
    assert_eq!(spec_of!(imported, Router, "routers/default").primary, "providers/chatgpt");
}

#[test]
fn regression_a_field_that_is_there_twice_is_told() {
    let text = r#"{"providers": {"groq": {"apiKey": "gsk_1", "api_key": "gsk_2", "api_base": "https://api.groq.com",
        "base_url": "https://api.groq.com/openai/v1"}}}"#;
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("admin-settings", &files, &|_| None).unwrap();
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/admin_settings"), "gsk_1");
    assert_eq!(left_out(&imported), ["file: providers.groq.api_key", "file: providers.groq.api_base"]);
    assert!(
        told(&imported, "file: providers.groq.api_base").contains("`base_url` says the same, and is taken")
    );
}

#[test]
fn regression_times_are_compared_as_times() {
    let newest = |one: &str, other: &str| {
        let text = format!(
            r#"[{{"key": "a", "value": "one", "updated_at": "{one}"}}, {{"key": "a", "value": "other", "updated_at": "{other}"}}]"#
        );
        let files = [File { name: "file".into(), text: text.into() }];
        let imported = run("runtime-config", &files, &|_| None).unwrap();
        let unread = left_out(&imported).iter().filter(|from| from.ends_with("updated_at")).count();
        let value = spec_of!(imported, Setting, "settings/a").value.clone();
        (value == Some(Value::StringValue("one".into())), unread)
    };
    for (newer, older) in [
        ("2026-10-01T00:00:00Z", "2026-09-30 23:00:00+00"),
        ("2026-10-01", "2026-09-30 23:59"),
        ("1790000000", "999999999"),
        ("1790000000000", "1780000000"),
        ("Thu, 01 Oct 2026 10:00:00 +0000", "2026-09-30"),
    ] {
        assert_eq!(newest(newer, older), (true, 0), "{newer} {older}");
        assert_eq!(newest(older, newer), (false, 0), "{newer} {older}");
    }
    // As text the first would be the newer; the later row stays, and it is told why.
    assert_eq!(newest("9/30/2026", "10/1/2026"), (false, 2));
}

#[test]
fn admin_settings_with_one_provider() {
    for text in [
        r#"{"provider": {"base_url": "https://api.groq.com", "model": "m", "api_key": "gsk_1"}}"#,
        r#"{"llm": {"provider": "groq", "baseUrl": "https://api.groq.com", "model": "m", "apiKey": "gsk_1"}}"#,
        r#"{"base_url": "https://api.groq.com", "model": "m", "api_key": "gsk_1"}"#,
        r#"{"providers": [{"name": "Groq", "base_url": "https://api.groq.com", "model": "m", "api_key": "gsk_1", "active": true}]}"#,
    ] {
        let files = [File { name: "file".into(), text: text.into() }];
        let imported =
            run("admin-settings", &files, &|_| None).unwrap_or_else(|problems| panic!("{text}: {problems}"));
        assert_eq!(spec_of!(imported, Provider, "providers/groq").default_model, "m", "{text}");
        assert_eq!(key_of(&imported, "providers/groq/apiKeys/admin_settings"), "gsk_1");
        assert_eq!(spec_of!(imported, Router, "routers/default").primary, "providers/groq");
    }
    for (text, place) in [
        ("{}", "file: holds no provider"),
        (r#"{"providers": 5}"#, "file: providers: is a number"),
        (r#"{"providers": {"a": []}}"#, "file: providers.a: is a list"),
        (r#"{"providers": [{"api_key": "x"}]}"#, "file: providers[0]: has neither a name"),
        (r#"{"providers": {"groq": {"enabled": "perhaps"}}}"#, "file: providers.groq.enabled: is text"),
        (
            r#"{"active_provider": "b", "providers": {"groq": {}}}"#,
            "file: active_provider: names a provider that is not",
        ),
        (
            r#"{"providers": {"groq": {"api_key": "secret key"}}}"#,
            "file: providers.groq.api_key: may hold only",
        ),
        (r#"{"providers": {"groq": {"base_url": "x"}}}"#, "provider.base_url must begin with"),
        (r#"{"a": 1, "a": 2}"#, "file: is not JSON"),
    ] {
        let told = problems("admin-settings", text);
        assert!(told.contains(place) && !told.contains("secret key"), "{text}: {told}");
    }
}

#[test]
fn settings() {
    let imported = import("settings", &["settings.json"]);
    let groq = spec_of!(imported, Provider, "providers/primary-groq");
    assert_eq!(
        (groq.display_name.as_str(), groq.default_model.as_str()),
        ("Primary Groq", "llama-3.3-70b-versatile")
    );
    assert_eq!(key_of(&imported, "providers/primary-groq/apiKeys/settings"), "gsk_canary_settings");
    assert_eq!(key_of(&imported, "providers/house/apiKeys/settings"), "canary-house-key", "base64 twice");
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(
        (router.primary.as_str(), router.fallbacks[0].as_str()),
        ("providers/primary-groq", "providers/house")
    );
    let main = spec_of!(imported, Database, "databases/main");
    assert_eq!(main.password.as_ref().and_then(|secret| secret.value.as_deref()), Some("canary-db-password"));
    assert_eq!(main.tls_mode(), DatabaseTlsMode::Preferred);
    assert!(told(&imported, "settings.json, row 3").contains("changed: says nothing of TLS"));
    assert!(told(&imported, "settings.json, row 4, password").contains("stored in the clear"));
    assert_eq!(left_out(&imported), ["settings.json, row 2, colour", "settings.json, row 5"]);
}

#[test]
fn what_no_key_opens_fails_closed() {
    let files = [fixture("settings.json")];
    let format = format_named("settings").unwrap();
    let input =
        Input { files: &files, environment: &|_| None, keys: &ForeignKeys::none(), only: &[], ids: &[] };
    let Err(problems) = (format.convert)(&input).and_then(Imported::whole) else {
        panic!("ciphertext was taken for a key")
    };
    assert_eq!(problems.0.len(), 3, "each is named: {problems}");
    assert!(
        problems.to_string().contains("settings.json, row 1, api_key: is sealed, and no given key opens it")
    );
}

#[test]
fn llm_provider_configs() {
    let imported = import("llm-provider-configs", &["llm_provider_configs.csv"]);
    let groq = spec_of!(imported, Provider, "providers/groq");
    assert_eq!(groq.auth.as_ref().map(|auth| auth.scheme()), Some(AuthScheme::Bearer));
    assert_eq!((groq.context_window_tokens, groq.max_output_tokens), (131_072, 32_768));
    assert_eq!(groq.models.len(), 2);
    assert_eq!(groq.capabilities.as_ref().and_then(|all| all.tools), Some(true));
    assert!(matches!(groq.headers["X-Api-Key"], HeaderValue { value: Some(header_value::Value::Secret(_)) }));
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/llm_provider_configs"), "gsk_canary_llm");
    let google = spec_of!(imported, Provider, "providers/google_ai");
    assert_eq!(google.endpoint_path, "/v1beta/models/{model}:generateContent");
    assert_eq!(google.auth.as_ref().unwrap().header_template, "x-goog-api-key: {api_key}");
    assert_eq!(google.enabled, Some(false));
    assert_eq!(spec_of!(imported, Router, "routers/default").primary, "providers/groq");
    let row = "llm_provider_configs.csv, row 1";
    assert!(
        left_out(&imported).contains(&format!("{row}, model_capabilities, capability telepathy").as_str())
    );
}

#[test]
fn ciphertext_of_pgcrypto_is_told_how_to_select() {
    let told = problems("llm-provider-configs", "provider_name,api_key_encrypted\ngroq,c30d04070302\n");
    assert!(told.starts_with("file, row 1, api_key_encrypted: is sealed by pgcrypto"), "{told}");
    assert!(
        told.contains("pgp_sym_decrypt(decode(api_key_encrypted, 'hex'), 'PASSPHRASE') AS api_key"),
        "{told}"
    );
    assert!(!told.contains("c30d"));
    for (text, place) in [
        ("display_name\nx\n", "file, row 1: has no `provider_name`"),
        (
            "provider_name,supported_models\ngroq,[x\n",
            "file, row 1, supported_models: the column `supported_models`",
        ),
        (
            "provider_name,context_window_tokens\ngroq,many\n",
            "file, row 1, context_window_tokens: is not a number",
        ),
    ] {
        let told = problems("llm-provider-configs", text);
        assert!(told.contains(place), "{told}");
    }
}

#[test]
fn provider_configs_and_api_keys() {
    let imported = import("provider-configs", &["provider_configs.json", "api_keys.csv"]);
    let openai = spec_of!(imported, Provider, "providers/openai-main");
    assert_eq!(
        (openai.default_model.as_str(), openai.base_url.as_str()),
        ("gpt-4o", "https://api.openai.com/v1")
    );
    assert_eq!(key_of(&imported, "providers/openai-main/apiKeys/prod"), "sk-canary-prod");
    assert_eq!(spec_of!(imported, ApiKey, "providers/openai-main/apiKeys/old").active, Some(false));
    assert_eq!(key_of(&imported, "providers/claude/apiKeys/main"), "sk-ant-canary");
    assert_eq!(
        key_of(&imported, "providers/groq/apiKeys/only"),
        "gsk_canary_only",
        "a provider is made for it"
    );
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(router.type_defaults["openai"], "providers/openai-main");
    assert_eq!(router.type_defaults["anthropic"], "providers/claude");
    assert!(told(&imported, "is_default").contains("nothing there says which provider is active"));
    assert_eq!(
        imported.fills["routers/default"],
        ["router.type_defaults.openai", "router.type_defaults.anthropic"],
        "they go into the router that is there"
    );
    let expected = [
        "provider_configs.json, row 1, settings.temperature",
        "provider_configs.json, row 3, settings.apiKey",
        "api_keys.csv, row 3, last_used_at",
    ];
    assert_eq!(left_out(&imported), expected);

    for (text, place) in [
        (
            "provider_type,key_name,encrypted_key\nmars,a,x\n",
            "file, row 1: has a `provider_type` that is unknown",
        ),
        ("provider_type,key_name,encrypted_key\nopenai,,x\n", "file, row 1: has no `key_name`"),
        ("provider_type,key_name,encrypted_key\nopenai,a,\n", "file, row 1, encrypted_key: is empty"),
        (
            "provider_type,name,settings\nopenai,a,\"{\"\"model\"\": []}\"\n",
            "file, row 1, settings.model: is a list",
        ),
    ] {
        let told = problems("api-keys", text);
        assert!(told.contains(place), "{told}");
    }
}

#[test]
fn regression_ciphertext_never_becomes_a_key() {
    for (format, text, place) in [
        (
            "api-keys",
            "provider_type,key_name,encrypted_key\nopenai,a,gAAAAABcut\n",
            "row 1, encrypted_key: is ciphertext",
        ),
        (
            "api-keys",
            "provider_type,key_name,encrypted_key\nopenai,a,\\xc30d0407\n",
            "row 1, encrypted_key: is ciphertext",
        ),
        (
            "api-keys",
            "provider_type,key_name,encrypted_key\nopenai,a,sk-1\n",
            "row 1, encrypted_key: is no token",
        ),
        (
            "api-keys",
            "provider_type,key_name,api_key\nopenai,a,c30d04070302\n",
            "row 1, api_key: is ciphertext",
        ),
        (
            "llm-provider-configs",
            "provider_name,api_key\ngroq,\\xc30d04070302\n",
            "row 1, api_key: is ciphertext",
        ),
        (
            "admin-settings",
            r#"{"providers": {"groq": {"api_key": "gAAAAABcut"}}}"#,
            "groq.api_key: is ciphertext",
        ),
        ("env", "GROQ_API_KEY=gAAAAABcut\n", "GROQ_API_KEY (file, line 1): is ciphertext"),
        (
            "settings",
            r#"[{"setting_type": "llm_provider", "name": "a", "config": {"provider": "groq", "api_key": "gAAAAABcut"}}]"#,
            "row 1, api_key: is ciphertext",
        ),
        ("runtime-config", "key,value\nsmtp_password,c30d04070302\n", "row 1: is ciphertext"),
    ] {
        let told = problems(format, text);
        assert!(told.contains(place), "{format}: {told}");
        assert!(!told.contains("c30d") && !told.contains("gAAAA"), "{told}");
    }
    let text = "provider_type,key_name,api_key\nopenai,a,sk-1\n";
    let imported = run("api-keys", &[File { name: "file".into(), text: text.into() }], &|_| None).unwrap();
    assert_eq!(key_of(&imported, "providers/chatgpt/apiKeys/a"), "sk-1", "a plain column may hold it");
}

#[test]
fn keys_that_a_password_sealed() {
    let keys = ForeignKeys::from_password(&"a password of theirs".into(), b"salt");
    // PBKDF2 of the same password and salt, 100,000 rounds, made with Python's hashlib.
    let token = Fernet::new("XhTJOS66vOIbvgGXLngplh7P3OjXwidRX1BrVv_THWg=")
        .map(|fernet| fernet.encrypt(b"sk-from-password"))
        .unwrap();
    let text = format!("provider_type,key_name,encrypted_key\nopenai,a,{token}\n");
    let files = [File { name: "file".into(), text: text.into() }];
    let input = Input { files: &files, environment: &|_| None, keys: &keys, only: &[], ids: &[] };
    let imported = (format_named("api-keys").unwrap().convert)(&input).unwrap();
    assert_eq!(key_of(&imported, "providers/chatgpt/apiKeys/a"), "sk-from-password");
}

#[test]
fn runtime_config() {
    let imported = import("runtime-config", &["runtime_config.csv"]);
    let value = |name: &str| spec_of!(imported, Setting, name).value.clone().unwrap();
    assert_eq!(value("settings/max_retries"), Value::IntValue(5), "the newest of three");
    assert_eq!(value("users/alice/settings/temperature"), Value::FloatValue(0.7), "newer, though further up");
    let Value::SecretValue(secret) = value("settings/open_ai_key") else { panic!("not sealed") };
    assert_eq!(secret.value.as_deref(), Some("sk-canary-runtime"));
    let Value::SecretValue(secret) = value("settings/smtp_password") else { panic!("not sealed") };
    assert_eq!(secret.value.as_deref(), Some("canary-smtp"));
    assert!(matches!(value("settings/http_timeout"), Value::DurationValue(length) if length.seconds == 30));
    assert_eq!(value("settings/limits"), Value::JsonValue("{\"a\": 1}".into()), "to the letter");
    assert_eq!(value("settings/greeting"), Value::StringValue("hello, world".into()));
    assert_eq!(value("settings/allowed_urls"), Value::StringValue("not-a-number".into()));
    let row = |number: u32| format!("runtime_config.csv, row {number}");
    assert_eq!(left_out(&imported), [row(1), row(6), row(9), row(11)]);
    assert!(
        told(&imported, &row(9)).contains("row 2 is newer and comes to the same key, settings/max_retries")
    );
    assert!(
        told(&imported, &row(3)).contains("its key is `open_ai_key` from now on; was stored in the clear")
    );
    assert!(told(&imported, &row(10)).contains("is not of the type that it should be"));
    assert!(told(&imported, &row(12)).ends_with("imported"));
}

#[test]
fn regression_nulls_and_acronyms_of_runtime_config() {
    for key in ["openAIAPIKey", "openAIApiKey", "OpenAIApiKey", "OPENAI_API_KEY", "openai-api-key"] {
        let text = format!("key,value,user_id\n{key},sk-1,NULL\n");
        let files = [File { name: "file".into(), text: text.into() }];
        let imported = run("runtime-config", &files, &|_| None).unwrap();
        let value = spec_of!(imported, Setting, "settings/openai_api_key").value.clone();
        assert!(matches!(value, Some(Value::SecretValue(_))), "{key} is sealed");
    }
    let text = "key,value,user_id\nopenAIAPIKey,sk-1,\nopenAIApiKey,sk-2,NULL\n";
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("runtime-config", &files, &|_| None).unwrap();
    assert_eq!(imported.resources.len(), 1, "both are one key of nobody");
}

#[test]
fn runtime_config_without_times_goes_by_id_and_place() {
    let newest = |text: &str| {
        let files = [File { name: "file".into(), text: text.into() }];
        let imported = run("runtime-config", &files, &|_| None).unwrap();
        spec_of!(imported, Setting, "settings/top_p").value.clone().unwrap()
    };
    assert_eq!(newest("id,key,value\n9,topP,1\n10,top_p,2\n"), Value::IntValue(2));
    assert_eq!(newest("id,key,value\n10,topP,1\n9,top_p,2\n"), Value::IntValue(1));
    assert_eq!(newest("key,value\ntopP,1\ntop_p,2\n"), Value::IntValue(2));
    assert_eq!(newest(r#"[{"key":"topP","value":0.5}]"#), Value::FloatValue(0.5));
    for (text, place) in [
        ("value\n1\n", "file, row 1: has no `key`"),
        ("key,value\nä,1\n", "file, row 1: has a `key` that no setting can have"),
        ("key,value,user_id\na,1,a b\n", "file, row 1: has a `user_id` that no name can hold"),
    ] {
        let told = problems("runtime-config", text);
        assert!(told.contains(place), "{told}");
    }
}

/// Whoever may read settings could read them.
#[test]
fn regression_values_of_runtime_config_that_show_a_credential_become_secrets() {
    let text = r#"[{"key": "primary_database", "value": "postgres://app:canary-1@db.example/app"},
        {"key": "alerts", "value": {"slack": "https://hooks.slack.com/services/T0/B0/canary-2"}},
        {"key": "smtp_password", "value": "changeme"},
        {"key": "endpoint", "value": "https://db.example/app"}]"#;
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("runtime-config", &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    for (name, secret) in [("primary_database", true), ("alerts", true), ("endpoint", false)] {
        let setting = spec_of!(imported, Setting, &format!("settings/{name}"));
        assert_eq!(matches!(setting.value, Some(Value::SecretValue(_))), secret, "{name}");
    }
    assert!(told(&imported, "file, row 1").contains("it is a secret from now on"));
    assert!(told(&imported, "file, row 3").contains("placeholder"));
    assert!(imported.items.iter().all(|item| !item.to_string().contains("canary")));
}

/// A row of which nothing comes takes along what would go where it says.
#[test]
fn regression_what_goes_with_a_row_that_is_not_valid_is_left_out() {
    let text = r#"[{"provider_type": "openai", "name": "main", "is_default": true, "settings": {"base_url": "ftp://x"}},
        {"provider_type": "groq", "name": "fast", "settings": {"base_url": "https://a.example/v1", "enabled": "perhaps"}},
        {"provider_type": "xai", "settings": {"base_url": "https://b.example/v1"}},
        {"provider_type": "mistral", "name": "fine", "settings": {}},
        {"provider_type": "openai", "key_name": "one", "api_key": "sk-1"},
        {"provider_type": "groq", "key_name": "two", "api_key": "gsk-1"},
        {"provider_type": "xai", "key_name": "three", "api_key": "xai-1"},
        {"provider_type": "mistral", "key_name": "four", "api_key": "m-1"}]"#;
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let keys = ForeignKeys::none();
    let input = Input { files: &files, environment: &|_| None, keys: &keys, only: &[], ids: &[] };
    let imported = (format_named("provider-configs").unwrap().convert)(&input)
        .unwrap_or_else(|told| panic!("{told}"))
        .without_invalid();
    let names: Vec<&str> = imported.resources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["providers/fine", "providers/fine/apiKeys/four"]);
    for row in 5..8 {
        let told = told(&imported, &format!("file, row {row}"));
        assert!(told.contains("not valid"), "{told}");
    }
}

#[test]
fn regression_a_disabled_provider_is_no_default() {
    let text =
        "provider_type,name,is_default,settings\ngroq,a,true,\"{\"\"enabled\"\": false}\"\ngroq,b,true,{}\n";
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("provider-configs", &files, &|_| None).unwrap();
    assert_eq!(left_out(&imported), ["file, row 1, is_default"]);
    let router = spec_of!(imported, Router, "routers/default");
    assert_eq!(
        (router.primary.as_str(), router.type_defaults["groq"].as_str()),
        ("providers/b", "providers/b")
    );
}

/// The table says both, and nothing is written of what would be refused as a whole.
#[test]
fn regression_an_active_provider_that_is_disabled_leaves_the_active_one() {
    let text = "provider_name,is_active,is_enabled,api_key\ngroq,true,false,gsk_0123456789abcdefghij\n";
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("llm-provider-configs", &files, &|_| None).unwrap();
    let names: Vec<&str> = imported.resources.iter().map(|one| one.name.as_str()).collect();
    assert!(names.contains(&"providers/groq") && !names.contains(&"routers/default"), "{names:?}");
    let told = told(&imported, "is_active");
    assert!(told.contains("disabled at once; the active one stays"), "{told}");
}
