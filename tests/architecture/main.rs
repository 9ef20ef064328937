//! Holds the house plan against the code: which room may know which, and the habits that every source file keeps.
//!
//! The sources are read as text, cut into tokens, so that a path counts wherever it stands and in whatever form it is
//! written: `use crate::store::Store`, `crate::{store, view}`, `super::super::store`, `tonic::Status`. Strings, comments
//! and `#[cfg(test)]` modules don't count.

#![allow(clippy::expect_used, clippy::panic)]

mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tokens::{Token, tokens};

/// One room of the house.
struct Room {
    /// The module below the crate's root.
    name: &'static str,
    /// Rooms it may know. `room` is all of it, `room::` only what stands at the room's own top: a path that goes on
    /// into one of its modules is refused.
    knows: &'static str,
    /// Families of crates it must never name.
    never: &'static str,
}

/// The plan. The higher rooms come first, and no arrow points up: a room knows only rooms that stand below it.
#[rustfmt::skip]
const ROOMS: &[Room] = &[
    Room { name: "cli",       knows: "choice app lifecycle client auth import telemetry settings domain proto digest", never: "sql" },
    Room { name: "app",       knows: "lifecycle http grpc auth service replica fleet:: import outbound:: kinds watch view store crypto telemetry settings domain proto digest", never: "sql" },
    Room { name: "http",      knows: "lifecycle grpc:: auth service replica kinds watch view store:: telemetry settings domain proto digest", never: "sql" },
    Room { name: "grpc",      knows: "lifecycle auth service replica fleet:: kinds watch view telemetry settings domain proto digest duration", never: "sql" },
    Room { name: "service",   knows: "choice auth:: replica:: fleet:: import:: kinds watch view store:: crypto:: outbound:: settings domain setting_key setting_text wire:: proto digest duration", never: "grpc sql web" },
    Room { name: "outbound",  knows: "crypto:: settings telemetry:: wire:: proto", never: "grpc sql" },
    // Kinds, to say before anything is sent what the server would refuse; crypto, to open what other systems sealed.
    Room { name: "import",    knows: "kinds crypto:: setting_key domain proto", never: "grpc sql web async" },
    Room { name: "auth",      knows: "view crypto settings domain proto", never: "sql" },
    Room { name: "replica",   knows: "view store:: domain", never: "grpc sql web" },
    Room { name: "fleet",     knows: "kinds store:: crypto:: domain", never: "grpc sql web" },
    Room { name: "watch",     knows: "kinds view store:: settings domain proto digest", never: "grpc sql web" },
    Room { name: "view",      knows: "kinds store:: crypto:: domain proto digest", never: "grpc sql web" },
    Room { name: "store",     knows: "telemetry:: settings domain proto digest", never: "grpc web" },
    Room { name: "kinds",     knows: "provider_types choice model_id setting_key domain wire proto duration", never: "grpc sql web async" },
    Room { name: "executor",  knows: "client:: choice wire:: proto duration", never: "grpc sql" },
    Room { name: "client",    knows: "provider_types choice model_id setting_key setting_text trace_context wire:: proto digest duration", never: "sql" },
    Room { name: "lifecycle", knows: "telemetry settings domain", never: "grpc sql" },
    Room { name: "telemetry", knows: "settings domain", never: "sql" },
    Room { name: "settings",  knows: "crypto domain setting_key", never: "grpc sql web" },
    Room { name: "crypto",    knows: "domain", never: "grpc sql web" },
    Room { name: "domain",    knows: "trace_context proto digest", never: "grpc sql web async" },
    Room { name: "wire",      knows: "proto", never: "grpc sql web async" },
    Room { name: "provider_types", knows: "choice proto", never: "grpc sql web async" },
    Room { name: "choice",    knows: "proto", never: "grpc sql web async" },
    Room { name: "model_id",  knows: "", never: "grpc sql web async" },
    Room { name: "setting_key", knows: "", never: "grpc sql web async" },
    Room { name: "setting_text", knows: "", never: "grpc sql web async" },
    Room { name: "duration",  knows: "", never: "grpc sql web async" },
    Room { name: "trace_context", knows: "", never: "grpc sql web async" },
    Room { name: "digest",    knows: "", never: "grpc sql web async" },
    Room { name: "proto",     knows: "", never: "sql web async" },
];

/// What the families in [`Room::never`] stand for.
#[rustfmt::skip]
const FAMILIES: &[(&str, &[&str])] = &[
    ("grpc",  &["tonic", "tonic_health", "tonic_reflection", "tonic_types", "tonic_prost"]),
    ("web",   &["axum", "hyper", "hyper_util", "http", "http_body", "http_body_util", "tower", "tower_http"]),
    ("sql",   &["sqlx", "libsqlite3_sys"]),
    ("async", &["tokio", "tokio_stream", "tokio_util", "futures_util"]),
];

/// Longer files are to be divided.
const LONGEST_FILE: usize = 500;
/// `main.rs` parses, runs and returns the exit code.
const LONGEST_MAIN: usize = 40;

#[test]
fn the_arrows_between_rooms_run_one_way() {
    let mut faults = Vec::new();
    for file in products() {
        faults.extend(forbidden_arrows(&file.path, &file.text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_plan_itself_has_no_circle() {
    for (position, room) in ROOMS.iter().enumerate() {
        for known in room.knows.split_whitespace() {
            let known = known.trim_end_matches("::");
            let below = ROOMS.iter().position(|other| other.name == known);
            assert!(
                below.is_some_and(|below| below > position),
                "{} may know {known}, which doesn't stand below it",
                room.name
            );
        }
        for family in room.never.split_whitespace() {
            assert!(FAMILIES.iter().any(|(name, _)| *name == family), "no family {family}");
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    let faults: Vec<_> = sources()
        .into_iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| format!("{} doesn't begin with `//!`", file.path.display()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn source_files_stay_short() {
    let faults: Vec<_> = products()
        .into_iter()
        .filter_map(|file| {
            let main = file.path == Path::new("main.rs");
            let longest = if main { LONGEST_MAIN } else { LONGEST_FILE };
            let lines = file.text.lines().count();
            (lines > longest)
                .then(|| format!("{} has {lines} lines, more than {longest}", file.path.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_unwraps_or_is_left_to_do() {
    let faults: Vec<_> = products()
        .into_iter()
        .flat_map(|file| {
            shortcuts(&file.text)
                .into_iter()
                .map(move |(line, word)| format!("{}:{line}: {word}", file.path.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What `forbidden_arrows` says of a source at a path, without the place.
fn arrows(path: &str, text: &str) -> Vec<String> {
    forbidden_arrows(Path::new(path), text)
        .into_iter()
        .map(|fault| {
            let (_, words) = fault.split_once(": ").expect("a place and words");
            words.to_owned()
        })
        .collect()
}

#[test]
fn a_forbidden_arrow_is_found_in_every_form() {
    for (path, text) in [
        ("domain/name.rs", "use crate::store::Store;"),
        ("domain/name.rs", "use crate::{\n    digest::Digest,\n    store::{self, Store},\n};"),
        ("domain/name.rs", "fn f() { let _ = crate::store::open(); }"),
        ("domain/name.rs", "use super::super::store::Store;"),
        ("domain/mod.rs", "use super::store;"),
        ("domain.rs", "use super::store;"),
        ("domain/name.rs", "mod inner { use super::super::super::store::Store; }"),
        ("domain/name.rs", "#[cfg(test)]\nmod tests { use crate::view::View; }\nuse crate::store::Store;"),
        ("domain/name.rs", "#[cfg(test)]\nfn f() -> [u8; 1] { crate::view::f() }\nuse crate::store::Store;"),
        ("domain/name.rs", "pub(in crate::store) struct X;"),
    ] {
        assert_eq!(arrows(path, text), ["domain must not know store"], "{path}: {text}");
    }
    assert_eq!(arrows("domain/error.rs", "fn f(_: ::tonic::Status) {}"), ["domain must not name tonic"]);
    assert_eq!(arrows("service/write.rs", "use sqlx as database;"), ["service must not name sqlx"]);
    assert_eq!(
        arrows("service/write.rs", "use crate::store::sqlite::Sqlite;"),
        ["service may know store, but not store::sqlite"]
    );
    assert_eq!(arrows("attic/mod.rs", "use crate::store::Store;"), ["attic is no room of the plan"]);
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (path, text) in [
        ("service/write.rs", "use crate::{domain::Name, store::Store};"),
        ("service/write.rs", "use super::read; use self::inner::X; mod inner {}"),
        ("store/sqlite.rs", "use super::Store; fn f<'a>(_: &'a sqlx::Row) {}"),
        ("app.rs", "use crate::store::sqlite::Sqlite;"),
        ("domain/name.rs", "// crate::store\n/* tonic::Status /* sqlx */ crate::view */"),
        ("domain/name.rs", "const X: &str = \"crate::store\"; const Y: &str = r#\"tonic::\"Status\"#;"),
        ("domain/name.rs", "const X: char = '\"'; const Y: &str = \"\\\"crate::store\";"),
        ("domain/name.rs", "struct Http { tokio: u8 } fn f(x: Http) -> u8 { x.tokio }"),
        ("domain/name.rs", "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n    fn f() {}\n}"),
        ("lib.rs", "pub mod store; pub use crate::store::Store;"),
    ] {
        assert_eq!(arrows(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn shortcuts_are_found_outside_tests() {
    let text = "fn f() {\n    g().unwrap();\n    todo!()\n}\n// h.unwrap()\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }";
    assert_eq!(shortcuts(text), [(2, ".unwrap()"), (3, "todo!")]);
    assert_eq!(shortcuts("fn f() { g().unwrap_or(1) }"), []);
}

/// A source file, by its path below `src/`.
struct Source {
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .expect("readable folder")
            .map(|entry| entry.expect("readable entry").path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    text: fs::read_to_string(&path).expect("readable source"),
                    path: path.strip_prefix(root).expect("below src").to_owned(),
                });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(!found.is_empty(), "no sources below {}", root.display());
    found
}

/// The sources that are compiled into the product: all but the files that hold a `#[cfg(test)]` module, which by custom
/// are named `tests.rs` or `..._tests.rs`.
fn products() -> Vec<Source> {
    let mut found = sources();
    found.retain(|file| {
        !file.path.with_extension("").iter().any(|part| {
            let part = part.to_string_lossy();
            part == "tests" || part.ends_with("_tests")
        })
    });
    found
}

/// The module that a file holds: `store/sqlite.rs` is `[store, sqlite]`, `store/mod.rs` is `[store]`.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<_> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Each arrow of a file that the plan doesn't have, as `path:line: what is wrong`, once for each pair.
fn forbidden_arrows(path: &Path, text: &str) -> BTreeSet<String> {
    let module = module_of(path);
    // The root and the binary know everything: they only name the rooms.
    let Some(name) = module.first() else {
        return BTreeSet::new();
    };
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        let place = path.display();
        return BTreeSet::from([format!("{place}:1: {name} is no room of the plan")]);
    };
    let mut faults = BTreeMap::new();
    for (line, reference) in references(&tokens(text), &module) {
        if let Some(fault) = judge(room, &reference) {
            faults.entry(fault).or_insert(line);
        }
    }
    faults.into_iter().map(|(fault, line)| format!("{}:{line}: {fault}", path.display())).collect()
}

/// What is wrong with a reference from a room, if anything.
fn judge(room: &Room, reference: &Reference) -> Option<String> {
    let name = room.name;
    match reference {
        Reference::Crate(other) => {
            let family = FAMILIES.iter().find(|(_, crates)| crates.contains(&other.as_str()))?;
            room.never
                .split_whitespace()
                .any(|never| never == family.0)
                .then(|| format!("{name} must not name {other}"))
        }
        Reference::Module(path) => {
            let other = path.first()?;
            // A path to something at the crate's root, such as a macro, leads into no room.
            if other == name || !ROOMS.iter().any(|room| room.name == other) {
                return None;
            }
            let knows: Vec<_> = room.knows.split_whitespace().collect();
            if knows.contains(&other.as_str()) {
                return None;
            }
            if !knows.contains(&format!("{other}::").as_str()) {
                return Some(format!("{name} must not know {other}"));
            }
            // By convention modules are lower case and types are not; a function has no further segment.
            let deeper = path
                .get(1)
                .filter(|segment| path.len() > 2 && segment.starts_with(|c: char| c.is_ascii_lowercase()))?;
            Some(format!("{name} may know {other}, but not {other}::{deeper}"))
        }
    }
}

/// A path in the code, resolved.
enum Reference {
    /// Below this crate's root.
    Module(Vec<String>),
    /// Another crate.
    Crate(String),
}

/// All references of a file that holds `module`, with their lines.
fn references(tokens: &[Token], module: &[String]) -> Vec<(usize, Reference)> {
    let mut found = Vec::new();
    // The inline modules around the current token: their names, and the depth at which each was opened.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let previous = at.checked_sub(1).map(|before| tokens[before].text.as_str());
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inner.pop_if(|(_, opened)| *opened == depth);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                inner.push((tokens[at + 1].text.clone(), depth));
            }
            // A field, or the middle of a path that was taken at its beginning.
            _ if previous == Some(".") => {}
            _ if token.is_name() => {
                let mut paths = Vec::new();
                let end = path_tree(tokens, at, &[], &mut paths);
                let here: Vec<_> = module.iter().chain(inner.iter().map(|(name, _)| name)).cloned().collect();
                for path in paths {
                    found.extend(resolve(&path, &here, previous).map(|found| (token.line, found)));
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads `a::b::{c, d::e}` from `at`, adds `a::b::c` and `a::b::d::e`, and returns the position behind it.
fn path_tree(tokens: &[Token], mut at: usize, stem: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut path = stem.to_vec();
    loop {
        match text(at) {
            "{" if path.len() > stem.len() || !stem.is_empty() => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = if text(at) == "," { at + 1 } else { path_tree(tokens, at, &path, paths) };
                }
                return at + 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
        // `Vec::<u8>` and `a::*` end the path as far as rooms go.
        if !tokens.get(at).is_some_and(|token| token.is_name() || token.text == "{") {
            break;
        }
    }
    paths.push(path);
    // In a group, `as` gives a name that is no path.
    if !stem.is_empty() {
        while !matches!(text(at), "," | "}" | "") {
            at += 1;
        }
    }
    at
}

/// Where a path leads from the module `here`.
fn resolve(path: &[String], here: &[String], previous: Option<&str>) -> Option<Reference> {
    let climbs = path.iter().take_while(|segment| *segment == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(Reference::Module(path[1..].to_vec())),
        "super" => {
            let mut full = here[..here.len().saturating_sub(climbs)].to_vec();
            full.extend_from_slice(&path[climbs..]);
            Some(Reference::Module(full))
        }
        // A lone name is a crate only where it is imported; `tokio` may be a variable, `tokio::` is the crate.
        name if path.len() > 1 || matches!(previous, Some("use" | "::")) => {
            Some(Reference::Crate(name.to_owned()))
        }
        _ => None,
    }
}

/// `.unwrap()` and `todo!` in what is compiled into the product, with their lines.
fn shortcuts(text: &str) -> Vec<(usize, &'static str)> {
    const WORDS: [(&[&str], &str); 3] = [
        (&[".", "unwrap", "(", ")"], ".unwrap()"),
        (&["todo", "!"], "todo!"),
        (&["unimplemented", "!"], "unimplemented!"),
    ];
    let tokens = tokens(text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        for (words, name) in WORDS {
            let here = tokens[at..].iter().map(|token| token.text.as_str());
            if here.take(words.len()).eq(words.iter().copied()) {
                found.push((token.line, name));
            }
        }
    }
    found
}
