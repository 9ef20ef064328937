//! `deploy/helm`: the chart makes what the overlays make, so that there is one way in which it runs in a cluster, however it is
//! installed; and its values change what they say.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{
    binary,
    kubernetes::{OVERLAYS, made},
    kustomize::{find, id},
    manifests::sorted,
    path, text,
};

const CHART: &str = "deploy/helm/signalbox";

/// What helm makes of the chart with these values, or what it has against them.
fn template(values: &[&str]) -> Output {
    helm(&["template", "signalbox"], values)
}

/// What helm does with the chart and these values. No cluster is asked.
fn helm(verb: &[&str], values: &[&str]) -> Output {
    let helm = path(".tools/helm/helm");
    assert!(helm.exists(), "{} is missing: run scripts/tools", helm.display());
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(&helm);
    command.args(verb).arg(path(CHART)).args(["--namespace", "signalbox"]);
    command.args(values.iter().flat_map(|value| ["--set", value]));
    command.env_clear().env("HOME", home.path()).env("KUBECONFIG", "/dev/null").output().unwrap()
}

fn rendered(values: &[&str]) -> Vec<Value> {
    let output = template(values);
    assert!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// Without what each way of installing adds by itself: helm makes the namespace, rolls a changed setting out by an annotation,
/// and would else delete the data with the release.
fn comparable(mut made: Vec<Value>) -> Vec<String> {
    made.retain(|each| each["kind"] != "Namespace");
    for (pointer, name) in
        [("/spec/template/metadata", "checksum/settings"), ("/metadata", "helm.sh/resource-policy")]
    {
        for metadata in made.iter_mut().filter_map(|each| each.pointer_mut(pointer)) {
            let metadata = metadata.as_object_mut().unwrap();
            let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
            if annotations.is_some_and(|all| all.remove(name).is_some() && all.is_empty()) {
                metadata.remove("annotations");
            }
        }
    }
    let mut texts: Vec<String> = made.iter().map(sorted).collect();
    texts.sort();
    texts
}

#[test]
fn the_chart_makes_what_the_overlays_make() {
    for (overlay, database) in OVERLAYS.into_iter().zip(["sqlite", "postgres"]) {
        assert!(overlay.ends_with(database));
        let ours = made(overlay);
        let charts = rendered(&[&format!("database={database}")]);
        let kinds = |made: &[Value]| made.iter().map(|each| format!("{:?}", id(each))).collect::<Vec<_>>();
        let (there, here) = (kinds(&charts), kinds(&ours));
        for (ours, charts) in comparable(ours).iter().zip(&comparable(charts)) {
            assert_eq!(ours, charts, "{database}");
        }
        assert_eq!(here.len(), there.len() + 1, "{database}: {here:?} and the namespace, {there:?}");
    }
}

/// Nothing of a value is lost, and nothing else changes.
#[test]
fn values_change_what_they_say() {
    let plain = rendered(&["database=postgres"]);
    let digest = format!("sha256:{}", "0a".repeat(32));
    let made = rendered(&[
        "database=postgres",
        "replicas=5",
        "image.repository=mirror.example/a/signalbox",
        &format!("image.digest={digest}"),
        "secrets.keys=other-keys",
        "settings.SIGNALBOX_LOG_FORMAT=text",
        "settings.SIGNALBOX_RETENTION=30d",
        "resources.limits.memory=1Gi",
    ]);
    let deployment = &find(&made, "Deployment", "signalbox")["spec"];
    let pod = &deployment["template"]["spec"];
    assert_eq!(deployment["replicas"], 5);
    assert_eq!(pod["containers"][0]["image"], format!("mirror.example/a/signalbox@{digest}"));
    assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "other-keys");
    let settings = &find(&made, "ConfigMap", "signalbox")["data"];
    assert_eq!(
        (&settings["SIGNALBOX_LOG_FORMAT"], &settings["SIGNALBOX_RETENTION"]),
        (&json!("text"), &json!("30d"))
    );
    assert_eq!(settings["SIGNALBOX_MAX_STREAMS"], "8000");
    // A changed setting is a changed pod.
    let checksum = |made: &[Value]| {
        let pod = &find(made, "Deployment", "signalbox")["spec"]["template"];
        pod["metadata"]["annotations"]["checksum/settings"].as_str().unwrap().to_owned()
    };
    assert_ne!(checksum(&plain), checksum(&made));
    // Several servers on one file are never made.
    let sqlite = rendered(&["replicas=5", "storage.size=9Gi", "storage.className=fast"]);
    assert_eq!(find(&sqlite, "Deployment", "signalbox")["spec"]["replicas"], 1);
    let volume = find(&sqlite, "PersistentVolumeClaim", "signalbox");
    assert_eq!(
        (&volume["spec"]["storageClassName"], &volume["spec"]["resources"]["requests"]["storage"]),
        (&json!("fast"), &json!("9Gi"))
    );
    assert_eq!(volume["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

/// A managed database has no pods, a private registry asks who pulls, and a cluster may have nodes for this.
#[test]
fn regression_the_chart_runs_with_a_database_elsewhere_and_on_nodes_that_are_chosen() {
    let made = rendered(&[
        "database=postgres",
        "network.database.peers[0].ipBlock.cidr=10.1.2.3/32",
        "network.database.port=6432",
        "network.egress[0].to[0].ipBlock.cidr=10.9.0.0/16",
        "network.egress[0].ports[0].port=443",
        "imagePullSecrets[0].name=registry",
        "nodeSelector.pool=infra",
        "tolerations[0].key=infra",
        "tolerations[0].operator=Exists",
    ]);
    let egress = |name: &str| find(&made, "NetworkPolicy", name)["spec"]["egress"].clone();
    let wanted = json!([{
        "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
        "ports": [{"port": 6432, "protocol": "TCP"}],
    }]);
    assert_eq!(egress("signalbox-database"), wanted);
    let added = json!({"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 443}]});
    assert_eq!(egress("signalbox").as_array().unwrap().last(), Some(&added));
    let pod = &find(&made, "Deployment", "signalbox")["spec"]["template"]["spec"];
    assert_eq!(
        [&pod["imagePullSecrets"], &pod["nodeSelector"], &pod["tolerations"]],
        [
            &json!([{"name": "registry"}]),
            &json!({"pool": "infra"}),
            &json!([{"key": "infra", "operator": "Exists"}])
        ]
    );
    // A policy whose rule names nobody lets everybody be called.
    assert!(!template(&["database=postgres", "network.database.peers=null"]).status.success());
    assert!(!template(&["network.egress[0].ports[0].port=443"]).status.success());
}

/// Who has installed it is told what it waits for, and how the first token is made: as deploy/README.md has it.
#[test]
fn helm_has_nothing_against_it_and_the_notes_say_what_is_missing() {
    for (database, secrets) in [
        ("sqlite", &["signalbox-keys", "other-tls"][..]),
        ("postgres", &["signalbox-keys", "other-tls", "signalbox-database"]),
    ] {
        let database = format!("database={database}");
        let values = [database.as_str(), "secrets.tls=other-tls"];
        let judged = helm(&["lint", "--strict"], &values);
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
        let installed = helm(&["install", "signalbox", "--dry-run=client"], &values);
        let said = String::from_utf8(installed.stdout).unwrap();
        let (_, notes) = said.split_once("NOTES:").expect("notes");
        let named: Vec<&str> = notes
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_once(": "))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(named, secrets, "{notes}");
        let commands = notes
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("kubectl") || line.starts_with("signalbox token"));
        let guide = text("deploy/README.md");
        assert!(
            commands.clone().count() == 3 && commands.into_iter().all(|line| guide.contains(line)),
            "{notes}"
        );
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for wrong in [
        "database=mysql",
        "replica=3",
        "replicas=0",
        "image.digest=abc",
        "settings.log=1",
        "settings.SIGNALBOX_A=1",
    ] {
        let refused = template(&[wrong]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("- at '"), "{wrong}: {said}");
    }
}

#[test]
fn it_is_of_the_version_of_the_binary() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = text(&format!("{CHART}/Chart.yaml"));
    for line in [format!("version: {version}"), format!("appVersion: {version}")] {
        assert!(chart.lines().any(|each| each == line), "{line}");
    }
    let schema: Value = serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).unwrap();
    let values: Value = serde_saphyr::from_str(&text(&format!("{CHART}/values.yaml"))).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut known = names(&schema["properties"]);
    known.retain(|name| name != "global");
    assert_eq!(names(&values), known, "what has a default has a rule");
    let set = text(&format!("{CHART}/values.yaml"));
    let samples =
        set.lines().filter_map(|line| line.strip_prefix("#  ")).filter_map(|line| line.split(':').next());
    binary::assert_known(samples, CHART);
}
