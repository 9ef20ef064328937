//! `deploy/kubernetes`: what the overlays make is what Kubernetes takes. They are rendered by [`kustomize`](super::kustomize), and
//! by `kubectl kustomize` too where there is one, which has to make the same.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use super::{
    binary,
    kubernetes::{OVERLAYS, made},
    kustomize::{find, id},
    path,
};

#[test]
fn the_schemas_of_kubernetes_have_nothing_against_them() {
    let validate = path(".tools/kubernetes/bin/kubernetes-validate");
    assert!(validate.exists(), "{} is missing: run scripts/tools", validate.display());
    let folder = tempfile::tempdir().unwrap();
    for name in [OVERLAYS[0], OVERLAYS[1], "monitoring"] {
        let made = made(name);
        let file = folder.path().join("made.yaml");
        let documents: Vec<String> = made.iter().map(ToString::to_string).collect();
        fs::write(&file, documents.join("\n---\n")).unwrap();
        let checked = Command::new(&validate).arg("--strict").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{name}: {said}");
        // Of what an operator adds to a cluster there is no schema.
        let known = made.iter().filter(|each| each["kind"] != "ServiceMonitor").count();
        assert_eq!(said.matches("passed for resource").count(), known, "{name}: {said}");
    }
}

#[test]
fn kubectl_makes_the_same() {
    if Command::new("kubectl").arg("--help").output().is_err() {
        eprintln!("SKIPPED: there is no kubectl");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for name in [OVERLAYS[0], OVERLAYS[1], "monitoring"] {
        let mut kubectl = binary::command("kubectl", home.path(), &[]);
        kubectl.args(["kustomize"]).arg(path("deploy/kubernetes").join(name));
        let theirs = kubectl.env("HOME", home.path()).env("KUBECONFIG", "/dev/null").output().unwrap();
        assert!(theirs.status.success(), "{name}: {}", String::from_utf8_lossy(&theirs.stderr));
        let theirs: Vec<Value> =
            serde_saphyr::from_multiple(&String::from_utf8(theirs.stdout).unwrap()).unwrap();
        // The ConfigMap's name ends in a hash there, wherever it stands.
        let hashed = theirs.iter().map(id).find(|(kind, _)| *kind == "ConfigMap");
        let hashed = hashed.map_or("", |(_, name)| name.trim_start_matches("signalbox"));
        let plain = |each: &Value| match hashed.is_empty() {
            true => sorted(each),
            false => sorted(&serde_json::from_str(&each.to_string().replace(hashed, "")).unwrap()),
        };
        let theirs: BTreeSet<String> = theirs.iter().map(plain).collect();
        let ours: BTreeSet<String> = made(name).iter().map(sorted).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

/// As text, with lists of maps in an order of their own.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> =
                map.iter().map(|(name, value)| format!("{name}: {}", sorted(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(list) => {
            let mut elements: Vec<_> = list.iter().map(sorted).collect();
            if list.iter().all(Value::is_object) {
                elements.sort();
            }
            format!("[{}]", elements.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn folders_are_made_of_what_lies_in_them() {
    for folder in ["base", "overlays/sqlite", "overlays/postgres", "monitoring"] {
        let folder = path("deploy/kubernetes").join(folder);
        let plan = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                name == "kustomization.yaml" || plan.contains(&name),
                "{}/{name} is not used",
                folder.display()
            );
        }
    }
    assert_eq!(id(find(&made("base"), "Namespace", "signalbox")), ("Namespace", "signalbox"));
}
