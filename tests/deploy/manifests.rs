//! `deploy/kubernetes`: what the overlays make is what Kubernetes takes. They are rendered by [`kustomize`](super::kustomize), and
//! by `kubectl kustomize` too, which has to make the same.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use super::{
    binary, documents,
    kubernetes::{OVERLAYS, made},
    kustomize::{find, id},
    path, text,
};

/// What an operator adds to a cluster: there is no schema of that here.
const OPERATORS: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

#[test]
fn the_schemas_of_kubernetes_have_nothing_against_them() {
    let validate = path(".tools/kubernetes/bin/kubernetes-validate");
    assert!(validate.exists(), "{} is missing: run scripts/tools", validate.display());
    let folder = tempfile::tempdir().unwrap();
    for name in [OVERLAYS[0], OVERLAYS[1], "monitoring", "tracing"] {
        let made = made(name);
        let file = folder.path().join("made.yaml");
        let documents: Vec<String> = made.iter().map(ToString::to_string).collect();
        fs::write(&file, documents.join("\n---\n")).unwrap();
        let checked = Command::new(&validate).arg("--strict").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{name}: {said}");
        let known = made.iter().filter(|each| !OPERATORS.contains(&each["kind"].as_str().unwrap())).count();
        assert_eq!(said.matches("passed for resource").count(), known, "{name}: {said}");
    }
}

#[test]
fn kubectl_makes_the_same() {
    let program = path(".tools/helm/kubectl");
    assert!(program.exists(), "{} is missing: run scripts/tools", program.display());
    let home = tempfile::tempdir().unwrap();
    for name in [OVERLAYS[0], OVERLAYS[1], "monitoring", "tracing"] {
        let mut kubectl = binary::command(&program.to_string_lossy(), home.path(), &[]);
        kubectl.args(["kustomize"]).arg(path("deploy/kubernetes").join(name));
        let theirs = kubectl.env("HOME", home.path()).env("KUBECONFIG", "/dev/null").output().unwrap();
        assert!(theirs.status.success(), "{name}: {}", String::from_utf8_lossy(&theirs.stderr));
        let theirs: Vec<Value> =
            serde_saphyr::from_multiple(&String::from_utf8(theirs.stdout).unwrap()).unwrap();
        // The ConfigMap's name ends in a hash there, wherever it stands.
        let hashed = theirs.iter().map(id).find(|(kind, name)| *kind == "ConfigMap" && *name != DASHBOARD);
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

/// Made with a name of its own.
const DASHBOARD: &str = "signalbox-dashboard";

/// What the operator is given is what Prometheus is given, and Grafana gets the dashboard that is there.
#[test]
fn rules_and_dashboard_are_those_of_everybody() {
    let rules = text("deploy/prometheus/alerts.yaml");
    let (_, groups) = rules.split_once("\ngroups:").expect("groups");
    let copy = "deploy/kubernetes/monitoring/rules.yaml";
    let present = text(copy);
    let (head, _) = present.split_once("\nspec:\n").expect("a head");
    let lines = format!("groups:{groups}");
    let lines = lines.lines().map(|line| if line.is_empty() { String::new() } else { format!("  {line}") });
    let wanted = format!("{head}\nspec:\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        fs::write(path(copy), &wanted).unwrap();
    } else {
        assert_eq!(
            present, wanted,
            "{copy} is not what it is made of: UPDATE_DEPLOY=1 cargo test --test deploy"
        );
    }
    let made = made("monitoring");
    let rule = find(&made, "PrometheusRule", "signalbox");
    assert_eq!(rule["spec"], documents(&path("deploy/prometheus/alerts.yaml"))[0]);
    let dashboard = find(&made, "ConfigMap", DASHBOARD);
    assert_eq!(dashboard["data"]["signalbox.json"], text("deploy/grafana/signalbox.json"));
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
}

/// As text, with lists of maps in an order of their own.
pub fn sorted(value: &Value) -> String {
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
    for folder in ["base", "overlays/sqlite", "overlays/postgres", "monitoring", "tracing"] {
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
