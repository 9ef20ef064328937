//! Keys that an import brings for a provider that it leaves as it is: they go nowhere that the file did not mean.

use signalbox::proto::v1::{
    ImportMode, ImportOutcome, ProviderSpec, ProviderType, Resource, resource::Spec, secret::State,
};

use crate::{
    foreign::{file, printed, run},
    on_both_databases,
    place::{Place, import, items, options},
    support::{
        resources::{api_key, named},
        writer::Op,
    },
};

on_both_databases! {
    regression_a_key_does_not_go_where_a_provider_was_moved;
    regression_a_key_goes_to_a_provider_that_was_edited_and_not_moved;
    regression_no_mode_that_keeps_takes_a_key_for_elsewhere;
    regression_a_refused_import_shows_what_would_have_been;
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
    let text = r#"{"providers": {"groq": {"api_key": "gsk_canary", "enabled": false}}}"#;
    let path = file(&place, "admin_settings.json", text).display().to_string();
    let before = place.revision().await;
    // A disabled provider can't become the active one.
    let output = run(&place, &["--from", "admin-settings", &path]).await;
    let told = printed(&output);
    assert!(!output.status.success() && told.contains("PROVIDER_DISABLED"), "{told}");
    assert!(told.contains("WOULD BE") && told.contains("providers/groq/apiKeys/admin_settings"), "{told}");
    assert!(told.contains("3 items, of which would be: 3 imported"), "{told}");
    assert!(told.contains("nothing was written") && !told.contains("canary"), "{told}");
    assert_eq!(place.revision().await, before);
}
