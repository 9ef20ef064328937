//! What a new store begins with: starters, the catalogue, and the keys that lie around the process; once, in one revision,
//! and without a word of a value.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use signalbox::proto::v1::{
    GetStatusRequest, GetStatusResponse, ListResourcesRequest, Resource, resource::Spec,
};

use crate::harness::{
    Home, Server,
    api::{Api, deletion_of},
    exposition::Exposition,
    forms::Forms,
    http::get,
};

const STARTERS: &str = "SIGNALBOX_STARTERS";

/// A folder in which stores begin as they do for operators.
fn home() -> Home {
    Home::new().with(STARTERS, "on")
}

fn dot_env(home: &Home, text: &str, mode: u32) {
    fs::write(home.path(".env"), text).unwrap();
    fs::set_permissions(home.path(".env"), fs::Permissions::from_mode(mode)).unwrap();
}

/// Stops a server, and gives its folder back.
async fn stopped(server: Server) -> Home {
    let home = Arc::clone(server.home());
    server.stop().await;
    Arc::into_inner(home).expect("nobody else")
}

async fn resources(api: &mut Api) -> Vec<Resource> {
    let request = ListResourcesRequest { page_size: 1000, ..ListResourcesRequest::default() };
    let answer = api.config.list_resources(request).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "", "one page holds them");
    answer.resources
}

async fn status(api: &mut Api) -> GetStatusResponse {
    api.admin.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

fn names<'a>(resources: &'a [Resource], prefix: &'a str) -> Vec<&'a str> {
    resources.iter().map(|one| one.name.as_str()).filter(|name| name.starts_with(prefix)).collect()
}

/// The providers that may be used, and the active one.
fn usable(resources: &[Resource]) -> (Vec<&str>, String) {
    let enabled = resources
        .iter()
        .filter(|one| matches!(&one.spec, Some(Spec::Provider(spec)) if spec.enabled == Some(true)));
    let active = resources.iter().find_map(|one| match &one.spec {
        Some(Spec::Router(spec)) if one.name == "routers/default" => Some(spec.primary.clone()),
        _ => None,
    });
    (enabled.map(|one| one.name.as_str()).collect(), active.expect("a router"))
}

#[tokio::test]
async fn a_new_store_begins_with_four_providers_and_the_catalogue() {
    let server = Server::start_in_with(&Arc::new(home()), &["--http-listen", "127.0.0.1:0"]).await;
    let mut api = Api::admin(&server).await;
    let all = resources(&mut api).await;
    let starters = ["providers/chatgpt", "providers/google_ai", "providers/groq", "providers/openrouter"];
    assert_eq!(names(&all, "providers/"), starters);
    assert_eq!(usable(&all), (vec!["providers/groq"], "providers/groq".to_owned()));
    assert!(names(&all, "models/").len() > 30);
    assert_eq!(names(&all, "databases/"), Vec::<&str>::new());
    // One revision, by the service itself.
    assert_eq!(status(&mut api).await.revision, 1);
    assert!(all.iter().all(|one| one.create_revision == 1 && one.updated_by == "signalbox"));
    let page = get(server.http_address(), "/metrics", &server.admin_token()).await;
    let page = Exposition::parse(&page.body);
    let counted = |role| {
        let labels = [("action", "imported"), ("kind", "provider"), ("role", role)];
        page.find("signalbox_config_changes_total", &labels)
    };
    assert_eq!(["server", "admin"].map(counted), [Some(4.0), None], "no admin did it");
    let log = server.home().log();
    let line = log.lines().find(|line| line.starts_with("providers/groq ")).expect("a line of the table");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["providers/groq", "yes", "yes", "-"]);
    assert!(log.contains("total: 4 providers"), "{log}");
    let history = server.run(&["history", "providers/groq"]).await;
    let history = String::from_utf8_lossy(&history.stdout).into_owned();
    assert!(history.contains("imported") && !history.contains("created"), "{history}");
    // What importers keep their account in stands in the resource, and takes no room in a list.
    let listed = server.run(&["list", "providers/*"]).await;
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("imported-as"), "{listed:?}");
}

#[tokio::test]
async fn what_lies_around_is_taken_over_once_and_never_shown() {
    let [key, password, other, late] = [
        "sk-canary-6b1f9e03a2d84c57",
        "pw-canary-19c0de77aa42fe61",
        "AIza-canary-d05e8b7712c94f",
        "gsk-canary-80aa43e6d1bb52",
    ];
    // Whatever the libraries have to say is said.
    let mut home = home().with("OPENAI_API_KEY", key).with("RUST_LOG", "trace");
    home.set("DATABASE_URL", format!("postgres://app:{password}@db.example:5433/app?sslmode=require"));
    dot_env(
        &home,
        &format!("# ours\nGEMINI_API_KEY='{other}'\nOPENAI_API_KEY=sk-not-this-one\nAPP_MODE=x\n"),
        0o644,
    );
    let home = Arc::new(home);
    let server = Server::start_in(&home).await;
    let mut api = Api::admin(&server).await;
    let all = resources(&mut api).await;
    // Of those with a key Google AI comes first.
    let on = vec!["providers/chatgpt", "providers/google_ai"];
    assert_eq!(usable(&all), (on, "providers/google_ai".to_owned()));
    let keys: Vec<_> = all.iter().filter(|one| matches!(one.spec, Some(Spec::ApiKey(_)))).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let Some(Spec::Database(main)) =
        all.iter().find(|one| one.name == "databases/main").and_then(|one| one.spec.clone())
    else {
        panic!("there is no databases/main");
    };
    assert_eq!((main.host.as_str(), main.port, main.user.as_str()), ("db.example", 5433, "app"));
    let mut worker = Api::worker(&server).await;
    for (name, expected) in [("chatgpt", key), ("google_ai", other)] {
        let secrets = worker.secrets(&format!("providers/{name}/apiKeys/env"), true).await;
        assert_eq!(secrets[0].value.as_deref(), Some(expected), "the environment wins over the file");
    }
    let log = home.log();
    for said in [
        "OPENAI_API_KEY",
        "GEMINI_API_KEY (.env, line 2)",
        "DATABASE_URL -> databases/main",
        "can be read by others",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!log.contains("APP_MODE") && log.contains("none of those that are read: 1"), "{log}");
    assert!(status(&mut api).await.warnings.iter().any(|warning| warning.contains(".env")));
    // Once: whatever became of it, and whatever lies around by then.
    api.config.batch_write(deletion_of(&all)).await.unwrap();
    assert_eq!(resources(&mut api).await, Vec::new());
    let revision = status(&mut api).await.revision;
    let listed = server.run(&["list", "--output", "yaml"]).await;
    drop(home);
    let mut again = stopped(server).await;
    again.set("GROQ_API_KEY", late);
    let server = Server::start_in(&Arc::new(again)).await;
    let mut api = Api::admin(&server).await;
    assert_eq!(resources(&mut api).await, Vec::new());
    assert_eq!(status(&mut api).await.revision, revision);
    let home = Arc::clone(server.home());
    server.stop().await;
    for secret in [key, password, other, late] {
        let forms = Forms::of(secret);
        for (what, bytes) in [("the log", home.log().into_bytes()), ("a list", listed.stdout.clone())] {
            assert_eq!(forms.found_in(&bytes), None, "{what} shows {secret}");
        }
        let database = fs::read(home.path("data/signalbox.db")).unwrap();
        assert_eq!(forms.found_in(&database), None, "the database shows {secret}");
    }
}

/// The store begins all the same, and once: what was mended later is brought by an import.
#[tokio::test]
async fn regression_a_variable_that_is_not_valid_stops_nothing() {
    let (key, url) = ("sk-canary-93f1c80d7be24a66", "no-url-canary-5d20aa917c3e");
    let mut home = home().with("OPENAI_API_KEY", key).with("OPENAI_BASE_URL", url);
    dot_env(&home, "GROQ_API_KEY=gsk-fine-0123456789\nthis is no line\n", 0o600);
    let server = Server::start_in(&Arc::new(home)).await;
    let mut api = Api::admin(&server).await;
    let all = resources(&mut api).await;
    assert_eq!(usable(&all), (vec!["providers/groq"], "providers/groq".to_owned()));
    assert!(names(&all, "providers/chatgpt/").is_empty(), "its key was for elsewhere");
    let warnings = status(&mut api).await.warnings.join("\n");
    for text in [server.home().log(), warnings] {
        for said in
            [".env, line 2: is not NAME=VALUE", "OPENAI_BASE_URL: must begin", "signalbox import --from env"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains(key) && !text.contains(url), "{text}");
    }
    assert!(server.home().log().contains("not valid, and not taken over:"), "{}", server.home().log());
    // The next start looks at nothing.
    home = stopped(server).await;
    home.unset("OPENAI_BASE_URL");
    dot_env(&home, "MISTRAL_API_KEY=mistral-fine-1\n", 0o600);
    let server = Server::start_in(&Arc::new(home)).await;
    let mut api = Api::admin(&server).await;
    assert_eq!(resources(&mut api).await, all);
    let output = server.run(&["import", "--from", "env", ".env"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!names(&resources(&mut api).await, "providers/mistral/").is_empty());
}

/// A container whose user is not the owner of its working directory began with an empty store.
#[tokio::test]
async fn a_file_that_can_not_be_read_is_told_and_stops_nothing() {
    let home = home().with("OPENAI_API_KEY", "sk-fine-0123456789abcdef");
    // Who runs as root may read everything, but not follow a link to itself.
    std::os::unix::fs::symlink(".env", home.path(".env")).unwrap();
    let server = Server::start_in(&Arc::new(home)).await;
    let mut api = Api::admin(&server).await;
    let all = resources(&mut api).await;
    assert_eq!(usable(&all), (vec!["providers/chatgpt"], "providers/chatgpt".to_owned()));
    let warnings = status(&mut api).await.warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("/.env can't be read") && warning.contains("--from env")),
        "{warnings:?}"
    );
}

/// A pipe of that name could keep the server from starting for ever.
#[tokio::test]
async fn regression_what_is_no_file_is_told_and_not_read() {
    for make in ["mkdir", "mkfifo"] {
        let home = home();
        let made = std::process::Command::new(make).arg(home.path(".env")).status().unwrap();
        assert!(made.success());
        let server = Server::start_in(&Arc::new(home)).await;
        let warnings = status(&mut Api::admin(&server).await).await.warnings;
        let told =
            warnings.iter().any(|warning| warning.contains("/.env is no regular file, and was not read"));
        assert!(told, "{make}: {warnings:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_expressed_is_left_out_and_stops_nothing() {
    let home = home()
        .with("DATABASE_URL", "mssql://app:pw-canary-77fd0312@db.example/app")
        .with("AZURE_OPENAI_API_KEY", "azure-canary-120a3b")
        .with("GROQ_API_KEY", "your-api-key-here");
    let server = Server::start_in(&Arc::new(home)).await;
    let all = resources(&mut Api::admin(&server).await).await;
    assert_eq!(usable(&all), (vec!["providers/groq"], "providers/groq".to_owned()));
    assert!(!all.iter().any(|one| matches!(one.spec, Some(Spec::ApiKey(_) | Spec::Database(_)))));
    let log = server.home().log();
    for said in [
        "DATABASE_URL: not carried over",
        "AZURE_OPENAI_API_KEY: not carried over: needs",
        "GROQ_API_KEY: not",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn without_starters_a_store_stays_as_it_is() {
    let mut home = Home::new().with("GROQ_API_KEY", "gsk-fine-0123456789");
    let server = Server::start_in(&Arc::new(home)).await;
    assert_eq!(resources(&mut Api::admin(&server).await).await.len(), 0);
    home = stopped(server).await;
    // A flag goes before the environment, and nothing was written yet.
    let server = Server::start_in_with(&Arc::new(home), &["--starters", "on"]).await;
    assert_eq!(status(&mut Api::admin(&server).await).await.revision, 1);
}

/// Such as one that was there before anything was ever seeded.
#[tokio::test]
async fn a_store_that_was_written_to_is_not_seeded() {
    let server = Server::start().await;
    let mut api = Api::admin(&server).await;
    api.create("settings/mode", crate::harness::api::setting("x")).await;
    let home = Arc::clone(server.home());
    server.stop().await;
    let server = Server::start_in_with(&home, &["--starters", "on"]).await;
    let mut api = Api::admin(&server).await;
    assert_eq!(names(&resources(&mut api).await, ""), ["settings/mode"]);
    assert_eq!(status(&mut api).await.revision, 1);
}

/// What a person changed of the catalogue stays as it is when it is seeded again, and what is gone stays gone.
#[tokio::test]
async fn edits_survive_when_the_catalogue_is_imported_again() {
    let server = Server::start_in(&Arc::new(home())).await;
    let mut admin = Api::admin(&server).await;
    let (edited, gone) = ("models/groq/openai+gpt-oss-20b", "models/mistral/codestral-latest");
    for line in [&["set", edited, "--field", "display_name=Ours"][..], &["delete", "--yes", gone]] {
        let output = server.run(line).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let before = resources(&mut admin).await;
    let output = server.run(&["import", "--from", "catalogue"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(resources(&mut admin).await, before, "nothing has changed");
    // Nor does another start bring it back.
    let server = Server::start_in(&Arc::new(stopped(server).await)).await;
    assert_eq!(resources(&mut Api::admin(&server).await).await, before);
}
