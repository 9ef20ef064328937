//! `deploy/kubernetes`: who may call the server and whom it may call, and how many callers its memory is enough for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kubernetes::{OVERLAYS, container, environment, made, value};

/// One of the rules: its peers, and the ports.
type Rule = (String, Vec<String>);

/// The rules of one direction of all policies of a folder.
fn rules(folder: &str, direction: &str, peers: &str) -> BTreeSet<Rule> {
    let made = made(folder);
    let policies = made.iter().filter(|each| each["kind"] == "NetworkPolicy");
    let rules = policies.flat_map(|policy| {
        let named = policy["spec"]["policyTypes"].as_array().expect("types").iter();
        let rules = policy["spec"][direction].as_array().cloned().unwrap_or_default();
        let ruled = named.filter_map(Value::as_str).any(|each| each.eq_ignore_ascii_case(direction));
        assert!(ruled || rules.is_empty(), "{folder}: {policy} does not rule what it lists");
        rules
    });
    rules
        .map(|rule| {
            let ports =
                rule["ports"].as_array().unwrap_or_else(|| panic!("{folder}: every port: {rule}")).iter();
            let ports = ports.map(|port| format!("{} {}", port["protocol"], port["port"]).replace('"', ""));
            assert!(rule[peers].is_array(), "{folder}: everybody: {rule}");
            (rule[peers].to_string().replace('"', ""), ports.collect())
        })
        .collect()
}

fn rule(peers: &str, ports: &[&str]) -> Rule {
    (peers.to_owned(), ports.iter().map(|port| (*port).to_owned()).collect())
}

const CLIENTS: &str = "[{namespaceSelector:{},podSelector:{matchLabels:{signalbox-client:true}}}]";
const PROMETHEUS: &str = "[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:monitoring}}}]";
const COLLECTOR: &str = "[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:observability}}}]";
const DNS: &str = "[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:kube-system}},podSelector:{matchLabels:{k8s-app:kube-dns}}}]";
const DATABASE: &str =
    "[{namespaceSelector:{},podSelector:{matchLabels:{app.kubernetes.io/name:postgresql}}}]";
/// What is public: everything but the networks of one's own, of the machine and of the cloud's metadata.
const PUBLIC: &str = "[{ipBlock:{cidr:0.0.0.0/0,except:[0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16,198.18.0.0/15,224.0.0.0/3]}},{ipBlock:{cidr:::/0,except:[::/127,64:ff9b::/104,64:ff9b::a00:0/104,64:ff9b::6440:0/106,64:ff9b::7f00:0/104,64:ff9b::a9fe:0/112,64:ff9b::ac10:0/108,64:ff9b::c0a8:0/112,64:ff9b::c612:0/111,64:ff9b::e000:0/99,64:ff9b:1::/48,2002::/16,fc00::/7,fe80::/10,ff00::/8]}}]";

#[test]
fn nobody_else_calls_or_is_called() {
    for name in OVERLAYS {
        let wanted = BTreeSet::from([rule(CLIENTS, &["TCP grpc", "TCP http"])]);
        assert_eq!(rules(name, "ingress", "from"), wanted, "{name}");
        let mut wanted = BTreeSet::from([rule(DNS, &["UDP 53", "TCP 53"]), rule(PUBLIC, &["TCP 443"])]);
        if name.ends_with("postgres") {
            wanted.insert(rule(DATABASE, &["TCP 5432"]));
        }
        assert_eq!(rules(name, "egress", "to"), wanted, "{name}");
    }
    assert_eq!(rules("monitoring", "ingress", "from"), BTreeSet::from([rule(PROMETHEUS, &["TCP http"])]));
    assert_eq!(rules("monitoring", "egress", "to"), BTreeSet::new());
    assert_eq!(rules("tracing", "ingress", "from"), BTreeSet::new());
    assert_eq!(
        rules("tracing", "egress", "to"),
        BTreeSet::from([rule(COLLECTOR, &["TCP 4317", "TCP 4318"])])
    );
}

/// How many `512Mi` are.
fn mebibytes(text: &str) -> u64 {
    text.strip_suffix("Mi").and_then(|number| number.parse().ok()).expect("Mi")
}

#[test]
fn the_memory_is_enough_for_as_many_streams_and_connections_as_are_let_in() {
    const KIBIBYTES_OF_A_STREAM: u64 = 24;
    /// Of one by TLS that asks nothing more. The bound is that of a listener, and there are two: gRPC and HTTP.
    const KIBIBYTES_OF_A_CONNECTION: u64 = 38;
    const LISTENERS: u64 = 2;
    const RING: u64 = 64;
    for name in OVERLAYS {
        let made = made(name);
        let resources = &container(&made)["resources"];
        let [limit, idle] = ["limits", "requests"]
            .map(|which| mebibytes(resources[which]["memory"].as_str().expect("memory")));
        let environment = environment(&made);
        let [streams, connections]: [u64; 2] = ["SIGNALBOX_MAX_STREAMS", "SIGNALBOX_MAX_CONNECTIONS"]
            .map(|name| value(&environment, name).parse().expect("a number"));
        assert!(connections >= streams, "{name}: each watcher may have a connection of its own");
        let set: BTreeMap<_, _> = environment.into_iter().collect();
        assert!(!set.contains_key("SIGNALBOX_LOG_RING_BYTES"), "{name}: the ring is counted as by default");
        let open = streams * KIBIBYTES_OF_A_STREAM + LISTENERS * connections * KIBIBYTES_OF_A_CONNECTION;
        let needed = idle + RING + open / 1024;
        assert!(needed * 5 / 4 <= limit, "{name}: {needed} MiB and some room are not within {limit} MiB");
    }
}
