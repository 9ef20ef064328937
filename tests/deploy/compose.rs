//! `deploy/compose`: three replicas that differ in nothing but their names, secrets as files that the server takes, and
//! health checks that are run here as they are there.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::{
    binary::{self, Server, at_home},
    documents, path, seconds, texts,
};

const FILE: &str = "deploy/compose/compose.yaml";

fn compose() -> Value {
    documents(&path(FILE)).remove(0)
}

/// The replicas, by name.
fn replicas(compose: &Value) -> Vec<(&str, &Value)> {
    let services = compose["services"].as_object().expect("services");
    let replicas: Vec<_> = services.iter().filter(|(name, _)| name.starts_with("signalbox-")).collect();
    assert_eq!(replicas.len(), 3, "{replicas:?}");
    replicas.into_iter().map(|(name, service)| (name.as_str(), service)).collect()
}

fn environment(service: &Value) -> Vec<(String, String)> {
    let pairs = service["environment"].as_object().expect("an environment");
    // Unquoted, `true` is no text, and compose refuses it.
    pairs.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect()
}

#[test]
fn replicas_differ_in_name_and_ports_alone() {
    let compose = compose();
    let mut hosts = BTreeSet::new();
    let mut same = BTreeSet::new();
    for (name, service) in replicas(&compose) {
        let mut rest = service.clone();
        for port in texts(&rest["ports"].take()) {
            let [address, host, container] = port.split(':').collect::<Vec<_>>()[..] else {
                panic!("{port}")
            };
            assert_eq!(address, "127.0.0.1", "{name}: {port} is open to others");
            assert!(hosts.insert(host.to_owned()), "{port} is taken twice");
            let listened = environment(service).into_iter().any(|(variable, value)| {
                variable.ends_with("LISTEN") && value == format!("0.0.0.0:{container}")
            });
            assert!(listened, "{name}: nobody listens on {container}");
        }
        let advertised = rest["environment"]["SIGNALBOX_ADVERTISE"].take();
        assert_eq!(advertised, format!("{name}:50051"));
        // The image is made once: by the first, and the others wait for it.
        let build = rest["build"].take();
        let policy = rest["pull_policy"].take();
        let first = name == "signalbox-1";
        assert_eq!((build.is_null(), policy == "never"), (!first, !first), "{name}: {build} {policy}");
        rest.as_object_mut().unwrap().retain(|field, _| !["build", "pull_policy"].contains(&field.as_str()));
        same.insert(rest.to_string());
    }
    assert_eq!(same.len(), 1, "{same:#?}");
    assert_eq!(hosts.len(), 6);
}

#[test]
fn replicas_have_no_right_that_they_do_not_need() {
    for (name, service) in replicas(&compose()) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(
            service["user"].as_str().unwrap().starts_with("${SIGNALBOX_USER:?"),
            "{name}: as who made the files"
        );
        for field in ["privileged", "network_mode", "pid", "volumes"] {
            assert!(service[field].is_null(), "{name}: {field}");
        }
        let grace = seconds(service["stop_grace_period"].as_str().unwrap());
        assert!(grace > 10, "{name}: {grace} s are not more than SIGNALBOX_SHUTDOWN_DEADLINE");
    }
}

#[test]
fn images_can_be_pinned_and_what_is_built_is_there() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        assert!(image.starts_with("${") && image.contains(":-"), "{name}: {image}");
    }
    let build = &compose["services"]["signalbox-1"]["build"];
    let context = path("deploy/compose").join(build["context"].as_str().unwrap());
    let file = context.join(build["dockerfile"].as_str().unwrap());
    assert_eq!(file.canonicalize().unwrap(), path("deploy/container/Dockerfile").canonicalize().unwrap());
}

#[test]
fn the_database_has_no_right_that_it_does_not_need() {
    let postgres = &compose()["services"]["postgres"];
    assert_eq!(postgres["read_only"], true);
    assert_eq!(texts(&postgres["tmpfs"]), ["/tmp", "/var/run/postgresql"]);
    assert_eq!(texts(&postgres["cap_drop"]), ["ALL"]);
    // What its entry point needs to take over the volume, to read the password and to become another user.
    assert_eq!(texts(&postgres["cap_add"]), ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]);
    assert_eq!(texts(&postgres["security_opt"]), ["no-new-privileges:true"]);
    for field in ["privileged", "network_mode", "pid", "ports"] {
        assert!(postgres[field].is_null(), "{field}");
    }
}

#[test]
fn secrets_and_volumes_are_declared_and_used() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for (declared, list) in [("secrets", "secrets"), ("volumes", "volumes")] {
        let declared: BTreeSet<&str> =
            compose[declared].as_object().unwrap().keys().map(String::as_str).collect();
        let used: BTreeSet<&str> = services
            .values()
            .flat_map(|service| texts(&service[list]))
            .map(|name| name.split(':').next().unwrap())
            .collect();
        assert_eq!(declared, used, "{list}");
    }
    for (name, service) in services {
        let given: Vec<String> =
            texts(&service["secrets"]).iter().map(|name| format!("/run/secrets/{name}")).collect();
        for (variable, value) in environment(service) {
            assert!(!value.starts_with('/') || given.contains(&value), "{name}: {variable} is {value}");
        }
        for dependency in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(dependency.1["condition"], "service_healthy");
            assert!(!services[dependency.0]["healthcheck"].is_null());
        }
    }
}

/// As `prepare` makes the files, the server takes them; and the health check of the file finds it well.
#[test]
fn a_server_starts_with_what_prepare_makes_and_is_found_healthy() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(path("deploy/compose/prepare"), folder.path().join("prepare")).unwrap();
    prepare(folder.path());
    let made = ["secrets/encryption.key", "secrets/signalbox.toml", "secrets/postgres.password", ".env"];
    let read = || made.map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
    let first = read();
    prepare(folder.path());
    assert_eq!(first, read(), "nothing is overwritten: a key that is lost takes every secret along");
    for name in made {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    let ignored = fs::read_to_string(path("deploy/compose/.gitignore")).unwrap();
    assert!(ignored.contains("/secrets/") && ignored.contains("/.env"), "no secret is committed");
    let [key, settings, password, user] = first;
    let user: Vec<u32> = user.trim().split(['=', ':']).skip(1).map(|id| id.parse().unwrap()).collect();
    assert!(user.len() == 2 && user[0] > 0, "{user:?}");

    let compose = compose();
    for secret in compose["secrets"].as_object().unwrap().values() {
        let file = folder.path().join(secret["file"].as_str().unwrap());
        assert!(file.exists(), "{} is not made", file.display());
    }
    let postgres = &compose["services"]["postgres"]["environment"];
    let address = format!(
        "postgres://{}:{password}@postgres:5432/{}",
        postgres["POSTGRES_USER"].as_str().unwrap(),
        postgres["POSTGRES_DB"].as_str().unwrap()
    );
    assert!(settings.contains(&address), "{settings}");
    // As the file says, but for the database, which is not here, and for whose the files are.
    let secrets = folder.path().join("run");
    fs::create_dir(&secrets).unwrap();
    let database = format!("sqlite://{}", folder.path().join("signalbox.db").display());
    for (name, text) in [("encryption.key", key), ("signalbox.toml", settings.replace(&address, &database))] {
        fs::write(secrets.join(name), text).unwrap();
        fs::set_permissions(secrets.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (_, service) = replicas(&compose)[0];
    let environment = environment(service);
    binary::assert_known(environment.iter().map(|(name, _)| name.as_str()), FILE);
    let environment = at_home(&environment, &[("/run/secrets", &secrets)]);
    let server = Server::start(folder.path(), &environment, &["serve"]).unwrap();

    let check = texts(&service["healthcheck"]["test"]);
    let ["CMD", "signalbox", arguments @ ..] = &check[..] else { panic!("{check:?}") };
    let health = format!("http://{}", server.address("health"));
    let arguments: Vec<&str> =
        arguments.iter().map(|each| if each.starts_with("http://") { &health } else { *each }).collect();
    let checked = binary::run(&arguments);
    assert!(checked.status.success(), "{checked:?}");
    drop(server);
    assert!(!binary::run(&arguments).status.success(), "nobody is there any more");
    let asked = check.iter().find_map(|each| each.strip_prefix("http://")).expect("an address");
    let listens = service["environment"]["SIGNALBOX_HEALTH_LISTEN"].as_str();
    assert_eq!(listens, Some(asked), "the check asks where the replica listens");
}

fn prepare(folder: &Path) {
    let mut prepare = binary::command("bash", folder, &[]);
    let made = prepare.arg("prepare").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
