//! Formats of other systems, through the command line and a real server: what comes of them, that nothing comes of half of
//! them, and that an operator's edits survive.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fernet::Fernet;
use signalbox::proto::v1::{
    ExportConfigRequest, ModelSpec, ProviderSpec, resource::Spec, secret::State, setting_spec::Value,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness, on_both_databases,
    place::Place,
    support::{resources::secrets_in, writer::Op},
};

on_both_databases! {
    thirty_models_of_litellm_are_served;
    every_format_comes_in_whole_and_again_without_a_change;
    edits_survive_the_next_import;
    what_fails_leaves_everything_as_it_was;
    regression_what_is_not_valid_is_left_out_only_when_asked;
    a_dry_run_changes_nothing;
    regression_a_second_file_comes_in_beside_the_first;
    regression_what_is_kept_is_told_with_the_one_reason;
    regression_a_copy_stays_while_nobody_knows;
}

/// The key that the fixtures are sealed with.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A fixture of `tests/import/`, in the home of the server, with its secrets sealed.
fn fixture(place: &Place, name: &str) -> PathBuf {
    let path = format!("{}/tests/import/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let fernet = Fernet::new(KEY).unwrap();
    let mut parts = text.split('@');
    let mut sealed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match (part.strip_prefix("SEALED:"), part.strip_prefix("TWICE:")) {
            (Some(secret), _) => sealed.push_str(&fernet.encrypt(secret.as_bytes())),
            (None, Some(secret)) => sealed.push_str(&STANDARD.encode(fernet.encrypt(secret.as_bytes()))),
            (None, None) => sealed.push_str(part),
        }
    }
    file(place, name, &sealed)
}

pub fn file(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.server.home().path(name);
    fs::write(&path, text).unwrap();
    path
}

fn key_file(place: &Place) -> String {
    let path = file(place, "fernet.key", KEY);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Runs `signalbox import`.
pub async fn run(place: &Place, arguments: &[&str]) -> Output {
    let all: Vec<&str> = std::iter::once("import").chain(arguments.iter().copied()).collect();
    let mut command = place.server.signalbox(&all);
    command.env("SIGNALBOX_TOKEN", &place.token).env("OPENAI_API_KEY", "sk-canary-of-the-environment");
    harness::run(&mut command).await
}

/// What it printed, on both outputs.
pub fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn import(place: &Place, format: &str, names: &[&str], more: &[&str]) -> String {
    let key = key_file(place);
    let files: Vec<String> = names.iter().map(|name| fixture(place, name).display().to_string()).collect();
    let mut arguments = vec!["--from", format, "--fernet-key-file", &key];
    arguments.extend(more);
    arguments.extend(files.iter().map(String::as_str));
    let output = run(place, &arguments).await;
    let printed = printed(&output);
    assert!(output.status.success(), "{format}: {printed}");
    assert!(!printed.contains("canary"), "{format} shows a secret: {printed}");
    printed
}

pub async fn provider(place: &Place, name: &str) -> ProviderSpec {
    match place.get(name).await.unwrap().spec {
        Some(Spec::Provider(provider)) => provider,
        _ => panic!("{name} is no provider"),
    }
}

pub async fn model(place: &Place, name: &str) -> ModelSpec {
    match place.get(name).await.unwrap().spec {
        Some(Spec::Model(model)) => model,
        _ => panic!("{name} is no model"),
    }
}

async fn thirty_models_of_litellm_are_served(place: Place) {
    let told = import(&place, "litellm", &["litellm.yaml"], &[]).await;
    for lost in
        ["gemini-vertex", "lost-azure", "general_settings.master_key", "router_settings.fallbacks: nowhere"]
    {
        assert!(told.contains(lost), "{lost} is not told: {told}");
    }
    assert!(told.contains("total: "), "{told}");
    assert_eq!(provider(&place, "providers/chatgpt").await.models.len(), 7);
    assert_eq!(model(&place, "models/llm.internal.example/house-7b").await.prices.unwrap().input, "0.25");
    let Some(Spec::Router(router)) = place.get("routers/gpt-4o").await.unwrap().spec else { panic!() };
    assert_eq!(router.fallbacks, ["providers/anthropic", "providers/google_ai"], "Azure is not known here");
    let mut key = place.get("providers/xai/apiKeys/xai_api_key").await.unwrap();
    let states: Vec<_> = secrets_in(&mut key).iter().map(|(_, secret)| secret.state()).collect();
    assert_eq!(states, [State::Missing]);
}

/// The formats with their fixtures, and how many resources are new and changed by each, one after the other.
const COMING: [(&str, &[&str], u32, u32); 8] = [
    ("litellm-prices", &["model_prices.json"], 6, 0),
    // One of these is known from the prices, and has more said of it.
    ("models-dev", &["models_dev.json"], 4, 1),
    ("settings", &["settings.json"], 7, 0),
    // The active provider is another one from now on.
    ("llm-provider-configs", &["llm_provider_configs.csv"], 3, 1),
    // A provider that holds a secret stays, and so does who is active; a key that is meant for elsewhere is not taken.
    ("provider-configs", &["provider_configs.json", "api_keys.csv"], 6, 1),
    ("runtime-config", &["runtime_config.csv"], 8, 0),
    ("prompt-templates", &["prompt_templates.json"], 4, 0),
    // Who is active is so already.
    ("admin-settings", &["admin_settings.json"], 3, 1),
];

async fn every_format_comes_in_whole_and_again_without_a_change(place: Place) {
    let mut revision = place.revision().await;
    let mut there = 0;
    for (format, names, created, updated) in COMING {
        let told = import(&place, format, names, &[]).await;
        let counts = format!("{created} created, {updated} updated, ");
        assert!(told.contains(&counts), "{format}: {counts}is not what there is: {told}");
        let after = place.revision().await;
        assert_eq!(after, revision + 1, "{format} is one revision");
        let told = import(&place, format, names, &[]).await;
        assert!(told.contains("0 created, 0 updated, "), "{format}: {told}");
        revision = place.revision().await;
        assert_eq!(revision, after, "{format} comes again without a change");
        there += created as usize;
        let all = place.export(ExportConfigRequest::default()).await.resources.len();
        assert_eq!(all, there, "{format}: what is told is there, and nothing else");
    }
    contents(&place).await;
    let none = run(&place, &["--from", "catalogue"]).await;
    assert!(none.status.success(), "{}", printed(&none));
    let exported = place.export(ExportConfigRequest::default()).await;
    assert!(exported.resources.len() > 60);
    assert!(!format!("{exported:?}").contains("canary"));
}

/// Something of what each of [`COMING`] brings.
async fn contents(place: &Place) {
    let spec = async |name: &str| place.get(name).await.unwrap_or_else(|_| panic!("{name}")).spec.unwrap();
    let shared = model(place, "models/openai/gpt-4o").await;
    let limits = shared.limits.unwrap();
    assert_eq!(
        (limits.context_window_tokens, limits.max_input_tokens),
        (128_000, 128_000),
        "of both sources"
    );
    assert_eq!(shared.prices.unwrap().cached_input, "1.25");
    let Spec::Database(database) = spec("databases/main").await else { panic!() };
    assert_eq!((database.host.as_str(), database.user.as_str()), ("db.example", "aiops"));
    assert_eq!(place.states("databases/main").await, [State::Present]);
    assert_eq!(provider(place, "providers/house").await.models, ["h1", "h2"]);
    assert_eq!(provider(place, "providers/google_ai").await.models, ["gemini-2.5-flash"]);
    assert_eq!(provider(place, "providers/openai-main").await.default_model, "gpt-4o");
    for key in [
        "openai-main/apiKeys/prod",
        "openai-main/apiKeys/old",
        "claude/apiKeys/main",
        "house/apiKeys/settings",
    ] {
        assert_eq!(place.states(&format!("providers/{key}")).await, [State::Present], "{key}");
    }
    let Spec::Setting(retries) = spec("settings/max_retries").await else { panic!() };
    assert_eq!(retries.value, Some(Value::IntValue(5)));
    let Spec::Setting(temperature) = spec("users/alice/settings/temperature").await else { panic!() };
    assert_eq!(temperature.value, Some(Value::FloatValue(0.7)));
    let Spec::PromptTemplate(template) = spec("promptTemplates/summarise").await else { panic!() };
    assert_eq!(template.generation.unwrap().temperature, Some(0.2));
    assert_eq!(template.variables.len(), 2);
    let Spec::Router(router) = spec("routers/default").await else { panic!() };
    assert_eq!((router.primary.as_str(), router.fallbacks.len()), ("providers/groq", 2));
}

async fn edits_survive_the_next_import(place: Place) {
    let prices = |input: &str| {
        let model =
            format!("{{\"litellm_provider\":\"groq\",\"mode\":\"chat\",\"input_cost_per_token\":{input}}}");
        format!("{{\"groq/a\":{model},\"groq/b\":{model},\"groq/c\":{model}}}")
    };
    let path = file(&place, "prices.json", &prices("1e-6"));
    let path = path.display().to_string();
    assert!(run(&place, &["--from", "litellm-prices", &path]).await.status.success());

    let mut edited = place.get("models/groq/b").await.unwrap();
    if let Some(Spec::Model(model)) = &mut edited.spec {
        "ours".clone_into(&mut model.description);
    }
    place.write(Op::update(edited, &["model.description"])).await;
    let mut labelled = place.get("models/groq/c").await.unwrap();
    labelled.labels.insert("team".into(), "a".into());
    place.write(Op::update(labelled, &["labels"])).await;

    file(&place, "prices.json", &prices("2e-6"));
    let again = run(&place, &["--from", "litellm-prices", &path]).await;
    let told = printed(&again);
    for name in ["models/groq/b", "models/groq/c"] {
        assert!(told.lines().any(|line| line.contains(name) && line.contains(" kept ")), "{told}");
    }
    let price = async |name: &str| model(&place, name).await.prices.unwrap().input;
    assert_eq!((price("models/groq/a").await, price("models/groq/b").await), ("2".into(), "1".into()));
    assert_eq!(price("models/groq/c").await, "1");

    let replaced = run(&place, &["--from", "litellm-prices", "--replace", &path]).await;
    assert!(replaced.status.success(), "{}", printed(&replaced));
    assert_eq!(price("models/groq/b").await, "2");
}

/// A file of LiteLLM with a deployment of one resource of Azure's.
fn of_team(place: &Place, team: &str, key: &str) -> String {
    let text = format!(
        "model_list:\n  - model_name: m-{team}\n    litellm_params: {{model: azure/gpt-4o, api_key: {key}, api_base: \
         'https://{team}.openai.azure.com'}}\n"
    );
    file(place, &format!("{team}.yaml"), &text).display().to_string()
}

/// The provider of the second file was kept out, and its key with it.
async fn regression_a_second_file_comes_in_beside_the_first(place: Place) {
    let [one, two] = ["one", "two"].map(|team| of_team(&place, team, &format!("key-of-{team}")));
    let litellm = async |file: &str, more: &[&str]| {
        let output = run(&place, &[&["--from", "litellm", file], more].concat()).await;
        assert!(output.status.success(), "{}", printed(&output));
        printed(&output)
    };
    let urls = async || {
        let mut urls = Vec::new();
        for id in ["azure_openai", "azure_openai-2"] {
            urls.push(provider(&place, &format!("providers/{id}")).await.base_url);
            assert_eq!(
                place.states(&format!("providers/{id}/apiKeys/litellm")).await,
                [State::Present],
                "{id}"
            );
        }
        urls
    };
    litellm(&one, &[]).await;
    let told = litellm(&two, &[]).await;
    assert!(told.contains("`providers/azure_openai` is a provider at another base URL"), "{told}");
    let both = ["https://one.openai.azure.com", "https://two.openai.azure.com"];
    assert_eq!(urls().await, both);
    let revision = place.revision().await;
    for file in [&one, &two] {
        let told = litellm(file, &[]).await;
        assert!(told.contains("0 created, 0 updated, "), "{told}");
    }
    // A new key of the second is the second's.
    litellm(&of_team(&place, "two", "another-key"), &["--replace"]).await;
    assert!(place.revision().await > revision);
    assert_eq!(urls().await, both);
    let missing = place.get("providers/azure_openai-3").await;
    assert!(missing.is_err());
}

/// Three reasons were told, of which none need hold.
async fn regression_what_is_kept_is_told_with_the_one_reason(place: Place) {
    let path = of_team(&place, "one", "key-of-one");
    let import = async || printed(&run(&place, &["--from", "litellm", &path]).await);
    import().await;
    let mut edited = place.get("providers/azure_openai").await.unwrap();
    if let Some(Spec::Provider(provider)) = &mut edited.spec {
        "ours".clone_into(&mut provider.description);
    }
    place.write(Op::update(edited, &["provider.description"])).await;
    let told = import().await;
    let line = told.lines().find(|line| line.contains("providers/azure_openai ")).unwrap_or_default();
    assert!(line.ends_with("it was edited since it was imported; --replace overwrites it"), "{told}");
}

/// Names of everything in the home of the server but its own files.
fn files_of(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.server.home().folder()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains("admin_settings"));
    names.sort();
    names
}

async fn what_fails_leaves_everything_as_it_was(place: Place) {
    let before = place.revision().await;
    let path = fixture(&place, "admin_settings.json").display().to_string();
    let text = fs::read(&path).unwrap();

    // The server refuses it: the worker's token may not import.
    let worker = {
        let arguments = ["token", "create", "--role", "viewer", "--selector", "*"];
        let mut command = place.server.signalbox(&arguments);
        harness::run(command.env("SIGNALBOX_TOKEN", &place.token)).await
    };
    let token = String::from_utf8(worker.stdout).unwrap();
    let mut command = place.server.signalbox(&["import", "--from", "admin-settings", &path]);
    let refused = harness::run(command.env("SIGNALBOX_TOKEN", token.trim())).await;
    assert!(!refused.status.success());
    assert_eq!(files_of(&place), ["admin_settings.json"], "no copy stays of what was not imported");

    // The file is wrong.
    let wrong = file(&place, "wrong.json", r#"{"providers": {"groq": {"api_key": "canary key"}, "x": 5}}"#);
    let refused = run(&place, &["--from", "admin-settings", &wrong.display().to_string()]).await;
    let told = printed(&refused);
    assert!(!refused.status.success() && !told.contains("canary"), "{told}");
    assert!(
        told.contains("providers.groq.api_key: may hold only") && told.contains("providers.x: is a number"),
        "{told}"
    );
    assert_eq!(place.revision().await, before);

    // It succeeds: a copy is kept, which only we can read.
    let done = run(&place, &["--from", "admin-settings", &path]).await;
    let told = printed(&done);
    assert!(done.status.success() && told.contains("total: 4 providers"), "{told}");
    let names = files_of(&place);
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = place.server.home().path(&names[1]);
    assert_eq!(fs::read(&copy).unwrap(), text, "byte for byte");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
}

/// One rule for all formats: everything or nothing, or what is valid when that is asked for.
async fn regression_what_is_not_valid_is_left_out_only_when_asked(place: Place) {
    let before = place.revision().await;
    let files = [
        ("runtime-config", "rows.csv", "key,value,value_type\na,1,int\n!,2,int\n", "rows.csv, row 2"),
        ("env", "two.env", "GROQ_API_KEY=gsk-fine-1\nREDIS_URL=no url\nno line\n", "two.env, line 2)"),
        (
            "admin-settings",
            "settings.json",
            r#"{"providers": {"xai": {"api_key": "xai-fine-1"}, "x": 5}}"#,
            "settings.json: providers.x",
        ),
        (
            "litellm",
            "config.yaml",
            "model_list:\n- {model_name: a, litellm_params: {model: mistral/a}}\n- {model_name: b}\n",
            "model_list[1]",
        ),
    ];
    for (format, name, text, wrong) in files {
        let path = file(&place, name, text).display().to_string();
        let refused = run(&place, &["--from", format, &path]).await;
        let told = printed(&refused);
        assert!(
            !refused.status.success() && told.contains(wrong) && told.contains("--skip-invalid"),
            "{told}"
        );
    }
    assert_eq!(place.revision().await, before);
    for (format, name, _, wrong) in files {
        let path = place.server.home().path(name).display().to_string();
        let done = run(&place, &["--from", format, "--skip-invalid", &path]).await;
        let told = printed(&done);
        let named = told.lines().any(|line| line.contains(wrong) && line.contains(" not valid "));
        assert!(done.status.success() && named, "{told}");
    }
    for made in ["settings/a", "providers/groq/apiKeys/env", "providers/xai", "providers/mistral"] {
        place.get(made).await.expect(made);
    }
    // Where nothing is left it is no import.
    let path = file(&place, "none.env", "no line\n").display().to_string();
    assert!(!run(&place, &["--from", "env", "--skip-invalid", &path]).await.status.success());
}

/// A port that leads to the server, and cuts a connection when its first answer comes.
async fn before_its_answer(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut asks, mut hears) = client.into_split();
            let (mut answers, mut asked) = TcpStream::connect(&server).await.unwrap().into_split();
            let passed = tokio::spawn(async move { tokio::io::copy(&mut asks, &mut asked).await });
            tokio::spawn(async move {
                // A frame of HTTP/2 begins with three bytes of length and one of type; 1 is that of headers.
                let mut head = [0; 9];
                while answers.read_exact(&mut head).await.is_ok() && head[3] != 1 {
                    let mut rest = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                    answers.read_exact(&mut rest).await.unwrap();
                    hears.write_all(&[&head[..], &rest].concat()).await.unwrap();
                }
                passed.abort();
            });
        }
    });
    url
}

async fn regression_a_copy_stays_while_nobody_knows(place: Place) {
    let before = place.revision().await;
    let path = fixture(&place, "admin_settings.json").display().to_string();
    let url = before_its_answer(place.server.address()).await;
    let lost = run(&place, &["--from", "admin-settings", "--server", &url, &path]).await;
    let told = printed(&lost);
    assert_eq!(lost.status.code(), Some(6), "{told}");
    assert!(told.contains("it is not known whether the import was done"), "{told}");
    assert_eq!(place.revision().await, before + 1, "it was done");
    let names = files_of(&place);
    assert_eq!(names.len(), 2, "{names:?}");
    let id = told.split("--request-id ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().to_owned();

    let repeated = run(&place, &["--from", "admin-settings", "--request-id", &id, &path]).await;
    let told = printed(&repeated);
    assert!(repeated.status.success() && told.contains(&names[1]), "{told}");
    assert!(!told.contains(" 0 created") && told.contains(" created, "), "it tells what was done: {told}");
    let again = run(&place, &["--from", "admin-settings", &path]).await;
    assert!(
        again.status.success() && printed(&again).contains("0 created, 0 updated"),
        "{}",
        printed(&again)
    );
    assert_eq!((place.revision().await, files_of(&place)), (before + 1, names), "no further copy");
}

async fn a_dry_run_changes_nothing(place: Place) {
    let before = place.revision().await;
    let told = import(&place, "admin-settings", &["admin_settings.json"], &["--dry-run"]).await;
    assert!(told.contains("providers/groq"), "{told}");
    assert_eq!(place.revision().await, before);
    assert_eq!(files_of(&place), ["admin_settings.json"]);
}
