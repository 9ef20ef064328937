//! `docs/operating.md` says of every reason that an error may have what to do about it.

use std::{collections::BTreeSet, fs, path::Path};

/// The rooms that refuse something.
const ROOMS: [&str; 10] =
    ["auth", "domain", "fleet", "grpc", "http", "kinds", "service", "store", "view", "watch"];
/// Words in these that look like reasons and are none.
const NO_REASONS: [&str; 5] = ["PROVIDER_TYPE_", "CARGO_", "OUT_DIR", "SYSTEM_PROMPT", "RESOURCE_EXHAUSTED"];

#[test]
fn every_reason_of_an_error_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/operating.md")).expect("the document");
    let (_, table) = text.split_once("\n## When a call is refused\n").expect("a section");
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let explained: BTreeSet<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(", "))
        .map(|word| word.trim().trim_matches('`').to_owned())
        .collect();
    let mut code = String::new();
    ROOMS.iter().for_each(|room| gather(&root.join("src").join(room), &mut code));
    // Line by line: text of several lines has quotes of its own.
    let pieces = code.lines().flat_map(|line| line.split('"').skip(1));
    let literals: BTreeSet<&str> = pieces.filter(|piece| is_word(piece)).collect();
    assert!(literals.contains("TOKEN_EXPIRED"), "{literals:?}");
    // A word alone may be anything; two that are joined are a reason.
    let reasons = literals.iter().filter(|word| word.contains('_'));
    let reasons = reasons.filter(|word| !NO_REASONS.iter().any(|other| word.starts_with(other)));
    let missing: Vec<_> = reasons.filter(|word| !explained.contains(**word)).collect();
    assert!(missing.is_empty(), "docs/operating.md does not explain {missing:?}");
    let gone: Vec<_> = explained.iter().filter(|word| !literals.contains(word.as_str())).collect();
    assert!(gone.is_empty(), "docs/operating.md explains {gone:?}, which no error has");
}

fn is_word(text: &str) -> bool {
    text.len() > 3
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && !text.ends_with('_')
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The code of a room without its tests and comments.
fn gather(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("a room").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with("tests") {
            continue;
        }
        if entry.is_dir() {
            gather(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).expect("a source");
            let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                into.push_str(line);
                into.push('\n');
            }
        }
    }
}
