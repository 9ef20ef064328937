//! Every format, from the fixtures in `tests/import/`.

mod addresses;
mod catalogues;
mod invalid;
mod litellm;
mod tables;
mod templates;
mod whole;

use std::ffi::OsString;

use fernet::Fernet;

use super::*;
use crate::{domain::record::Spec, proto::v1::Resource};

/// The key that fixtures are sealed with.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A fixture of `tests/import/`, in which `@SEALED:...@` and `@TWICE:...@` are replaced by what Fernet makes of it.
fn fixture(name: &str) -> File {
    let path = format!("{}/tests/import/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    File { name: name.to_owned(), text: sealed(&text).into() }
}

fn sealed(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let fernet = Fernet::new(KEY).unwrap();
    let mut parts = text.split('@');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match (part.strip_prefix("SEALED:"), part.strip_prefix("TWICE:")) {
            (Some(secret), _) => result.push_str(&fernet.encrypt(secret.as_bytes())),
            (None, Some(secret)) => result.push_str(&STANDARD.encode(fernet.encrypt(secret.as_bytes()))),
            (None, None) => result.push_str(part),
        }
    }
    result
}

fn run(format: &str, files: &[File], environment: Environment<'_>) -> Result<Imported, Problems> {
    let keys = ForeignKeys::from_text(&KEY.into()).ok().unwrap();
    let format = format_named(format).unwrap();
    (format.convert)(&Input { files, environment, keys: &keys, only: &[], ids: &[] })
        .and_then(Imported::whole)
}

/// Imports fixtures, with nothing in the environment.
#[track_caller]
fn import(format: &str, names: &[&str]) -> Imported {
    let files: Vec<File> = names.iter().map(|name| fixture(name)).collect();
    run(format, &files, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is wrong with a text.
#[track_caller]
fn problems(format: &str, text: &str) -> String {
    let files = [File { name: "file".to_owned(), text: text.into() }];
    match run(format, &files, &|_| None) {
        Err(problems) => problems.to_string(),
        Ok(_) => panic!("{format} takes {text}"),
    }
}

fn find<'a>(imported: &'a Imported, name: &str) -> &'a Spec {
    let found: Option<&Resource> = imported.resources.iter().find(|resource| resource.name == name);
    found.and_then(|resource| resource.spec.as_ref()).unwrap_or_else(|| {
        let all: Vec<&str> = imported.resources.iter().map(|resource| resource.name.as_str()).collect();
        panic!("no {name} in {all:?}")
    })
}

macro_rules! spec_of {
    ($imported:expr, $arm:ident, $name:expr) => {
        match find(&$imported, $name) {
            Spec::$arm(spec) => spec,
            _ => panic!("{} is of another kind", $name),
        }
    };
}
use spec_of;

/// The value of a key; empty where it is missing.
fn key_of(imported: &Imported, name: &str) -> String {
    let key = spec_of!(imported, ApiKey, name);
    key.secret.as_ref().and_then(|secret| secret.value.clone()).unwrap_or_default()
}

/// What the report says of an item.
#[track_caller]
fn told(imported: &Imported, from: &str) -> String {
    let items: Vec<String> =
        imported.items.iter().filter(|item| item.from == from).map(ToString::to_string).collect();
    let all: Vec<&str> = imported.items.iter().map(|item| item.from.as_str()).collect();
    assert!(!items.is_empty(), "nothing is told of {from}, only of {all:#?}");
    items.join("\n")
}

/// What was not carried over, by name.
fn left_out(imported: &Imported) -> Vec<&str> {
    let items = imported.items.iter().filter(|item| item.outcome == Outcome::LeftOut);
    items.map(|item| item.from.as_str()).collect()
}
