//! `deploy/kubernetes`: what belongs together fits together, and pods may do no more than they need.
//!
//! [`manifests`](super::manifests) says whether Kubernetes takes them, [`mounts`](super::mounts) whether the server does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    binary::{self, Server},
    kustomize::{build, find},
    path, seconds, text, texts,
};

/// The folders that are applied, each by itself.
pub const OVERLAYS: [&str; 2] = ["overlays/sqlite", "overlays/postgres"];

/// What applying one of the folders makes.
pub fn made(folder: &str) -> Vec<Value> {
    build(&path("deploy/kubernetes").join(folder))
}

/// The pods of an overlay.
pub fn pod(made: &[Value]) -> &Value {
    &find(made, "Deployment", "signalbox")["spec"]["template"]["spec"]
}

/// The server's container.
pub fn container(made: &[Value]) -> &Value {
    let [container] = &pod(made)["containers"].as_array().expect("containers")[..] else { panic!("one") };
    container
}

/// The settings of an overlay: those of the ConfigMap, and those of the pod.
pub fn environment(made: &[Value]) -> Vec<(String, String)> {
    let map = find(made, "ConfigMap", "signalbox")["data"].as_object().expect("settings");
    let own = container(made)["env"].as_array().into_iter().flatten();
    let own =
        own.filter_map(|each| Some((each["name"].as_str()?.to_owned(), each["value"].as_str()?.to_owned())));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    map.iter().map(|(name, value)| (name.clone(), text(value))).chain(own).collect()
}

/// The value of a setting.
pub fn value<'a>(environment: &'a [(String, String)], name: &str) -> &'a str {
    let found = environment.iter().find(|(other, _)| other == name);
    &found.unwrap_or_else(|| panic!("{name} is not set")).1
}

#[test]
fn every_variable_is_one_that_the_server_reads() {
    for name in OVERLAYS {
        let made = made(name);
        let environment = environment(&made);
        // Only there to be put into another one.
        let helper = |name: &&str| *name != "POD_IP";
        binary::assert_known(environment.iter().map(|(name, _)| name.as_str()).filter(helper), name);
        let names: BTreeSet<_> = environment.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), environment.len(), "{name}: nothing is set twice");
    }
}

#[test]
fn ports_are_the_ones_that_are_listened_on() {
    for name in OVERLAYS {
        let made = made(name);
        let (container, environment) = (container(&made), environment(&made));
        let port = |name: &str| {
            let ports = container["ports"].as_array().unwrap();
            let found = ports.iter().find(|each| each["name"] == name);
            found.unwrap_or_else(|| panic!("no port {name}"))["containerPort"].clone()
        };
        for (variable, listener) in [
            ("SIGNALBOX_LISTEN", "grpc"),
            ("SIGNALBOX_HTTP_LISTEN", "http"),
            ("SIGNALBOX_HEALTH_LISTEN", "health"),
        ] {
            let address = value(&environment, variable);
            assert_eq!(address, format!("0.0.0.0:{}", port(listener)), "{name}: {variable}");
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["grpc"]["port"], port("health"), "{name}: {probe}");
        }
        if let Some((_, advertised)) = environment.iter().find(|(name, _)| name == "SIGNALBOX_ADVERTISE") {
            assert_eq!(*advertised, format!("$(POD_IP):{}", port("grpc")));
        }
        for service in made.iter().filter(|each| each["kind"] == "Service") {
            for each in service["spec"]["ports"].as_array().unwrap() {
                assert_eq!(each["targetPort"], each["name"], "{name}");
                assert_eq!(each["port"], port(each["name"].as_str().unwrap()), "{name}");
            }
        }
        for policy in made
            .iter()
            .chain(&self::made("monitoring"))
            .chain(&self::made("tracing"))
            .filter(|each| each["kind"] == "NetworkPolicy")
        {
            for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
                rule["ports"].as_array().unwrap().iter().for_each(|each| {
                    port(each["port"].as_str().expect("a port by name"));
                });
            }
        }
    }
}

#[test]
fn pods_have_no_right_that_they_do_not_need() {
    for name in OVERLAYS {
        let made = made(name);
        let (pod, container) = (pod(&made), container(&made));
        let fields = [
            (&pod["automountServiceAccountToken"], false),
            (&pod["enableServiceLinks"], false),
            (&pod["securityContext"]["runAsNonRoot"], true),
            (&container["securityContext"]["allowPrivilegeEscalation"], false),
            (&container["securityContext"]["readOnlyRootFilesystem"], true),
            (&find(&made, "ServiceAccount", "signalbox")["automountServiceAccountToken"], false),
        ];
        fields.iter().for_each(|(field, wanted)| assert_eq!(**field, *wanted, "{name}"));
        assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(texts(&container["securityContext"]["capabilities"]["drop"]), ["ALL"], "{name}");
        assert!(container["securityContext"]["capabilities"]["add"].is_null(), "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[field].is_null(), "{name}: {field}");
        }
        assert_eq!(pod["serviceAccountName"], "signalbox", "{name}");
        let labels = &find(&made, "Namespace", "signalbox")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted", "{name}");
        let policy = find(&made, "NetworkPolicy", "signalbox");
        assert_eq!(texts(&policy["spec"]["policyTypes"]), ["Ingress", "Egress"], "{name}");
    }
}

/// Without bounds a pod that logs in a loop fills the node's disk, and others are evicted for it.
#[test]
fn what_a_pod_takes_of_a_node_is_bounded() {
    for name in OVERLAYS {
        let made = made(name);
        let resources = &container(&made)["resources"];
        for (which, kinds) in [
            ("requests", &["cpu", "memory", "ephemeral-storage"][..]),
            ("limits", &["memory", "ephemeral-storage"]),
        ] {
            for kind in kinds {
                assert!(resources[which][kind].is_string(), "{name}: {which} of {kind}");
            }
        }
    }
    let budget = made(OVERLAYS[1]);
    let budget = &find(&budget, "PodDisruptionBudget", "signalbox")["spec"];
    assert_eq!(
        budget["unhealthyPodEvictionPolicy"], "AlwaysAllow",
        "a drain waits for nobody who serves nobody"
    );
}

#[test]
fn every_selector_finds_the_pods() {
    for name in OVERLAYS {
        let all: Vec<Value> = made(name).into_iter().chain(made("monitoring")).collect();
        let deployment = &find(&all, "Deployment", "signalbox")["spec"];
        let pods = &deployment["template"]["metadata"]["labels"];
        let mut found = 0;
        for each in &all {
            let spec = &each["spec"];
            let selectors = match each["kind"].as_str().unwrap() {
                "Service" => vec![&spec["selector"]],
                "NetworkPolicy" => vec![&spec["podSelector"]["matchLabels"]],
                "PodDisruptionBudget" => vec![&spec["selector"]["matchLabels"]],
                "Deployment" => {
                    let spread = spec["template"]["spec"]["topologySpreadConstraints"].as_array();
                    let spread =
                        spread.into_iter().flatten().map(|each| &each["labelSelector"]["matchLabels"]);
                    spread.chain([&spec["selector"]["matchLabels"]]).collect()
                }
                _ => continue,
            };
            for selector in selectors {
                assert_eq!(selector, pods, "{name}: {}", each["kind"]);
                found += 1;
            }
        }
        assert!(found >= 5, "{name}: {found}");
    }
}

#[test]
fn a_pod_is_given_the_time_to_drain() {
    for name in OVERLAYS {
        let made = made(name);
        let (pod, container, environment) = (pod(&made), container(&made), environment(&made));
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        let deadline = seconds(value(&environment, "SIGNALBOX_SHUTDOWN_DEADLINE"));
        assert!(before + deadline < grace, "{name}: {before} s and {deadline} s are not within {grace} s");
        assert!(before >= 3, "{name}: endpoints are withdrawn within seconds");
        let liveness = &container["livenessProbe"];
        let killed =
            liveness["periodSeconds"].as_u64().unwrap() * liveness["failureThreshold"].as_u64().unwrap();
        assert!(killed > deadline, "{name}: a server that drains is not killed for that");
    }
}

#[test]
fn one_replica_on_sqlite_and_three_on_postgres() {
    let sqlite = made("overlays/sqlite");
    let spec = &find(&sqlite, "Deployment", "signalbox")["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["strategy"]["type"], "Recreate", "two servers on one file is one too many");
    assert!(sqlite.iter().all(|each| each["kind"] != "PodDisruptionBudget"), "it would hold up every drain");
    let data = value(&environment(&sqlite), "SIGNALBOX_DATA_DIR").to_owned();
    let mounts = container(&sqlite)["volumeMounts"].as_array().unwrap();
    let volume =
        mounts.iter().find(|each| data.starts_with(&format!("{}/", each["mountPath"].as_str().unwrap())));
    let volumes = pod(&sqlite)["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|each| each["name"] == volume.expect("a volume")["name"]).unwrap();
    let claim = volume["persistentVolumeClaim"]["claimName"].as_str().unwrap();
    find(&sqlite, "PersistentVolumeClaim", claim);

    let postgres = made("overlays/postgres");
    let spec = &find(&postgres, "Deployment", "signalbox")["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert!(spec["strategy"]["rollingUpdate"]["maxSurge"].as_u64().unwrap() > 0);
    assert_eq!(find(&postgres, "PodDisruptionBudget", "signalbox")["spec"]["maxUnavailable"], 1);
    assert_eq!(spec["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap().len(), 2);
    assert!(postgres.iter().all(|each| each["kind"] != "PersistentVolumeClaim"));
    let images = [container(&sqlite), container(&postgres)].map(|each| each["image"].as_str().unwrap());
    assert!(
        images.iter().all(|image| image.contains(['/', '@']) && !image.ends_with(":latest")),
        "{images:?}"
    );
}

#[test]
fn prometheus_is_let_in_and_asks_for_the_page_that_there_is() {
    let monitoring = made("monitoring");
    let monitor = &find(&monitoring, "ServiceMonitor", "signalbox")["spec"];
    let overlay = made("overlays/postgres");
    let service = find(&overlay, "Service", "signalbox");
    assert_eq!(monitor["selector"]["matchLabels"], service["metadata"]["labels"]);
    let [endpoint] = &monitor["endpoints"].as_array().unwrap()[..] else { panic!("one endpoint") };
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|each| each["name"] == endpoint["port"]), "{endpoint}");
    assert_eq!(
        endpoint["scheme"],
        "https",
        "the listener has TLS: {}",
        value(&environment(&overlay), "SIGNALBOX_TLS_CERT_FILE")
    );
    // Only one of the services may be asked, or each replica would be counted twice.
    let labelled =
        overlay.iter().filter(|each| each["kind"] == "Service" && each["metadata"]["labels"].is_object());
    assert_eq!(labelled.count(), 1);
    let readme = text("deploy/README.md");
    for name in
        [&endpoint["tlsConfig"]["ca"]["secret"]["name"], &endpoint["authorization"]["credentials"]["name"]]
    {
        assert!(readme.contains(name.as_str().unwrap()), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let server = Server::start(folder.path(), &[], &arguments).unwrap();
    let page = endpoint["path"].as_str().unwrap();
    assert!(server.page(page).contains(" 401 "), "{}: it wants a token", server.page(page));
    assert!(server.page("/nothing").contains(" 404 "));
}
