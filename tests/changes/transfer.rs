//! Imports and exports: all or nothing, in one revision, and what went out comes in again as it was.

use std::{fs, os::unix::fs::PermissionsExt as _};

use signalbox::{
    app::ExportKey,
    proto::v1::{
        ExportConfigRequest, ExportConfigResponse, GetResourceRequest, ImportMode, ImportOptions,
        ImportOutcome, Resource, Role, RouterSpec, Secret, VirtualKeySpec, resource::Spec, secret::State,
    },
};
use tonic::Code;

use crate::{
    on_both_databases,
    place::{Place, export, fields, import, items, options, reason},
    support::{
        caller::Rights,
        resources::{
            api_key, by_prefix, labelled, named, provider, secret_setting, secrets_in, setting, with_header,
        },
        writer::Op,
    },
};

on_both_databases! {
    what_is_exported_is_imported_as_it_was;
    an_export_without_secrets_says_what_is_missing;
    an_import_is_all_or_nothing;
    what_exists_is_kept_changed_or_replaced;
    an_import_is_repeated_without_a_change;
    the_largest_import_is_one_revision;
    nobody_imports_or_exports_beyond_his_grants;
    keys_that_a_server_has_made_go_along;
}

fn router(id: &str, primary: &str) -> Resource {
    named(
        &format!("routers/{id}"),
        Spec::Router(RouterSpec { primary: primary.to_owned(), ..Default::default() }),
    )
}

/// Something of everything that matters: references, parents, labels, secrets in fields and in maps.
fn sample() -> Vec<Resource> {
    vec![
        router("default", "providers/a"),
        api_key("providers/a/apiKeys/k", "sk-of-a-provider"),
        labelled(with_header(provider("providers/a"), "x-tenant", "header-secret"), &[("team", "x")]),
        setting("settings/plain", "text"),
        secret_setting("settings/sealed", "setting-secret"),
        setting("users/alice/settings/plain", "hers"),
    ]
}

async fn key_of(place: &Place) -> (String, std::path::PathBuf) {
    let made = place.server.run(&["keys", "generate"]).await;
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let path = place.server.home().path("export.key");
    fs::write(&path, &key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (key, path)
}

fn with_key(key: &str) -> ExportConfigRequest {
    ExportConfigRequest { export_key: key.to_owned(), ..Default::default() }
}

/// The secrets of an export, opened.
fn opened(key: &str, export: &ExportConfigResponse) -> Vec<(String, String, String)> {
    let key = ExportKey::parse(key).unwrap_or_else(|why| panic!("{why}"));
    let open = |secret: &signalbox::proto::v1::ExportedSecret| {
        let value = key.open(&secret.name, &secret.field, &secret.sealed).expect("the key opens it");
        (secret.name.clone(), secret.field.clone(), value.expose().to_owned())
    };
    export.secrets.iter().map(open).collect()
}

async fn what_is_exported_is_imported_as_it_was(place: Place) {
    import(&place.admin, options(ImportMode::Keep), items(&sample()), 2).await.unwrap();
    let (key, key_file) = key_of(&place).await;
    let exported = place.export(with_key(&key)).await;
    assert_eq!(exported.resources.len(), sample().len());
    let secrets = opened(&key, &exported);
    let values: Vec<&str> = secrets.iter().map(|(.., value)| value.as_str()).collect();
    assert_eq!(values, ["header-secret", "sk-of-a-provider", "setting-secret"]);
    let told = format!("{exported:?}");
    assert!(values.iter().all(|value| !told.contains(value)), "they are sealed");

    // Through files of both formats, into an empty store.
    for file in ["export.yaml", "export.json"] {
        let path = place.server.home().path(file);
        let (path, key_file) = (path.to_str().unwrap(), key_file.to_str().unwrap());
        let token = &place.token_file();
        let export = ["export", "--file", path, "--export-key-file", key_file, "--token-file", token];
        let output = place.server.run(&export).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        let other = Place::on_sqlite().await;
        let refused = other.server.run(&["import", path]).await;
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--export-key-file"), "{refused:?}");
        let imported = other.server.run(&["import", path, "--export-key-file", key_file]).await;
        let told = String::from_utf8_lossy(&imported.stdout).into_owned();
        assert!(told.contains("6 created, 0 updated, 0 unchanged, 0 skipped"), "{imported:?}");
        assert_eq!(other.states("settings/sealed").await, [State::Present]);
        let again = other.export(with_key(&key)).await;
        assert_eq!(again.resources, exported.resources);
        assert_eq!(opened(&key, &again), secrets);
        // Who has the values changes nothing by bringing them again.
        let before = other.revision().await;
        let again = other.server.run(&["import", "--replace", path, "--export-key-file", key_file]).await;
        let told = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(told.contains("0 created, 0 updated, 6 unchanged, 0 skipped"), "{again:?}");
        assert_eq!(other.revision().await, before);
    }
}

async fn an_export_without_secrets_says_what_is_missing(place: Place) {
    import(&place.admin, options(ImportMode::Keep), items(&sample()), 100).await.unwrap();
    let exported = place.export(ExportConfigRequest::default()).await;
    assert!(exported.secrets.is_empty());
    let other = Place::on_sqlite().await;
    let answer =
        import(&other.admin, options(ImportMode::Keep), items(&exported.resources), 1).await.unwrap();
    let told = answer.warnings.join("\n");
    for secret in [
        "providers/a: provider.headers.x-tenant.secret has no value yet",
        "providers/a/apiKeys/k: api_key.secret has no value yet",
        "settings/sealed: setting.secret_value has no value yet",
    ] {
        assert!(told.contains(secret), "{told}");
    }
    assert_eq!(other.states("providers/a/apiKeys/k").await, [State::Missing]);
    assert_eq!(other.export(ExportConfigRequest::default()).await.resources, exported.resources);

    // Where they are stored, they stay, and show as stored.
    for mode in [ImportMode::Update, ImportMode::Replace] {
        let answer = import(&place.admin, options(mode), items(&exported.resources), 100).await.unwrap();
        assert_eq!((answer.unchanged, answer.warnings.len()), (6, 0), "{answer:?}");
    }
    assert_eq!(place.states("providers/a/apiKeys/k").await, [State::Present]);
}

async fn an_import_is_all_or_nothing(place: Place) {
    let mut wrong = sample();
    wrong.push(provider("providers/ä"));
    wrong.push(setting("settings/plain", "twice"));
    let before = place.revision().await;
    let status = import(&place.admin, options(ImportMode::Keep), items(&wrong), 3).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["items[6].resource.name", "items[7].resource.name"]);
    let dangling = [router("default", "providers/none"), setting("settings/x", "y")];
    let status = import(&place.admin, options(ImportMode::Keep), items(&dangling), 1).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "REFERENCE_MISSING".into()));
    let dry = ImportOptions { validate_only: true, ..options(ImportMode::Keep) };
    let answer = import(&place.admin, dry, items(&sample()), 2).await.unwrap();
    assert_eq!((answer.created, answer.revision_token.as_str()), (6, ""));
    assert_eq!(place.revision().await, before, "nothing of all this was done");

    let answer = import(&place.admin, options(ImportMode::Keep), items(&sample()), 2).await.unwrap();
    assert_eq!((answer.created, answer.revision), (6, before + 1));
    for resource in sample() {
        assert_eq!(place.get(&resource.name).await.unwrap().update_revision, answer.revision);
    }
}

async fn what_exists_is_kept_changed_or_replaced(place: Place) {
    place.write(Op::Create(labelled(setting("settings/a", "old"), &[("team", "x")]))).await;
    let brought = [setting("settings/a", "new"), setting("settings/b", "new")];
    let outcome = async |mode| {
        let answer = import(&place.admin, options(mode), items(&brought), 9).await.unwrap();
        let a = place.get("settings/a").await.unwrap();
        (answer.resources.iter().map(|one| one.outcome()).collect::<Vec<_>>(), a.labels.len(), a.spec)
    };
    let (old, new) = (setting("settings/a", "old").spec, setting("settings/a", "new").spec);
    use ImportOutcome::{Created, Skipped, Unchanged, Updated};
    assert_eq!(outcome(ImportMode::Unspecified).await, (vec![Skipped, Created], 1, old));
    assert_eq!(outcome(ImportMode::Update).await, (vec![Updated, Unchanged], 1, new.clone()));
    assert_eq!(outcome(ImportMode::Update).await, (vec![Unchanged, Unchanged], 1, new.clone()));
    assert_eq!(outcome(ImportMode::Replace).await, (vec![Updated, Unchanged], 0, new));

    // A mask clears what it names.
    let described = named("settings/a", described("what it is for"));
    import(&place.admin, options(ImportMode::Update), items(&[described]), 1).await.unwrap();
    let mut item = items(&[setting("settings/a", "new")]);
    item[0].update_mask = Some(prost_types::FieldMask { paths: vec!["setting.description".into()] });
    let answer = import(&place.admin, options(ImportMode::Update), item, 1).await.unwrap();
    assert_eq!(answer.resources[0].fields[0].path, "setting.description");
    assert_eq!(place.get("settings/a").await.unwrap().spec, setting("settings/a", "new").spec);
}

fn described(text: &str) -> Spec {
    match setting("settings/a", "new").spec {
        Some(Spec::Setting(spec)) => {
            Spec::Setting(signalbox::proto::v1::SettingSpec { description: text.into(), ..spec })
        }
        _ => unreachable!("it is a setting"),
    }
}

async fn an_import_is_repeated_without_a_change(place: Place) {
    let under = |id: &str| ImportOptions { request_id: id.into(), ..options(ImportMode::Keep) };
    let first = import(&place.admin, under("one"), items(&sample()), 2).await.unwrap();
    // However it is cut, it is the same import.
    let again = import(&place.admin, under("one"), items(&sample()), 5).await.unwrap();
    assert_eq!(again, first);
    let status = import(&place.admin, under("one"), items(&sample()[..2]), 5).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".into()));
    let skipped = import(&place.admin, under("two"), items(&sample()), 5).await.unwrap();
    assert_eq!((skipped.skipped, skipped.revision), (6, first.revision));
}

async fn the_largest_import_is_one_revision(place: Place) {
    let many: Vec<Resource> = (0..10_000)
        .map(|index| setting(&format!("settings/key_{index:05}"), format!("value {index}")))
        .collect();
    let answer = import(&place.admin, options(ImportMode::Keep), items(&many), 1_000).await.unwrap();
    assert_eq!((answer.created, answer.revision), (10_000, place.revision().await));
    let exported = place.export(ExportConfigRequest::default()).await;
    assert_eq!(exported.resources, many);
    let more: Vec<Resource> =
        (0..10_001).map(|index| setting(&format!("settings/more_{index}"), "x")).collect();
    let status = import(&place.admin, options(ImportMode::Keep), items(&more), 1_000).await.unwrap_err();
    assert_eq!((reason(&status).1.as_str(), fields(&status)), ("TOO_LARGE", vec!["items".into()]));
    // Of the past as well.
    place.write(Op::delete("settings/key_00000")).await;
    let past = ExportConfigRequest { revision: answer.revision, ..Default::default() };
    assert_eq!(place.export(past).await.resources.len(), 10_000);
}

async fn nobody_imports_or_exports_beyond_his_grants(place: Place) {
    import(&place.admin, options(ImportMode::Keep), items(&sample()), 9).await.unwrap();
    let rights =
        Rights { role: Role::Admin, grants: vec![by_prefix("settings/")], ttl_seconds: 600, secrets: false };
    let narrow = place.admin.colleague("narrow", &rights).await;
    let names = |export: ExportConfigResponse| -> Vec<String> {
        export.resources.into_iter().map(|resource| resource.name).collect()
    };
    let everything = export(&narrow, ExportConfigRequest::default()).await.unwrap();
    assert_eq!(names(everything), ["settings/plain", "settings/sealed"]);
    let beyond = ExportConfigRequest { selectors: vec![by_prefix("providers/")], ..Default::default() };
    assert_eq!(reason(&export(&narrow, beyond).await.unwrap_err()).1, "NOT_GRANTED");
    let (key, _) = key_of(&place).await;
    let status = export(&narrow, with_key(&key)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::PermissionDenied, "SECRETS_GRANT_DENIED".into()));
    let past = ExportConfigRequest { revision: 1, ..with_key(&key) };
    assert_eq!(fields(&export(&place.admin, past).await.unwrap_err()), ["export_key"]);

    let before = place.revision().await;
    let brought = [setting("settings/new", "x"), provider("providers/b")];
    let status = import(&narrow, options(ImportMode::Keep), items(&brought), 1).await.unwrap_err();
    assert_eq!(reason(&status), (Code::PermissionDenied, "NOT_GRANTED".into()));
    assert_eq!(place.revision().await, before);
    for rights in [Rights::viewer(), Rights::worker(vec![by_prefix("settings/")], true)] {
        let other = place.admin.colleague("other", &rights).await;
        assert_eq!(
            reason(&export(&other, ExportConfigRequest::default()).await.unwrap_err()).1,
            "ROLE_DENIED"
        );
        let refused = import(&other, options(ImportMode::Keep), items(&brought), 1).await.unwrap_err();
        assert_eq!(reason(&refused).1, "ROLE_DENIED");
    }
    // Who may not have secrets read is not told by an import whether a guess is right.
    let guess = [secret_setting("settings/sealed", "setting-secret")];
    let answer = import(&narrow, options(ImportMode::Update), items(&guess), 1).await.unwrap();
    assert_eq!(answer.updated, 1);
}

async fn keys_that_a_server_has_made_go_along(place: Place) {
    let made = named("virtualKeys/team", Spec::VirtualKey(VirtualKeySpec::default()));
    place.write(Op::Create(made)).await;
    let (key, _) = key_of(&place).await;
    let exported = place.export(with_key(&key)).await;
    let hash = opened(&key, &exported)[0].2.clone();
    let mut brought = exported.resources[0].clone();
    secrets_in(&mut brought)[0].1.value = Some(hash.clone());

    let other = Place::on_sqlite().await;
    let colleague = other.admin.colleague("colleague", &Rights::admin()).await;
    let status =
        import(&colleague, options(ImportMode::Keep), items(&[brought.clone()]), 1).await.unwrap_err();
    assert_eq!(reason(&status), (Code::PermissionDenied, "SECRETS_GRANT_DENIED".into()));
    import(&other.admin, options(ImportMode::Keep), items(&[brought.clone()]), 1).await.unwrap();
    let gateway =
        other.admin.colleague("gateway", &Rights::worker(vec![by_prefix("virtualKeys/")], true)).await;
    let get = GetResourceRequest { name: brought.name.clone(), include_secrets: true, ..Default::default() };
    let mut held = gateway.config().get_resource(get).await.unwrap().into_inner().resource.unwrap();
    assert_eq!(secrets_in(&mut held)[0].1.value(), hash);
    // Another key does not take its place.
    let mut foreign = brought.clone();
    if let Some(Spec::VirtualKey(spec)) = &mut foreign.spec {
        spec.key_id = "0123456789abcdef".into();
        spec.key_hash = Some(Secret { value: Some("ab".repeat(32)), state: 0 });
    }
    let status = import(&other.admin, options(ImportMode::Replace), items(&[foreign]), 1).await.unwrap_err();
    assert_eq!(fields(&status), ["items[0].resource.virtual_key.key_id"]);
}
