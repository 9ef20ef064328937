//! `deploy/kubernetes`: what the overlays make is what Kubernetes takes, what the binary knows, and what fits together.
//!
//! The overlays are rendered by [`kustomize`], and by `kubectl kustomize` too where there is one, which has to make the same.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use super::{
    binary::{self, Server, at_home},
    kustomize::{build, find, id},
    path, seconds, text, texts,
};

const OVERLAYS: [&str; 2] = ["overlays/sqlite", "overlays/postgres"];

/// What applying one of the folders makes.
fn made(folder: &str) -> Vec<Value> {
    build(&path("deploy/kubernetes").join(folder))
}

/// The pods of an overlay.
fn pod(made: &[Value]) -> &Value {
    &find(made, "Deployment", "signalbox")["spec"]["template"]["spec"]
}

/// The server's container.
fn container(made: &[Value]) -> &Value {
    let [container] = &pod(made)["containers"].as_array().expect("containers")[..] else { panic!("one") };
    container
}

/// The settings of an overlay: those of the ConfigMap, and those of the pod.
fn environment(made: &[Value]) -> Vec<(String, String)> {
    let map = find(made, "ConfigMap", "signalbox")["data"].as_object().expect("settings");
    let own = container(made)["env"].as_array().into_iter().flatten();
    let own =
        own.filter_map(|each| Some((each["name"].as_str()?.to_owned(), each["value"].as_str()?.to_owned())));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    map.iter().map(|(name, value)| (name.clone(), text(value))).chain(own).collect()
}

fn value<'a>(environment: &'a [(String, String)], name: &str) -> &'a str {
    let found = environment.iter().find(|(other, _)| other == name);
    &found.unwrap_or_else(|| panic!("{name} is not set")).1
}

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

/// Everything is served with what the manifests say, and the probes are answered.
#[test]
fn a_server_starts_with_the_settings_of_each_overlay() {
    for name in OVERLAYS {
        let made = made(name);
        let folder = tempfile::tempdir().unwrap();
        let [mounted, state] = ["etc", "var"].map(|name| folder.path().join(name));
        let workdir = folder.path().join("workdir");
        fs::create_dir(&workdir).unwrap();
        mount(&mounted, &state);
        let moved = [("/etc/signalbox", mounted.as_path()), ("/var/lib/signalbox", state.as_path())];
        let mut environment = at_home(&environment(&made), &moved);
        environment.iter_mut().for_each(|(_, value)| *value = value.replace("$(POD_IP)", "10.0.0.1"));
        let arguments = texts(&container(&made)["args"]);
        let server = Server::start_from(&workdir, folder.path(), &environment, &arguments)
            .unwrap_or_else(|log| panic!("{name}: {log}"));
        let probes = format!("http://{}", server.address("health"));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let service = container(&made)[probe]["grpc"]["service"].as_str().expect("a service");
            assert!(server.serves(&probes, service, &[]), "{name}: {probe} of {service}");
        }
        let grpc = server.address("gRPC").replace("127.0.0.1", "localhost");
        let ca = mounted.join("tls/ca.crt");
        assert!(grpc.starts_with("https://"), "{grpc}");
        assert!(server.serves(&grpc, "readiness", &["--ca-file", &ca.to_string_lossy()]), "{name}: TLS");
        // The root is read-only there: nothing is written but what a volume is mounted for.
        assert_eq!(
            fs::read_dir(&workdir).unwrap().count(),
            0,
            "{name}: it writes into its working directory"
        );
        let writes = fs::read_dir(&state).is_ok_and(|mut found| found.next().is_some());
        let claims = pod(&made)["volumes"].as_array().unwrap();
        let claims = claims.iter().any(|each| !each["persistentVolumeClaim"].is_null());
        assert_eq!(writes, claims, "{name}: what it writes is on a volume");
    }
}

/// What the secrets hold, as the README has them made.
fn mount(etc: &Path, state: &Path) {
    for folder in ["keys", "tls", "database"] {
        fs::create_dir_all(etc.join(folder)).unwrap();
    }
    let key = binary::run(&["keys", "generate"]).stdout;
    private(&etc.join("keys/encryption.key"), &key);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    fs::write(etc.join("tls/tls.crt"), &certificate).unwrap();
    fs::write(etc.join("tls/ca.crt"), &certificate).unwrap();
    private(&etc.join("tls/tls.key"), made.signing_key.serialize_pem().as_bytes());
    // The driver is tested elsewhere; here it matters that the file is found and read.
    let database = etc.join("database/signalbox.db");
    let settings = format!(
        "[store]\ndatabase_url = \"sqlite://{}\"\ndata_dir = \"{}\"\n",
        database.display(),
        etc.join("database").display()
    );
    private(&etc.join("database/signalbox.toml"), settings.as_bytes());
    fs::create_dir(state).unwrap();
}

/// A file as Kubernetes mounts it with the mode that the manifests say.
fn private(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).unwrap();
}

/// 0440: root's, and readable by `fsGroup`.
const MODE: u32 = 0o440;

#[test]
fn secrets_are_mounted_as_the_server_wants_them_and_made_as_the_readme_says() {
    let readme = text("deploy/README.md");
    for name in OVERLAYS {
        let made = made(name);
        let (pod, container, environment) = (pod(&made), container(&made), environment(&made));
        assert_eq!(
            pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"],
            "it reads them so"
        );
        let mut mounts = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let volumes = pod["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|each| each["name"] == mount["name"]).expect("a volume");
            let at = mount["mountPath"].as_str().unwrap();
            mounts.push(format!("{at}/"));
            let Some(secret) = volume["secret"]["secretName"].as_str() else { continue };
            assert_eq!(volume["secret"]["defaultMode"], MODE, "{name}: {secret}");
            assert_eq!(mount["readOnly"], true, "{name}: {secret}");
            let made = readme
                .split("create secret ")
                .skip(1)
                .find(|made| made.split_whitespace().nth(1) == Some(secret));
            let made = made.unwrap_or_else(|| panic!("deploy/README.md does not say how {secret} is made"));
            let made = made.split("\n\n").next().unwrap();
            // Each file that a setting names is one that the secret has.
            for (variable, file) in
                environment.iter().filter(|(_, value)| value.starts_with(&format!("{at}/")))
            {
                let file = file.rsplit('/').next().unwrap();
                assert!(made.contains(file), "{variable} is {file}, which {secret} is not made with");
            }
        }
        // And none is named that is not mounted.
        for (variable, value) in environment.iter().filter(|(_, value)| value.starts_with('/')) {
            assert!(mounts.iter().any(|mount| value.starts_with(mount)), "{name}: {variable} is {value}");
        }
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
        for policy in
            made.iter().chain(&self::made("monitoring")).filter(|each| each["kind"] == "NetworkPolicy")
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
