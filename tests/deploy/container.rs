//! `deploy/container/Dockerfile`: what it copies is there and is all that a build needs, what it starts is the binary, and
//! what it says of ports and settings is what the server makes of it.

use std::{collections::BTreeSet, fs, process::Command};

use super::{
    binary::{self, Server, at_home},
    path, text,
};

const DOCKERFILE: &str = "deploy/container/Dockerfile";

/// An instruction: its name, and the rest of its line, continued lines included.
fn instructions() -> Vec<(String, String)> {
    let text = text(DOCKERFILE);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let split = joined.lines().map(|line| line.split_once(' ').expect("an instruction and its arguments"));
    split
        .map(|(name, rest)| (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// The arguments of all instructions of a name.
fn all(name: &str) -> Vec<String> {
    instructions().into_iter().filter(|(other, _)| other == name).map(|(_, rest)| rest).collect()
}

/// The only instruction of a name.
fn only(name: &str) -> String {
    let [one] = &all(name)[..] else { panic!("not one {name}") };
    one.clone()
}

/// What is copied from the repository.
fn copied() -> BTreeSet<String> {
    let copies = all("COPY").into_iter().filter(|copy| !copy.starts_with("--from"));
    copies
        .flat_map(|copy| {
            let mut words: Vec<String> = copy.split(' ').map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect()
}

/// The settings that the image begins with.
fn environment() -> Vec<(String, String)> {
    let pairs = only("ENV");
    pairs
        .split(' ')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

/// The tags move, whatever they are: only a digest pins, and how that is given has to be said.
#[test]
fn base_images_are_arguments_with_a_version() {
    let arguments = all("ARG");
    let defaults: Vec<(&str, &str)> =
        arguments.iter().map(|each| each.split_once('=').expect("a default")).collect();
    for (name, image) in &defaults {
        let (_, tag) = image.rsplit_once('/').unwrap().1.split_once(':').expect("a tag");
        assert!(!tag.contains("latest"), "{name}: {image}");
        assert!(
            text(DOCKERFILE).contains(&format!("--build-arg {name}=")),
            "{name}: how it is pinned is not said"
        );
    }
    for from in all("FROM") {
        let image = from.split(' ').next().unwrap();
        assert!(
            defaults.iter().any(|(name, _)| image == format!("${{{name}}}")),
            "FROM {from} is not an argument"
        );
    }
    // The compiler is one that Cargo.toml takes.
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let wanted: Vec<u32> = version(manifest["package"]["rust-version"].as_str().unwrap());
    let (_, rust) = defaults.iter().find(|(name, _)| *name == "RUST_IMAGE").expect("a builder");
    assert!(version(rust.split_once("rust:").unwrap().1) >= wanted, "{rust} is older than {wanted:?}");
}

/// The numbers that a version begins with.
fn version(text: &str) -> Vec<u32> {
    text.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

#[test]
fn what_is_copied_is_there_and_nothing_else_reaches_the_builder() {
    let copied = copied();
    for name in &copied {
        assert!(path(name).exists(), "{name} is not there");
    }
    let ignore = text(".dockerignore");
    let kept: BTreeSet<String> =
        ignore.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    assert_eq!(ignore.lines().find(|line| !line.starts_with('#')), Some("*"));
    assert_eq!(kept, copied, ".dockerignore lets through what {DOCKERFILE} copies");
}

/// Cargo refuses a manifest of which a target is missing, and the compiler a file that is included and not there.
#[test]
fn what_is_copied_is_all_that_a_build_needs() {
    let folder = tempfile::tempdir().unwrap();
    for name in copied() {
        std::os::unix::fs::symlink(path(&name), folder.path().join(&name)).unwrap();
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]);
    let read = metadata.current_dir(folder.path()).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let mut included = 0;
    for source in sources("src").into_iter().chain(sources("build")) {
        let code = fs::read_to_string(&source).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap();
        // Files of tests, and what lies in folders of theirs.
        let beneath = source.strip_prefix(path("")).unwrap().with_extension("");
        let is_test = beneath.iter().any(|part| part.to_string_lossy().ends_with("tests"));
        for file in code.split("include_str!(\"").skip(1).filter(|_| !is_test) {
            let file = source.parent().unwrap().join(file.split('"').next().unwrap());
            let file = file.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let inside = copied().iter().any(|name| file.starts_with(path(name).canonicalize().unwrap()));
            assert!(inside, "{} is included by {} and not copied", file.display(), source.display());
            included += 1;
        }
    }
    assert!(included > 5, "{included}");
}

fn sources(folder: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|extension| extension == "rs") => found.push(entry),
                false => {}
            }
        }
    }
    found
}

#[test]
fn nothing_is_fetched_but_the_crates_of_the_lock_file() {
    let builds = all("RUN");
    for word in ["curl", "wget", "apt", "git ", "http"] {
        assert!(builds.iter().all(|run| !run.contains(word)), "{word}: {builds:?}");
    }
    assert!(all("ADD").is_empty());
    let build = builds.iter().find(|run| run.contains("cargo build")).expect("a build");
    assert!(
        build.contains("--locked") && build.contains("--release") && build.contains("--bin signalbox"),
        "{build}"
    );
}

/// The steps of the build run here as they stand there, but for the compiler: a program in its place leaves what it would.
#[test]
fn the_steps_of_the_build_fit_together_and_what_they_build_is_static() {
    let [steps] = &all("RUN")[..] else { panic!("one step") };
    let folder = tempfile::tempdir().unwrap();
    let [tools, root] = ["tools", "root"].map(|name| folder.path().join(name));
    fs::create_dir_all(&tools).unwrap();
    fs::create_dir_all(root.join("src")).unwrap();
    let cargo = "#!/bin/sh\nfor last; do :; done\nmkdir -p target/$last/release target/release\necho \"$RUSTFLAGS\" > target/$last/release/signalbox\n";
    for (name, script) in [("cargo", cargo), ("ldd", "#!/bin/sh\necho ' statically linked'\n")] {
        script_at(&tools.join(name), script);
    }
    let steps = [" /signalbox", " /state"].iter().fold(steps.clone(), |steps, outside| {
        steps.replace(outside, &format!(" {}{}", root.display(), outside.trim()))
    });
    let run = |steps: &str| {
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", steps]).current_dir(root.join("src")).env_remove("RUSTFLAGS").env("PATH", path);
        shell.output().unwrap()
    };
    let ran = run(&steps);
    assert!(ran.status.success(), "{steps}: {ran:?}");
    assert!(fs::read_to_string(root.join("signalbox")).unwrap().contains("+crt-static"));
    assert!(root.join("state/data").is_dir());
    for copy in all("COPY").iter().filter(|copy| copy.starts_with("--from=build")) {
        let from = copy.split(' ').find(|word| word.starts_with('/')).unwrap().trim_start_matches('/');
        let inside = from.strip_prefix("src/").is_some_and(|name| copied().contains(name));
        assert!(inside || root.join(from).exists(), "{copy}: nothing makes it");
    }
    // One that is not static ends the build.
    script_at(&tools.join("ldd"), "#!/bin/sh\necho 'libc.so.6 => /lib/libc.so.6'\n");
    assert!(!run(&steps).status.success());
    let runtime = all("ARG").into_iter().find(|each| each.starts_with("RUNTIME_IMAGE=")).unwrap();
    assert!(runtime.contains("/static-"), "{runtime} has what a static binary does not need");
}

fn script_at(path: &std::path::Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_started_is_the_binary_and_not_as_root() {
    let instructions = instructions();
    let last = instructions.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let stage = &instructions[last..];
    // There is no shell in it.
    assert!(stage.iter().all(|(name, _)| name != "RUN"), "{stage:?}");
    let entry: Vec<String> = serde_json::from_str(&only("ENTRYPOINT")).expect("a list: there is no shell");
    let [program] = &entry[..] else { panic!("{entry:?}") };
    assert!(
        all("COPY").iter().any(|copy| copy.starts_with("--from=build") && copy.ends_with(program.as_str()))
    );
    let arguments: Vec<String> = serde_json::from_str(&only("CMD")).expect("a list");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let help = binary::run(&[&arguments[..], &["--help"]].concat());
    assert!(help.status.success(), "{help:?}");
    let (user, group) = only("USER").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    // A number, or Kubernetes could not tell that it is not root.
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    // What it writes to is its own, in the volume.
    let data = environment().into_iter().find(|(name, _)| name == "SIGNALBOX_DATA_DIR").expect("a place").1;
    assert!(data.starts_with(&format!("{}/", only("VOLUME"))), "{data}");
    let own = format!("--chown={user}:{group}");
    assert!(all("COPY").iter().any(|copy| copy.contains(&own) && copy.ends_with(&only("VOLUME"))));
}

#[test]
fn its_settings_are_known_and_its_ports_the_ones_that_are_exposed() {
    let environment = environment();
    binary::assert_known(environment.iter().map(|(name, _)| name.as_str()), DOCKERFILE);
    let listened: BTreeSet<&str> = environment
        .iter()
        .filter(|(name, _)| name.ends_with("LISTEN"))
        .map(|(_, address)| address.strip_prefix("0.0.0.0:").expect("every address"))
        .collect();
    let exposed = only("EXPOSE");
    assert_eq!(listened, exposed.split(' ').collect::<BTreeSet<_>>());
}

/// Compose runs it as who made the key, whoever that is: he has to be able to stand in the working directory.
#[test]
fn whoever_it_runs_as_may_enter_its_working_directory() {
    assert_eq!(all("WORKDIR").last(), Some(&only("VOLUME")));
    let made = all("RUN").concat();
    assert!(made.contains("chmod 0755 /state ") && made.contains("chmod 0700 /state/data"), "{made}");
}

#[test]
fn its_health_check_asks_the_health_listener() {
    let check = only("HEALTHCHECK");
    let (_, command) = check.split_once("CMD ").expect("a command");
    let command: Vec<String> = serde_json::from_str(command).expect("a list: there is no shell");
    let health =
        environment().into_iter().find(|(name, _)| name == "SIGNALBOX_HEALTH_LISTEN").expect("one").1;
    let asked = format!("http://{}", health.replace("0.0.0.0", "127.0.0.1"));
    assert_eq!(command, ["/usr/local/bin/signalbox", "health", "--server", &asked]);
}

/// Beyond the loopback only with a certificate, or where somebody says that he knows.
#[test]
fn it_refuses_plaintext_unless_told() {
    let folder = tempfile::tempdir().unwrap();
    let moved = [("/var/lib/signalbox", folder.path())];
    let open: Vec<(String, String)> = at_home(&environment(), &moved)
        .into_iter()
        .map(|(name, value)| (name, value.replace("127.0.0.1:0", "0.0.0.0:0")))
        .collect();
    let refused = Server::start(folder.path(), &open, &["serve"]).err().expect("it is refused");
    assert!(
        refused.contains("--tls-cert-file") && refused.contains("SIGNALBOX_ALLOW_PLAINTEXT"),
        "{refused}"
    );
    // On the loopback, so that nothing of the test is open to the network.
    let home = at_home(&environment(), &moved);
    let server = Server::start(folder.path(), &home, &["serve"]).unwrap();
    assert!(server.serves(&format!("http://{}", server.address("health")), "readiness", &[]));
}
