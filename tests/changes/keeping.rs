//! Keys that an import brings for a provider that it leaves as it is: they go nowhere that the file did not mean.

use signalbox::proto::v1::{
    ApiKeySpec, DatabaseSpec, DatabaseType, ImportMode, ImportOutcome, NotificationChannelSpec,
    NotificationChannelType, ProviderSpec, ProviderType, Resource, Secret, SettingSpec, VirtualKeySpec,
    resource::Spec, secret::State, setting_spec,
};
use tonic_types::StatusExt;

use crate::{
    foreign::{file, printed, run},
    on_both_databases,
    place::{Place, import, items, options},
    support::{
        resources::{api_key, given, labelled, named},
        writer::Op,
    },
};

on_both_databases! {
    regression_a_key_does_not_go_where_a_provider_was_moved;
    regression_a_key_goes_to_a_provider_that_was_edited_and_not_moved;
    regression_no_mode_that_keeps_takes_a_key_for_elsewhere;
    regression_a_refused_import_shows_what_would_have_been;
    regression_no_mode_clears_a_secret_that_an_item_leaves_out;
    regression_a_secret_that_is_left_out_does_not_move;
}

fn openai(base_url: &str) -> Resource {
    let spec = ProviderSpec {
        r#type: ProviderType::Openai.into(),
        base_url: base_url.into(),
        description: "ours".into(),
        ..Default::default()
    };
    named("providers/chatgpt", Spec::Provider(spec))
}

async fn env(place: &Place) -> String {
    let path = file(place, "keys.env", "OPENAI_API_KEY=sk-canary-1\n").display().to_string();
    let output = run(place, &["--from", "env", &path]).await;
    let told = printed(&output);
    assert!(output.status.success() && !told.contains("canary"), "{told}");
    told
}

async fn regression_a_key_does_not_go_where_a_provider_was_moved(place: Place) {
    place.write(Op::Create(openai("https://proxy.example/v1"))).await;
    let before = place.revision().await;
    let told = env(&place).await;
    assert!(place.get("providers/chatgpt/apiKeys/env").await.is_err(), "{told}");
    assert_eq!(place.revision().await, before, "nothing else was in the file");
    assert!(told.contains("NOT imported: its provider stays as it is"), "{told}");
    assert!(told.contains("providers/chatgpt/apiKeys/env was not taken"), "{told}");
    // Where the provider points where the file says, it is taken.
    place.write(Op::update(openai("https://api.openai.com/v1"), &["provider.base_url"])).await;
    env(&place).await;
    assert_eq!(place.states("providers/chatgpt/apiKeys/env").await, [State::Present]);
}

async fn regression_a_key_goes_to_a_provider_that_was_edited_and_not_moved(place: Place) {
    place.write(Op::Create(openai("https://api.openai.com/v1"))).await;
    env(&place).await;
    assert_eq!(place.states("providers/chatgpt/apiKeys/env").await, [State::Present]);
}

async fn regression_no_mode_that_keeps_takes_a_key_for_elsewhere(place: Place) {
    place.write(Op::Create(openai("https://proxy.example/v1"))).await;
    // The key comes first: the order within an import does not matter.
    let brought = [api_key("providers/chatgpt/apiKeys/k", "sk-canary-2"), openai("")];
    for mode in [ImportMode::Keep, ImportMode::KeepEdited] {
        let answer = import(&place.admin, options(mode), items(&brought), 1).await.unwrap();
        let outcomes: Vec<_> = answer.resources.iter().map(|one| one.outcome()).collect();
        assert_eq!(outcomes, [ImportOutcome::ParentKept, ImportOutcome::Skipped], "{mode:?}");
        assert_eq!((answer.skipped, answer.created), (2, 0));
        assert!(answer.warnings.iter().any(|told| told.contains("apiKeys/k was not taken")), "{answer:?}");
        assert!(place.get("providers/chatgpt/apiKeys/k").await.is_err());
    }
    // Nor does one that is there get another value, even if it alone is to be replaced.
    place.write(Op::Create(api_key("providers/chatgpt/apiKeys/k", "sk-canary-3"))).await;
    let before = place.revision().await;
    let mut both = items(&brought);
    both[0].mode = ImportMode::Replace.into();
    let answer = import(&place.admin, options(ImportMode::Keep), both, 1).await.unwrap();
    assert_eq!(answer.resources[0].outcome(), ImportOutcome::ParentKept);
    assert_eq!(place.revision().await, before);
    // Replaced together both are as the import says.
    let answer = import(&place.admin, options(ImportMode::Replace), items(&brought), 2).await.unwrap();
    assert_eq!(answer.updated, 2, "{answer:?}");
}

async fn regression_a_refused_import_shows_what_would_have_been(place: Place) {
    let text = r#"{"providers": {"groq": {"api_key": "gsk_canary"}}}"#;
    let path = file(&place, "admin_settings.json", text).display().to_string();
    let output = run(&place, &["--from", "admin-settings", &path]).await;
    assert!(output.status.success(), "{}", printed(&output));
    let before = place.revision().await;
    // It is the active one now, which can't be disabled.
    let text = r#"{"providers": {"groq": {"api_key": "gsk_canary", "enabled": false}}}"#;
    let path = file(&place, "admin_settings.json", text).display().to_string();
    let output = run(&place, &["--from", "admin-settings", &path]).await;
    let told = printed(&output);
    assert!(!output.status.success() && told.contains("PROVIDER_ACTIVE"), "{told}");
    assert!(told.contains("WOULD BE") && told.contains("providers/groq/apiKeys/admin_settings"), "{told}");
    assert!(told.contains("3 items, of which would be: 2 imported"), "{told}");
    assert!(told.contains("nothing was written") && !told.contains("canary"), "{told}");
    assert_eq!(place.revision().await, before);
}

/// One of each kind with secrets of its own, with all of them or with none.
fn sealed(with: bool) -> Vec<Resource> {
    let secret = |value: &str| with.then(|| given(value));
    let database = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host: "db.example".into(),
        password: secret("pw-canary"),
        ..Default::default()
    };
    let setting = SettingSpec {
        value: secret("v-canary").map(setting_spec::Value::SecretValue),
        description: "ours".into(),
    };
    let channel = NotificationChannelSpec {
        r#type: NotificationChannelType::Webhook.into(),
        url: secret("https://hooks.example/canary"),
        signing_secret: secret("signing-secret-canary"),
        ..Default::default()
    };
    let key = ApiKeySpec { secret: secret("sk-canary-9"), description: "ours".into(), ..Default::default() };
    vec![
        openai("https://api.openai.com/v1"),
        named("providers/chatgpt/apiKeys/k", Spec::ApiKey(key)),
        named("databases/d", Spec::Database(database)),
        named("settings/s", Spec::Setting(setting)),
        named("notificationChannels/n", Spec::NotificationChannel(channel)),
        named("virtualKeys/v", Spec::VirtualKey(VirtualKeySpec::default())),
    ]
}

async fn regression_no_mode_clears_a_secret_that_an_item_leaves_out(place: Place) {
    place.write_all(sealed(true).into_iter().map(Op::Create).collect()).await;
    let bare = sealed(false);
    let names: Vec<String> = bare.iter().map(|resource| resource.name.clone()).collect();
    let mut before = Vec::new();
    for name in &names {
        before.push(place.states(name).await);
    }
    assert_eq!(before.iter().flatten().filter(|state| **state == State::Present).count(), 6);
    let labels = |value: &str| bare.iter().cloned().map(|one| labelled(one, &[("team", value)])).collect();
    for mode in [ImportMode::Replace, ImportMode::Fill, ImportMode::Update, ImportMode::KeepEdited] {
        let brought: Vec<Resource> = labels(&format!("{mode:?}"));
        import(&place.admin, options(mode), items(&brought), 9).await.unwrap();
        // A mask that names the arm, or the secret itself, clears nothing either.
        let mut masked = items(&brought[1..3]);
        for (item, paths) in masked.iter_mut().zip([["api_key"], ["database.password"]]) {
            item.update_mask = Some(prost_types::FieldMask { paths: paths.map(str::to_owned).to_vec() });
        }
        import(&place.admin, options(mode), masked, 9).await.unwrap();
        for (name, before) in names.iter().zip(&before) {
            assert_eq!(place.states(name).await, *before, "{name} {mode:?}");
        }
    }
    // Nor does a caller who replaces a resource whole, as `set --replace` does.
    place.write_all(bare.into_iter().map(|one| Op::update(one, &["*"])).collect()).await;
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(place.states(name).await, *before, "{name}");
    }
    // Who says so clears it, by the state or by a path that names it.
    let absent = Some(Secret { value: None, state: State::Absent.into() });
    let cleared = ApiKeySpec { secret: absent, ..Default::default() };
    let cleared = [named("providers/chatgpt/apiKeys/k", Spec::ApiKey(cleared))];
    import(&place.admin, options(ImportMode::Replace), items(&cleared), 9).await.unwrap();
    assert_eq!(place.states(&cleared[0].name).await, [State::Absent]);
    place.write(Op::update(sealed(false).remove(2), &["database.password"])).await;
    assert!(!place.states("databases/d").await.contains(&State::Present));
}

async fn regression_a_secret_that_is_left_out_does_not_move(place: Place) {
    place.write_all(sealed(true).into_iter().map(Op::Create).collect()).await;
    let revision = place.revision().await;
    let mut database = sealed(false).remove(2);
    if let Some(Spec::Database(spec)) = &mut database.spec {
        spec.host = "elsewhere.example".into();
    }
    for moved in [openai("https://proxy.example/v1"), database] {
        let name = moved.name.clone();
        let refused =
            import(&place.admin, options(ImportMode::Replace), items(&[moved]), 1).await.unwrap_err();
        let reason = refused.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(reason, "SECRET_REQUIRED", "{name}: {refused:?}");
    }
    assert_eq!(place.revision().await, revision);
}
