//! Variables in, providers and databases out.

use std::ffi::OsString;

use proptest::prelude::*;

use super::*;
use crate::{
    import::Item,
    proto::v1::{DatabaseTlsMode, Resource, secret::State},
};

fn all_of(text: &str) -> Imported {
    convert(Variables::of_file(".env", text))
}

fn import(text: &str) -> Imported {
    all_of(text).whole().unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    let Err(problems) = all_of(text).whole() else { panic!("{text} was taken") };
    problems.to_string()
}

fn names_of(imported: &Imported) -> Vec<&str> {
    imported.resources.iter().map(|resource| resource.name.as_str()).collect()
}

fn provider<'a>(imported: &'a Imported, name: &str) -> &'a ProviderSpec {
    match spec(imported, name) {
        Spec::Provider(provider) => provider,
        _ => panic!("{name} is no provider"),
    }
}

fn spec<'a>(imported: &'a Imported, name: &str) -> &'a Spec {
    let found = imported.resources.iter().find(|resource| resource.name == name);
    found.and_then(|Resource { spec, .. }| spec.as_ref()).unwrap_or_else(|| panic!("no {name}"))
}

fn key_of(imported: &Imported, name: &str) -> String {
    match spec(imported, name) {
        Spec::ApiKey(key) => key.secret.as_ref().and_then(|secret| secret.value.clone()).unwrap_or_default(),
        _ => panic!("{name} is no key"),
    }
}

/// What the report says of a variable.
fn told(imported: &Imported, name: &str) -> String {
    let of = |from: &str| from == name || from.starts_with(&format!("{name} ("));
    let items: Vec<String> =
        imported.items.iter().filter(|item| of(&item.from)).map(ToString::to_string).collect();
    assert!(!items.is_empty(), "nothing is told of {name}");
    items.join("\n")
}

#[test]
fn every_known_key_becomes_a_provider_with_it() {
    let lines: Vec<String> =
        KNOWN.iter().map(|known| format!("{}=key-{}", known.keys[0], known.id)).collect();
    let more = "AZURE_OPENAI_ENDPOINT=https://r.openai.azure.com/\nAWS_REGION=eu-west-1\n";
    let imported = import(&format!("{more}{}", lines.join("\n")));
    for known in &KNOWN {
        let name = format!("providers/{}", known.id);
        assert_eq!(provider(&imported, &name).r#type(), known.provider_type);
        assert_eq!(key_of(&imported, &format!("{name}/apiKeys/env")), format!("key-{}", known.id));
    }
    assert_eq!(imported.resources.len(), 2 * KNOWN.len());
    assert_eq!(provider(&imported, "providers/azure_openai").base_url, "https://r.openai.azure.com");
    let bedrock = &provider(&imported, "providers/bedrock").base_url;
    assert_eq!(bedrock, "https://bedrock-runtime.eu-west-1.amazonaws.com");
    assert_eq!(imported.count(Outcome::LeftOut), 0);
    assert!(imported.resources.iter().all(|resource| resource.labels["imported-from"] == "env"));
}

/// An import replaces a starter that nobody edited: it must not take away the model that calls go to.
#[test]
fn a_found_provider_has_the_default_model_of_its_starter() {
    let imported = import("GROQ_API_KEY=k\nOPENAI_API_KEY=k\nOPENAI_BASE_URL=https://proxy.example/v1");
    assert!(!provider(&imported, "providers/groq").default_model.is_empty());
    assert!(
        provider(&imported, "providers/chatgpt").default_model.is_empty(),
        "nobody knows what is served there"
    );
}

#[test]
fn the_stated_name_wins() {
    let imported = import("GEMINI_API_KEY=two\nGOOGLE_API_KEY=one\nCOHERE_API_KEY=two\nCO_API_KEY=one");
    assert_eq!(key_of(&imported, "providers/google_ai/apiKeys/env"), "one");
    assert_eq!(key_of(&imported, "providers/cohere/apiKeys/env"), "one");
    assert!(
        told(&imported, "GEMINI_API_KEY").contains("not carried over: GOOGLE_API_KEY is set too, and wins")
    );
    let alone = import("GOOGLE_API_KEY=\nGEMINI_API_KEY=two");
    assert_eq!(key_of(&alone, "providers/google_ai/apiKeys/env"), "two");
    assert!(told(&alone, "GOOGLE_API_KEY").contains("is empty"));
}

#[test]
fn what_goes_with_a_key() {
    let text = "OPENAI_API_KEY=k\nOPENAI_BASE_URL=https://proxy.example/v1/\nOPENAI_ORG_ID=org-1\n\
                AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://r.openai.azure.com\nOPENAI_API_VERSION=2024-10-21";
    let imported = import(text);
    let openai = provider(&imported, "providers/chatgpt");
    assert_eq!(openai.base_url, "https://proxy.example/v1");
    assert_eq!(openai.headers["OpenAI-Organization"].value, Some(Value::Plain("org-1".into())));
    let azure = provider(&imported, "providers/azure_openai");
    assert!(azure.endpoint_path.ends_with("?api-version=2024-10-21"));
    assert_eq!(imported.count(Outcome::LeftOut), 0);

    let lonely = import(
        "OPENAI_BASE_URL=https://x.example\nOPENAI_ORG_ID=o\nAZURE_OPENAI_API_KEY=k\nAWS_BEARER_TOKEN_BEDROCK=k",
    );
    assert_eq!(names_of(&lonely), [""; 0]);
    assert!(told(&lonely, "OPENAI_BASE_URL").contains("there is no OPENAI_API_KEY"));
    assert!(told(&lonely, "OPENAI_ORG_ID").contains("no key here"));
    assert!(told(&lonely, "AZURE_OPENAI_API_KEY").contains("needs AZURE_OPENAI_ENDPOINT"));
    assert!(told(&lonely, "AWS_BEARER_TOKEN_BEDROCK").contains("needs AWS_REGION"));
}

/// As Azure's portal shows it.
#[test]
fn regression_a_target_uri_of_azure_is_taken_apart() {
    let of = |uri: &str, more: &str| {
        let text = format!(
            "AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://r.openai.azure.com/openai/{uri}\n{more}"
        );
        let imported = import(&text);
        let azure = provider(&imported, "providers/azure_openai").clone();
        assert_eq!(azure.base_url, "https://r.openai.azure.com", "{uri}");
        assert_eq!(key_of(&imported, "providers/azure_openai/apiKeys/env"), "k");
        (azure.endpoint_path, azure.default_model, imported)
    };
    let path = |version: &str| azure::endpoint(azure::MODEL, version);
    let uri = "deployments/mine/chat/completions?api-version=2024-10-21";
    let (endpoint, model, imported) = of(uri, "OPENAI_API_VERSION=2025-01-01-preview\n");
    assert_eq!((endpoint, model.as_str()), (path("2024-10-21"), "mine"));
    assert!(told(&imported, "OPENAI_API_VERSION").contains("names a version too, and wins"));
    let (endpoint, model, _) = of("deployments/mine", "OPENAI_API_VERSION=2025-01-01-preview\n");
    assert_eq!((endpoint, model.as_str()), (path("2025-01-01-preview"), "mine"));
    let (endpoint, model, _) = of("responses?api-version=2025-04-01-preview", "");
    assert_eq!((endpoint, model.as_str()), (path("2025-04-01-preview"), ""));
    let told = problems(
        "AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://r.openai.azure.com/openai/deployments/e/embeddings\n",
    );
    assert!(told.contains("leads to no chat of a deployment"), "{told}");
}

/// What SDKs' samples have as the base URL was called twice.
#[test]
fn regression_the_beginning_of_azures_paths_is_cut() {
    for uri in ["/openai/", "/openai", "/openai/deployments/", "/openai/v1/"] {
        let set = format!("AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://r.openai.azure.com{uri}\n");
        let imported = import(&set);
        let azure = provider(&imported, "providers/azure_openai");
        assert_eq!(
            (azure.base_url.as_str(), azure.endpoint_path.as_str()),
            ("https://r.openai.azure.com", "")
        );
        assert!(told(&imported, "AZURE_OPENAI_ENDPOINT").contains("is cut"), "{uri}");
        let imported = import(&format!("{set}OPENAI_API_VERSION=2024-10-21\n"));
        let azure = provider(&imported, "providers/azure_openai");
        assert_eq!(azure.endpoint_path, azure::endpoint(azure::MODEL, "2024-10-21"), "{uri}");
        let says_v1 = told(&imported, "AZURE_OPENAI_ENDPOINT").contains("is an address of the v1 API");
        assert_eq!(says_v1, uri.contains("v1"), "{uri}");
    }
    // A gateway may have a path of that name of its own.
    let imported = import("AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://gw.example/openai\n");
    assert_eq!(provider(&imported, "providers/azure_openai").base_url, "https://gw.example/openai");
}

#[test]
fn regression_a_deployment_that_a_target_uri_names_is_told() {
    let imported = import(
        "AZURE_OPENAI_API_KEY=k\n\
         AZURE_OPENAI_ENDPOINT=https://r.openai.azure.com/openai/deployments/dep2/chat/completions?api-version=SOMETHING\n",
    );
    let note = told(&imported, "AZURE_OPENAI_ENDPOINT");
    assert!(note.contains("`dep2` is the default model, unless providers/azure_openai is there"), "{note}");
    assert!(note.contains("`api-version` is no date"), "{note}");
}

#[test]
fn regression_the_variable_that_is_wrong_is_the_one_that_is_told() {
    for uri in [
        "https://gw.example/sk-proj-0123456789abcdefghij0123456789/openai/deployments/m",
        "https://gw.example/openai/deployments/sk-proj-0123456789abcdefghij0123456789",
    ] {
        let told = problems(&format!("AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT={uri}\n"));
        assert!(told.contains("AZURE_OPENAI_ENDPOINT (") && told.contains("looks like a key"), "{told}");
        assert!(!told.contains("AZURE_OPENAI_API_KEY (") && !told.contains("sk-proj"), "{told}");
    }
}

#[test]
fn regression_a_password_that_is_a_reference_is_no_password() {
    let imported = import(
        "PGHOST=db.example\nPGPASSWORD='$SECRET_PW'\nREDIS_URL='redis://:$(cat%20pw)@localhost/0'\n\
         MYSQL_URL='mysql://app:$ecret@localhost/x'\n",
    );
    let state = |name: &str| match spec(&imported, name) {
        Spec::Database(database) => database.password.clone().map(|secret| (secret.value, secret.state)),
        _ => panic!("{name} is no database"),
    };
    let missing = (None, i32::from(State::Missing));
    assert_eq!(state("databases/postgres"), Some(missing.clone()));
    assert_eq!(state("databases/redis"), Some(missing));
    assert_eq!(state("databases/mysql"), Some((Some("$ecret".into()), 0)));
    assert!(told(&imported, "PGHOST").contains("its password is a reference"));
}

#[test]
fn ollama_needs_no_key() {
    for (host, url) in [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("gpu.local", "http://gpu.local:11434"),
        ("gpu.local:80", "http://gpu.local:80"),
        ("https://ollama.example/", "https://ollama.example"),
    ] {
        let imported = import(&format!("OLLAMA_HOST={host}"));
        assert_eq!(provider(&imported, "providers/ollama").base_url, url);
        assert_eq!(names_of(&imported), ["providers/ollama"]);
    }
    let cloud = import("OLLAMA_API_KEY=k");
    let spec = provider(&cloud, "providers/ollama");
    assert_eq!(spec.auth.as_ref().map(ProviderAuth::scheme), Some(AuthScheme::Bearer));
}

#[test]
fn databases_by_url_and_by_variables() {
    let text = "DATABASE_URL=postgresql://app:pw@db:5432/main\nREDIS_URL=redis://localhost/0\n\
                PGHOST=other\nPGPORT=5433\nPGPASSWORD=pw\nPGSSLMODE=require\nPGPASSFILE=/x";
    let imported = import(text);
    assert_eq!(names_of(&imported), ["databases/main", "databases/postgres", "databases/redis"]);
    assert!(told(&imported, "DATABASE_URL").contains("changed: says nothing of TLS"));
    assert!(told(&imported, "PGPASSFILE").contains("not carried over"));
    let Spec::Database(postgres) = spec(&imported, "databases/postgres") else { panic!() };
    assert_eq!((postgres.port, postgres.tls_mode()), (5433, DatabaseTlsMode::Required));

    let same = import("DATABASE_URL=postgresql://localhost/main\nPGHOST=localhost\nPGDATABASE=main");
    assert_eq!(names_of(&same), ["databases/main"]);
    let lonely = import("PGUSER=me");
    assert!(told(&lonely, "PGUSER").contains("no PGHOST"));
    let socket = import("PGHOST=/run/postgresql");
    assert!(told(&socket, "PGHOST").contains("socket"));
}

#[test]
fn regression_urls_of_databases_by_other_names() {
    let imported = import(
        "POSTGRES_URL=postgres://a:b@db/x?sslmode=require\nMONGODB_URI=mongodb://h/x\nSUPABASE_DB_URL=postgres://a:b@db/x\n\
         PGHOST=elsewhere",
    );
    assert_eq!(names_of(&imported), ["databases/mongodb", "databases/postgres"]);
    assert!(told(&imported, "SUPABASE_DB_URL").contains("leads to where POSTGRES_URL leads"));
    assert!(told(&imported, "PGHOST").contains("POSTGRES_URL is databases/postgres already"));
}

#[test]
fn problems_name_variables_and_never_values() {
    for (text, name) in [
        ("OPENAI_API_KEY='sk-secret two'", "OPENAI_API_KEY (.env, line 1)"),
        ("DATABASE_URL=secret", "DATABASE_URL (.env, line 1)"),
        ("OPENAI_API_KEY=k\nOPENAI_BASE_URL=ftp://secret", "OPENAI_BASE_URL (.env, line 2)"),
        ("AWS_BEARER_TOKEN_BEDROCK=k\nAWS_REGION=secret/../x", "AWS_REGION (.env, line 2)"),
        ("PGHOST=h\nPGPORT=secret", "PGPORT (.env, line 2)"),
        ("DATABASE_URL=postgres://a secret b/x", "DATABASE_URL (.env, line 1)"),
        ("PGHOST=secret@host", "PGHOST (.env, line 1)"),
    ] {
        let told = problems(text);
        assert!(told.starts_with(name) && !told.contains("secret"), "{told}");
    }
    let both = problems("DATABASE_URL=x\nREDIS_URL=y");
    assert_eq!(both.lines().count(), 2, "all at once");
}

/// A key goes nowhere else than it was meant for.
#[test]
fn regression_what_goes_with_a_wrong_variable_is_left_out_with_it() {
    for (text, wrong) in [
        ("OPENAI_API_KEY=k\nOPENAI_BASE_URL=ftp://x", "OPENAI_BASE_URL"),
        ("AWS_BEARER_TOKEN_BEDROCK=k\nAWS_REGION=x.example/y", "AWS_REGION"),
        (
            "AZURE_OPENAI_API_KEY=k\nAZURE_OPENAI_ENDPOINT=https://a.example\nOPENAI_API_VERSION=a/b",
            "OPENAI_API_VERSION",
        ),
        ("OPENAI_API_KEY='a b'\nOPENAI_BASE_URL=https://a.example", "OPENAI_API_KEY"),
        ("this is no line", ".env, line 2"),
    ] {
        let imported = all_of(&format!("GROQ_API_KEY=k\n{text}\nDATABASE_URL=postgres://a@b/c"));
        assert_eq!(
            names_of(&imported),
            ["databases/main", "providers/groq", "providers/groq/apiKeys/env"],
            "{text}"
        );
        let imported = imported.without_invalid();
        let refused: Vec<&Item> =
            imported.items.iter().filter(|item| item.outcome == Outcome::Refused).collect();
        assert!(refused.iter().any(|item| item.from.starts_with(wrong)), "{wrong}: {refused:?}");
    }
}

#[test]
fn what_is_not_imported_is_named() {
    let imported = import("OPENAI_API_KEY=your-api-key-here\nDEBUG=1\nGROQ_API_KEY=a\nGROQ_API_KEY=b");
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/env"), "b");
    assert!(told(&imported, "OPENAI_API_KEY").contains("placeholder"));
    assert!(told(&imported, "DEBUG").contains("not carried over"));
    assert!(told(&imported, "GROQ_API_KEY").contains("(.env, line 3): not carried over: a later line"));
}

#[test]
fn the_environment_wins_over_a_file() {
    let environment = |name: &str| (name == "GROQ_API_KEY").then(|| OsString::from("outer"));
    let variables = Variables::of_environment(&environment);
    let file = Variables::of_file(".env", "GROQ_API_KEY=inner\nXAI_API_KEY=x");
    let imported = convert(variables.or(file));
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/env"), "outer");
    assert_eq!(key_of(&imported, "providers/xai/apiKeys/env"), "x");
    assert!(told(&imported, "GROQ_API_KEY").starts_with("GROQ_API_KEY -> "));
}

#[test]
fn two_files_are_read_in_their_order() {
    use super::super::File;
    let files = [
        File { name: "one".into(), text: "GROQ_API_KEY=1".into() },
        File { name: "two".into(), text: "GROQ_API_KEY=2\nXAI_API_KEY=2".into() },
    ];
    let imported = from_files(&Input {
        files: &files,
        environment: &|_| None,
        keys: &crate::crypto::ForeignKeys::none(),
        only: &[],
        ids: &[],
    })
    .unwrap();
    assert_eq!(key_of(&imported, "providers/groq/apiKeys/env"), "1");
    assert_eq!(key_of(&imported, "providers/xai/apiKeys/env"), "2");
}

proptest! {
    #[test]
    fn never_panics_and_repeats_no_value(values in proptest::collection::vec((0..60usize, "\\PC{0,30}"), 0..8)) {
        let known: Vec<&str> = names().collect();
        let mut variables = Variables::default();
        for (index, value) in values {
            let value = format!("canary{value}").into();
            let variable = Variable { value, place: None, overrides: Vec::new() };
            variables.by_name.insert(known[index % known.len()].to_owned(), variable);
        }
        let imported = convert(variables).without_invalid();
        prop_assert!(imported.items.iter().all(|item| !item.to_string().contains("canary")));
    }
}

/// The providers' own clients add the rest by themselves.
#[test]
fn regression_base_urls_of_the_providers_own_clients_lead_to_them() {
    for (text, name, base, model) in [
        (
            "ANTHROPIC_API_KEY=sk-ant-1\nANTHROPIC_BASE_URL=https://api.anthropic.com",
            "providers/anthropic",
            "https://api.anthropic.com/v1",
            "claude-sonnet-5-5",
        ),
        (
            "GROQ_API_KEY=gsk_1\nGROQ_BASE_URL=https://api.groq.com/",
            "providers/groq",
            "https://api.groq.com/openai/v1",
            "openai/gpt-oss-120b",
        ),
        (
            "OPENAI_API_KEY=sk-1\nOPENAI_BASE_URL=https://proxy.example/v1",
            "providers/chatgpt",
            "https://proxy.example/v1",
            "",
        ),
    ] {
        let imported = import(text);
        let spec = provider(&imported, name);
        assert_eq!((spec.base_url.as_str(), spec.default_model.as_str()), (base, model), "{text}");
    }
    let imported = import("GROQ_API_KEY=gsk_1\nGROQ_BASE_URL=https://api.groq.com");
    assert!(told(&imported, "GROQ_BASE_URL").contains("is cut where the base URL of its type is"));
}
