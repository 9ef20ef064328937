//! Holds `scripts/faults` against the tests: whatever makes one of them larger is set there, and what it runs exists.

use std::{collections::BTreeSet, fs, path::Path};

/// It repeats a run, and is no size.
const SEED: &str = "SIGNALBOX_TEST_SEED";

/// Every text that stands between two others.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> BTreeSet<&'t str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.extension() {
            _ if entry.is_dir() => all.push_str(&sources(&entry)),
            Some(extension) if extension == "rs" => {
                all.push_str(&fs::read_to_string(&entry).expect("a source"));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn every_size_of_the_tests_of_faults_is_set_by_their_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("scripts/faults")).expect("the script");
    let kill = fs::read_to_string(root.join("tests/kill.rs")).expect("a test");
    let tests = [sources(&root.join("tests/replicas")), sources(&root.join("tests/support")), kill].concat();
    let read = between(&tests, "from_env(\"", "\"");
    assert!(read.len() > 5, "{read:?}");
    for name in read.into_iter().filter(|name| *name != SEED) {
        assert!(script.contains(&format!("{name}=")), "scripts/faults does not set {name}");
    }
}

#[test]
fn what_the_script_runs_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("scripts/faults")).expect("the script");
    let modules = fs::read_to_string(root.join("tests/replicas/main.rs")).expect("a test");
    let run = between(&script, "| replicas ", "::");
    assert!(run.len() > 5, "{run:?}");
    for module in run {
        assert!(modules.contains(&format!("mod {module};")), "there is no tests/replicas/{module}.rs");
    }
}
