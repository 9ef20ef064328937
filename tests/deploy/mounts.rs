//! `deploy/kubernetes`: a server runs with what is set and mounted there, and what is mounted is what the README has made.

use std::{fs, path::Path};

use super::{
    binary::{self, Server, at_home},
    kubernetes::{OVERLAYS, container, environment, made, pod},
    text, texts,
};

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
        environment.iter_mut().for_each(|(_, value)| *value = value.replace("$(POD_IP)", "10.0.0.7"));
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
