//! What holds for all formats.

use proptest::prelude::*;

use super::*;

/// Every format with fixtures of its own.
const ALL: [(&str, &[&str]); 10] = [
    ("litellm", &["litellm.yaml"]),
    ("admin-settings", &["admin_settings.json"]),
    ("litellm-prices", &["model_prices.json"]),
    ("models-dev", &["models_dev.json"]),
    ("settings", &["settings.json"]),
    ("llm-provider-configs", &["llm_provider_configs.csv"]),
    ("provider-configs", &["provider_configs.json", "api_keys.csv"]),
    ("api-keys", &["api_keys.csv"]),
    ("runtime-config", &["runtime_config.csv"]),
    ("prompt-templates", &["prompt_templates.json"]),
];

fn environment(name: &str) -> Option<OsString> {
    (name == "AZURE_API_BASE").then(|| "https://canary.openai.azure.com".into())
}

#[test]
fn every_format_has_a_fixture() {
    let others = [env::FORMAT, catalogue::FORMAT];
    for format in FORMATS.iter().filter(|format| !others.contains(&format.name)) {
        assert!(ALL.iter().any(|(name, _)| *name == format.name), "{} has none", format.name);
    }
}

#[test]
fn reports_hold_no_part_of_a_secret() {
    for (format, names) in ALL {
        let files: Vec<File> = names.iter().map(|name| fixture(name)).collect();
        let imported =
            run(format, &files, &environment).unwrap_or_else(|problems| panic!("{format}: {problems}"));
        assert!(!imported.resources.is_empty(), "{format}");
        for item in &imported.items {
            assert!(!item.to_string().contains("canary"), "{format}: {item}");
        }
        // Without the keys nothing sealed is taken for a key, and nothing sealed is shown.
        let keys = ForeignKeys::none();
        let format_row = format_named(format).unwrap();
        match (format_row.convert)(&Input {
            files: &files,
            environment: &environment,
            keys: &keys,
            only: &[],
            ids: &[],
        }) {
            Err(problems) => assert!(!problems.to_string().contains("gAAAA"), "{problems}"),
            Ok(imported) => {
                let values = imported.resources.iter().filter_map(|resource| match &resource.spec {
                    Some(Spec::ApiKey(key)) => key.secret.as_ref()?.value.as_deref(),
                    _ => None,
                });
                assert!(values.clone().all(|value| !value.starts_with("gAAAA")), "{format}");
            }
        }
    }
}

#[test]
fn what_is_made_carries_its_labels() {
    for (format, names) in ALL {
        let files: Vec<File> = names.iter().map(|name| fixture(name)).collect();
        let imported =
            run(format, &files, &environment).unwrap_or_else(|problems| panic!("{format}: {problems}"));
        for resource in &imported.resources {
            assert_eq!(resource.labels[IMPORTED_AS].len(), 16, "{}", resource.name);
            assert!(format_named(&resource.labels[IMPORTED_FROM]).is_some());
        }
        let mut names: Vec<&str> = imported.resources.iter().map(|resource| resource.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), imported.resources.len(), "no resource comes twice");
    }
}

#[test]
fn what_can_be_no_file_of_any_format_is_refused_with_its_name() {
    let others = [env::FORMAT, catalogue::FORMAT];
    for format in FORMATS.iter().filter(|format| !others.contains(&format.name)) {
        for text in ["", "[", "{\"a\": 1}}", "\0", "just words", "[1, 2]"] {
            let told = problems(format.name, text);
            assert!(told.starts_with("file"), "{}: {told}", format.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn converters_never_panic(index in 0..FORMATS.len(), text in "\\PC{0,80}|[\\[\\]{}:,\"a-c0-9\n -]{0,60}") {
        let files = [File { name: "file".to_owned(), text: text.as_str().into() }];
        let _ = run(FORMATS[index].name, &files, &|_| None);
    }

    /// Fixtures, in which a piece is gone or replaced: most of the structure stays.
    #[test]
    fn damaged_files_never_panic_and_show_no_secret(
        index in 0..ALL.len(), at in 0.0..1.0f64, length in 0..40usize,
        piece in prop_oneof![Just(""), Just("null"), Just("\"x\""), Just("-1"), Just("[]"), Just("{}"), Just("\u{0}é")],
    ) {
        let (format, names) = ALL[index];
        let mut files: Vec<File> = names.iter().map(|name| fixture(name)).collect();
        let text = files[0].text.expose().to_owned();
        let letters: Vec<char> = text.chars().collect();
        let from = (at * letters.len() as f64) as usize;
        let to = (from + length).min(letters.len());
        let damaged: String = letters[..from].iter().copied().chain(piece.chars()).chain(letters[to..].iter().copied()).collect();
        files[0].text = damaged.into();
        match run(format, &files, &environment) {
            Ok(imported) => prop_assert!(imported.items.iter().all(|item| !item.to_string().contains("canary"))),
            Err(problems) => prop_assert!(!problems.to_string().contains("canary")),
        }
    }
}
