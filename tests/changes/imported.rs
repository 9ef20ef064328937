//! Formats of other systems into a store that is in use: what it began with gives way to what is brought, and nothing that
//! somebody made does.

use signalbox::proto::v1::{
    GenerationParameters, PromptTemplateSpec, ProviderSpec, Resource, resource::Spec, secret::State,
};

use crate::{
    foreign::{file, model, printed, provider, run},
    harness, on_both_databases,
    place::Place,
    support::{caller::Rights, writer::Op},
};

on_both_databases! {
    started:
    regression_starters_give_way_to_imports;
    regression_a_key_from_the_environment_enables_its_provider;
    regression_a_starter_stays_where_a_file_cuts_its_url_elsewhere;
    regression_litellm_leaves_the_catalogue_and_the_active_provider_alone;
    regression_a_key_whose_name_is_taken_is_told;
    regression_nobody_becomes_active_whose_own_import_was_left_out;
    regression_what_was_deleted_of_the_catalogue_stays_deleted;
    regression_price_files_do_not_overwrite_each_other;
    regression_defaults_of_types_go_into_the_router_that_is_there;
    regression_the_names_that_callers_asked_for_are_told;
    regression_a_key_that_is_the_same_is_unchanged;
    regression_a_missing_key_is_brought_by_the_next_import_that_has_it;
    regression_a_starter_without_a_key_stays_disabled;
    regression_a_price_file_leaves_what_is_in_use;
    regression_the_table_of_an_import_is_bounded;
}

/// Imports one file with this text; what is told.
async fn import(place: &Place, format: &str, name: &str, text: &str) -> String {
    let path = file(place, name, text).display().to_string();
    let output = run(place, &["--from", format, &path]).await;
    let told = printed(&output);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("canary"), "shows a secret: {told}");
    told
}

/// The active provider.
async fn active(place: &Place) -> String {
    match place.get("routers/default").await.unwrap().spec {
        Some(Spec::Router(router)) => router.primary,
        _ => panic!("is no router"),
    }
}

async fn regression_starters_give_way_to_imports(place: Place) {
    let settings = |model: &str| {
        format!(
            r#"{{"active_provider": "chatgpt", "providers": {{"chatgpt": {{"model": "{model}", "api_key": "sk-canary-1"}}}}}}"#
        )
    };
    import(&place, "admin-settings", "admin_settings.json", &settings("m1")).await;
    let ProviderSpec { default_model, enabled, request_builder, .. } =
        provider(&place, "providers/chatgpt").await;
    assert_eq!((default_model.as_str(), enabled), ("m1", Some(true)));
    assert!(request_builder.is_some(), "a store of the newest level has the newer defaults");
    assert_eq!(active(&place).await, "providers/chatgpt");
    let revision = place.revision().await;
    import(&place, "admin-settings", "admin_settings.json", &settings("m1")).await;
    assert_eq!(place.revision().await, revision, "again nothing changes");
    import(&place, "admin-settings", "admin_settings.json", &settings("m2")).await;
    assert_eq!(provider(&place, "providers/chatgpt").await.default_model, "m2");
}

async fn regression_a_key_from_the_environment_enables_its_provider(place: Place) {
    assert_eq!(provider(&place, "providers/chatgpt").await.enabled, Some(false));
    import(&place, "env", "keys.env", "OPENAI_API_KEY=sk-canary-2\n").await;
    assert_eq!(provider(&place, "providers/chatgpt").await.enabled, Some(true));
    place.get("providers/chatgpt/apiKeys/env").await.unwrap();
    assert_eq!(active(&place).await, "providers/groq");
}

async fn regression_a_starter_stays_where_a_file_cuts_its_url_elsewhere(place: Place) {
    let text = r#"{"active_provider": "groq", "providers": {"groq": {"base_url": "https://api.groq.com",
        "endpoint": "/openai/v1/responses", "model": "openai/gpt-oss-20b", "api_key": "gsk_canary_3"}}}"#;
    import(&place, "admin-settings", "admin_settings.json", text).await;
    let groq = provider(&place, "providers/groq").await;
    assert_eq!(
        (groq.base_url.as_str(), groq.endpoint_path.as_str(), groq.default_model.as_str()),
        ("https://api.groq.com/openai/v1", "/responses", "openai/gpt-oss-20b"),
        "cut where the starter is cut, so that a key of it goes where it went"
    );
    assert_eq!(place.states("providers/groq/apiKeys/admin_settings").await.len(), 1);
}

/// Also `--replace` does not: what the file does not say it does not change.
async fn regression_litellm_leaves_the_catalogue_and_the_active_provider_alone(place: Place) {
    let before = place.get("models/openai/gpt-5.4-mini").await.unwrap();
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-5.4-mini, api_key: sk-canary-4}\n\
                - model_name: b\n  litellm_params: {model: openai/of-our-own, api_key: sk-canary-4}\n";
    for more in [&[][..], &["--replace"]] {
        let path = file(&place, "config.yaml", text).display().to_string();
        let arguments: Vec<&str> =
            ["--from", "litellm", &path].into_iter().chain(more.iter().copied()).collect();
        let output = run(&place, &arguments).await;
        let told = printed(&output);
        assert!(output.status.success(), "{told}");
        for (name, why) in [
            ("routers/default", "nothing in the file says"),
            ("models/openai/gpt-5.4-mini", "the catalogue has this model"),
        ] {
            let of_it = told.lines().filter(|line| line.contains(name) && line.contains(" kept "));
            let lines: Vec<&str> = of_it.collect();
            assert!(lines.len() == 1 && lines[0].contains(why), "told once of {name}: {told}");
        }
    }
    assert_eq!(place.get("models/openai/gpt-5.4-mini").await.unwrap(), before);
    model(&place, "models/openai/of-our-own").await;
    assert_eq!(active(&place).await, "providers/groq");
    let chatgpt = provider(&place, "providers/chatgpt").await;
    assert_eq!((chatgpt.enabled, chatgpt.models.len()), (Some(true), 2));

    // A file that says who is active is obeyed; one that does not is not.
    let settings = |who: &str| format!(r#"{{{who}"providers": {{"chatgpt": {{"model": "m"}}}}}}"#);
    import(&place, "admin-settings", "admin_settings.json", &settings("")).await;
    assert_eq!(active(&place).await, "providers/groq");
    import(&place, "admin-settings", "admin_settings.json", &settings(r#""active_provider": "chatgpt", "#))
        .await;
    assert_eq!(active(&place).await, "providers/chatgpt");
}

async fn regression_a_key_whose_name_is_taken_is_told(place: Place) {
    let settings = |key: &str| format!(r#"{{"providers": {{"groq": {{"api_key": "{key}"}}}}}}"#);
    import(&place, "admin-settings", "one.json", &settings("gsk_canary_5")).await;
    let told = import(&place, "admin-settings", "two.json", &settings("gsk_canary_6")).await;
    let row = told.lines().find(|line| line.contains("two.json: providers.groq.api_key"));
    assert!(
        row.is_some_and(|row| row.contains(" kept ") && row.contains("NOT imported: a key of this name")),
        "{told}"
    );
    // Another source's key gets a name of its own.
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: groq/x, api_key: gsk_canary_7}\n";
    import(&place, "litellm", "config.yaml", text).await;
    for key in ["admin_settings", "litellm"] {
        place.get(&format!("providers/groq/apiKeys/{key}")).await.unwrap();
    }
}

/// The file means another place by the same name.
async fn regression_nobody_becomes_active_whose_own_import_was_left_out(place: Place) {
    let edit =
        ["set", "providers/chatgpt", "--field", "base_url=https://llm.example/v1", "--field", "enabled=true"];
    let edited = harness::run(place.server.signalbox(&edit).env("SIGNALBOX_TOKEN", &place.token)).await;
    assert!(edited.status.success(), "{}", printed(&edited));
    let settings = |url: &str| {
        format!(
            r#"{{"active_provider": "chatgpt", "providers": {{"chatgpt": {{{url}"model": "m", "api_key": "sk-canary-8"}}}}}}"#
        )
    };
    let told = import(&place, "admin-settings", "one.json", &settings("")).await;
    let row = told.lines().find(|line| line.contains("one.json: active_provider"));
    assert!(row.is_some_and(|row| row.contains(" kept ") && row.contains("NOT turned")), "{told}");
    assert_eq!(active(&place).await, "providers/groq");
    assert!(place.get("providers/chatgpt/apiKeys/admin_settings").await.is_err());
    // Where both mean the same place it is turned, although the provider stays as it is.
    import(&place, "admin-settings", "two.json", &settings(r#""base_url": "https://llm.example/v1", "#))
        .await;
    assert_eq!(active(&place).await, "providers/chatgpt");
    assert_ne!(provider(&place, "providers/chatgpt").await.default_model, "m");
}

async fn regression_what_was_deleted_of_the_catalogue_stays_deleted(place: Place) {
    let gone = "models/mistral/codestral-latest";
    let deleted =
        harness::run(place.server.signalbox(&["delete", "--yes", gone]).env("SIGNALBOX_TOKEN", &place.token))
            .await;
    assert!(deleted.status.success(), "{}", printed(&deleted));
    let revision = place.revision().await;
    let seeded = run(&place, &["--from", "catalogue"]).await;
    let told = printed(&seeded);
    let row = told.lines().find(|line| line.contains(gone)).unwrap_or_default();
    assert!(seeded.status.success() && row.contains(" kept ") && row.contains("was deleted here"), "{told}");
    assert!(place.get(gone).await.is_err());
    assert_eq!(place.revision().await, revision);
    // Who asks for all of it gets all of it.
    let seeded = run(&place, &["--from", "catalogue", "--replace"]).await;
    assert!(seeded.status.success(), "{}", printed(&seeded));
    place.get(gone).await.unwrap();
}

async fn regression_price_files_do_not_overwrite_each_other(place: Place) {
    let of_models_dev = |input: f64| {
        format!(
            r#"{{"openai": {{"models": {{"ours": {{"id": "ours", "cost": {{"input": {input}, "output": 2}}}}}}}}}}"#
        )
    };
    let of_litellm = r#"{"ours": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 9e-6,
        "cache_read_input_token_cost": 1e-7}}"#;
    let prices = async |place: &Place| {
        let prices = model(place, "models/openai/ours").await.prices.unwrap();
        [prices.input, prices.output, prices.cached_input]
    };
    import(&place, "models-dev", "api.json", &of_models_dev(1.0)).await;
    let told = import(&place, "litellm-prices", "prices.json", of_litellm).await;
    assert!(told.contains("changes ") && told.contains("model.prices.cached_input"), "{told}");
    assert_eq!(prices(&place).await, ["1", "2", "0.1"]);
    let told = import(&place, "models-dev", "api.json", &of_models_dev(1.5)).await;
    let named = told.lines().any(|line| line.trim_end().ends_with(" changes model.prices.input"));
    assert!(named, "{told}");
    assert_eq!(prices(&place).await, ["1.5", "2", "0.1"]);
    // What a person has said nobody overwrites.
    let edit = ["set", "models/openai/ours", "--field", "prices.input=7"];
    let edited = harness::run(place.server.signalbox(&edit).env("SIGNALBOX_TOKEN", &place.token)).await;
    assert!(edited.status.success(), "{}", printed(&edited));
    import(&place, "models-dev", "api.json", &of_models_dev(2.5)).await;
    assert_eq!(prices(&place).await, ["7", "2", "0.1"]);
}

/// Every store has a router, and they were dropped with it.
async fn regression_defaults_of_types_go_into_the_router_that_is_there(place: Place) {
    let defaults = async || match place.get("routers/default").await.unwrap().spec {
        Some(Spec::Router(router)) => router.type_defaults,
        _ => panic!("is no router"),
    };
    let rows = |groq: &str| {
        format!(
            "provider_type,name,is_default,settings\nmistral,ours,true,{{}}\ngroq,other-{groq},true,{{}}\n\
             xai,off,true,\"{{\"\"enabled\"\": false}}\"\n"
        )
    };
    let told = import(&place, "provider-configs", "one.csv", &rows("a")).await;
    let row =
        |told: &str, from: &str| told.lines().find(|line| line.contains(from)).unwrap_or_default().to_owned();
    assert!(row(&told, "row 1, is_default").contains(" imported "), "{told}");
    assert!(row(&told, "row 3, is_default").contains("disabled"), "{told}");
    assert!(
        told.lines().any(|line| line.starts_with("is_default ") && line.contains("the active one stays")),
        "{told}"
    );
    let found = defaults().await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found["mistral"].as_str(), found["groq"].as_str()), ("providers/ours", "providers/other-a"));
    assert_eq!(active(&place).await, "providers/groq");
    let revision = place.revision().await;
    import(&place, "provider-configs", "one.csv", &rows("a")).await;
    assert_eq!(place.revision().await, revision, "again nothing changes");

    // One that is there stays, and that is told.
    let told = import(&place, "provider-configs", "two.csv", &rows("b")).await;
    assert!(row(&told, "row 2, is_default").contains("the type has a default there"), "{told}");
    assert_eq!(defaults().await["groq"], "providers/other-a");
    // The router is still one that nobody has edited.
    let settings = r#"{"active_provider": "chatgpt", "providers": {"chatgpt": {"api_key": "sk-canary-9"}}}"#;
    import(&place, "admin-settings", "admin_settings.json", settings).await;
    assert_eq!(active(&place).await, "providers/chatgpt");
    assert_eq!(defaults().await.len(), 2);
}

/// What became of the model, which the catalogue has already, stood in their place.
async fn regression_the_names_that_callers_asked_for_are_told(place: Place) {
    let text = "model_list:\n- model_name: smart\n  litellm_params: {model: openai/gpt-5.4-mini, api_key: sk-canary-8}\n";
    let told = import(&place, "litellm", "config.yaml", text).await;
    assert!(told.contains("callers asked for `smart`"), "{told}");
}

async fn regression_a_key_that_is_the_same_is_unchanged(place: Place) {
    let settings = |key: &str| format!(r#"{{"providers": {{"groq": {{"api_key": "{key}"}}}}}}"#);
    import(&place, "admin-settings", "one.json", &settings("gsk_canary_5")).await;
    let revision = place.revision().await;
    let row = |told: &str| {
        let mut rows = told.lines().filter(|line| line.contains("providers.groq.api_key"));
        rows.next().unwrap_or_default().to_owned()
    };
    let told = import(&place, "admin-settings", "one.json", &settings("gsk_canary_5")).await;
    assert!(row(&told).contains(" unchanged") && !told.contains("NOT imported"), "{told}");
    assert_eq!(place.revision().await, revision);
    let told = import(&place, "admin-settings", "one.json", &settings("gsk_canary_6")).await;
    assert!(row(&told).contains("NOT imported: a key of this name"), "{told}");

    // Who may not have secrets read is not told whether a guess is right.
    let path = file(&place, "one.json", &settings("gsk_canary_5")).display().to_string();
    let token = place.admin.token_for("guesser", &Rights::admin()).await;
    let mut command = place.server.signalbox(&["import", "--from", "admin-settings", &path]);
    let told = printed(&harness::run(command.env("SIGNALBOX_TOKEN", token)).await);
    assert!(row(&told).contains("NOT imported: a key of this name"), "{told}");
}

/// What an import had no value of, nobody could bring without overwriting everything else.
async fn regression_a_missing_key_is_brought_by_the_next_import_that_has_it(place: Place) {
    let entry = |variable: &str| {
        format!(
            "- {{model_name: {variable}, litellm_params: {{model: xai/a, api_key: os.environ/{variable}}}}}\n"
        )
    };
    let text = format!("model_list:\n{}{}", entry("KEY_0"), entry("KEY_1"));
    let path = file(&place, "config.yaml", &text).display().to_string();
    let with = async |value: Option<&str>| {
        let mut command = place.server.signalbox(&["import", "--from", "litellm", &path]);
        command.env("SIGNALBOX_TOKEN", &place.token);
        for variable in ["KEY_0", "KEY_1"] {
            value.map(|value| command.env(variable, value));
        }
        printed(&harness::run(&mut command).await)
    };
    let row = |told: &str, at: usize| {
        let wanted = format!("model_list[{at}].litellm_params.api_key");
        told.lines().find(|line| line.contains(&wanted)).unwrap_or_default().to_owned()
    };
    let key =
        async |at: usize| match place.get(&format!("providers/xai/apiKeys/key_{at}")).await.unwrap().spec {
            Some(Spec::ApiKey(key)) => (key.secret.unwrap().state(), key.weight),
            _ => panic!("is no key"),
        };
    assert!(row(&with(None).await, 0).contains("KEY_0 is not set here"));
    assert_eq!(key(0).await.0, State::Missing);
    let revision = place.revision().await;
    let told = with(None).await;
    assert!(row(&told, 0).contains(" unchanged ") && row(&told, 0).contains("MISSING"), "{told}");
    assert_eq!(place.revision().await, revision);

    // One that a person has changed meanwhile is his.
    let mut command = place.server.signalbox(&["set", "providers/xai/apiKeys/key_1", "--field", "weight=7"]);
    assert!(harness::run(command.env("SIGNALBOX_TOKEN", &place.token)).await.status.success());
    let told = with(Some("sk-canary-7")).await;
    assert!(row(&told, 0).contains(" imported ") && !told.contains("canary"), "{told}");
    assert!(row(&told, 1).contains("its value is MISSING still"), "{told}");
    assert_eq!((key(0).await.0, key(1).await), (State::Present, (State::Missing, Some(7))));

    // From then on it has a value to keep.
    let told = with(Some("sk-canary-8")).await;
    assert!(row(&told, 0).contains("keeps its value"), "{told}");
}

async fn regression_a_starter_without_a_key_stays_disabled(place: Place) {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-5.4-mini, api_key: os.environ/NOT_SET_HERE}\n";
    import(&place, "litellm", "config.yaml", text).await;
    assert_eq!(provider(&place, "providers/chatgpt").await.enabled, Some(false), "its only key is MISSING");
    import(&place, "env", "keys.env", "OPENAI_API_KEY=sk-canary-2\n").await;
    assert_eq!(provider(&place, "providers/chatgpt").await.enabled, Some(true));
}

/// One template stood against a file of thousands of models, also with `--skip-invalid`.
async fn regression_a_price_file_leaves_what_is_in_use(place: Place) {
    let file_of = |limit: u32, more: &str| {
        let model = format!(r#"{{"limit": {{"context": 200000, "output": {limit}}}}}"#);
        format!(r#"{{"house": {{"models": {{"used": {model}, "free": {model}{more}}}}}}}"#)
    };
    import(&place, "models-dev", "api.json", &file_of(16_000, "")).await;
    let spec = PromptTemplateSpec {
        template: "x".into(),
        model: "models/house/used".into(),
        generation: Some(GenerationParameters { max_tokens: Some(10_000), ..Default::default() }),
        ..Default::default()
    };
    let template = Resource {
        name: "promptTemplates/asks".into(),
        spec: Some(Spec::PromptTemplate(spec)),
        ..Default::default()
    };
    place.write(Op::Create(template)).await;
    let before = place.get("models/house/used").await.unwrap();
    let path = file(&place, "api.json", &file_of(4_096, r#", "new": {}"#)).display().to_string();
    let revision = place.revision().await;
    let refused = run(&place, &["--from", "models-dev", &path]).await;
    let told = printed(&refused);
    for said in ["models/house/used", "promptTemplates/asks", "--skip-invalid", "nothing was written"] {
        assert!(!refused.status.success() && told.contains(said), "{said}: {told}");
    }
    assert_eq!(place.revision().await, revision);
    let done = run(&place, &["--from", "models-dev", "--skip-invalid", &path]).await;
    let told = printed(&done);
    assert!(done.status.success(), "{told}");
    let row = told.lines().find(|line| line.contains("models/house/used") && line.contains(" kept "));
    assert!(row.is_some_and(|row| row.contains("NOT changed: what uses it here")), "{told}");
    assert!(told.contains("by promptTemplates/asks") && told.contains("at most 4096"), "{told}");
    assert_eq!(place.get("models/house/used").await.unwrap(), before);
    let limit = async |name: &str| model(&place, name).await.limits.unwrap_or_default().max_output_tokens;
    assert_eq!((limit("models/house/free").await, limit("models/house/new").await), (4_096, 0));
}

/// Names of a foreign file are of any length; what came in as it was is only counted where there is much of it.
async fn regression_the_table_of_an_import_is_bounded(place: Place) {
    let models: String = (0..60).map(|index| format!(r#""m{index}": {{}}, "#)).collect();
    let long = "x".repeat(5_000);
    let text = format!(
        r#"{{"house": {{"models": {{{models}"{long}": {{}}}}}}, "other": {{"models": {{"a": {{}}}}}}}}"#
    );
    let told = import(&place, "models-dev", "api.json", &text).await;
    assert!(told.lines().all(|line| line.len() < 1_000), "{}", told.len());
    assert!(told.contains("(61 that are as they were are not listed)"), "{told}");
    let path = place.server.home().path("api.json").display().to_string();
    let some = printed(&run(&place, &["--from", "models-dev", "--only", "other", "--dry-run", &path]).await);
    assert!(some.contains("61 that were not asked for"), "{some}");
    let none = run(&place, &["--from", "models-dev", "--only", "nobody", &path]).await;
    assert!(!none.status.success() && printed(&none).contains("no model of `nobody`"));
    let env = run(&place, &["--from", "env", "--only", "openai", &path]).await;
    assert!(!env.status.success() && printed(&env).contains("--only is for files of models"));
}
