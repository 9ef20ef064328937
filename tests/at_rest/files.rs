//! Files and directories: whom they let in, and that one server alone has them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
};

use crate::{
    api::{Api, secret_setting},
    forms::{Forms, contains},
    harness::{Home, Server, run},
};

const KEY: &str = "q83vEiM0RVZneImaq7zN3u_wAhM1V3mbvd_yBCZIaoA=";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_directories_are_ours_alone() {
    // Apart, as is advised: the key directory is made as well.
    let home = Arc::new(Home::new().with("SIGNALBOX_KEY_DIR", "keys"));
    let server = Server::start_in(&home).await;
    Api::admin(&server).await.create("settings/pass", secret_setting("files-secret~?>-27182818")).await;
    let check = |expected: &[&str]| {
        for directory in ["data", "keys"] {
            assert_eq!(mode(&home.path(directory)), 0o700, "{directory}");
            for file in fs::read_dir(home.path(directory)).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
        for file in expected {
            assert!(home.path(file).exists(), "{file} is where it belongs");
        }
    };
    check(&[
        "data/signalbox.db",
        "data/signalbox.db-wal",
        "data/admin.token",
        "keys/encryption.key",
        "keys/jwt.key",
    ]);
    server.stop().await;
    check(&["data/signalbox.db"]);
    Server::start_in(&home).await.stop().await;
    check(&["data/signalbox.db"]);
}

/// Modes and owners of a key file, and whether a start takes it.
#[tokio::test]
async fn a_key_file_that_others_can_reach_is_refused() {
    let root = rustix::process::geteuid().is_root();
    let cases = [
        (0o600, None, ""),
        (0o400, None, ""),
        (0o440, None, ""),
        (0o640, None, ""),
        (0o644, None, "chmod 0600"),
        (0o604, None, "chmod 0600"),
        (0o601, None, "chmod 0600"),
        (0o660, None, "chmod g-w"),
        (0o620, None, "chmod g-w"),
        (0o600, Some(12_345), "belongs to user 12345"),
    ];
    for (mode, owner, said) in cases {
        for (variable, file) in [
            ("ENCRYPTION_KEY_FILE", "our.key"),
            ("SIGNALBOX_JWT_SECRET_FILE", "our.key"),
            // The ones that a start makes itself, loosened since.
            ("SIGNALBOX_KEY_DIR", "encryption.key"),
            ("SIGNALBOX_KEY_DIR", "jwt.key"),
        ] {
            let home = Home::new();
            let path = home.path(file);
            fs::write(&path, KEY).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match owner {
                // Only root can give a file away.
                Some(_) if !root => continue,
                Some(owner) => chown(&path, Some(owner), None).unwrap(),
                None => {}
            }
            let value = if variable == "SIGNALBOX_KEY_DIR" { home.path("") } else { path };
            let home = Arc::new(home.with(variable, value.display().to_string()));
            if said.is_empty() {
                Server::start_in(&home).await.stop().await;
            } else {
                let refused = home.refused().await;
                assert_eq!(refused.code, Some(1), "{mode:o} {variable}: {refused:?}");
                assert!(refused.message.contains(said), "{mode:o} {variable}: {}", refused.message);
                assert!(refused.message.contains(file), "{mode:o} {variable}: {}", refused.message);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_refuses() {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    let refused = home.refused().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.message.contains("another process has") && refused.message.contains("signalbox.db.lock"));
    let doctor = home.run(&["doctor", "--offline"]).await;
    assert_eq!(doctor.status.code(), Some(1), "a look at it from beside is refused as well");
    Api::admin(&server).await.create("settings/pass", secret_setting("files-secret~?>-27182818")).await;
    // However it ends, the next one gets in.
    drop(server);
    Server::start_in(&home).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_talkative_log_holds_no_key_and_no_secret() {
    const PASSWORD: &str = "files password~?> 31415926535";
    const JWT: &str = "files-jwt-secret~?>-31415926535897932384626";
    const SECRET: &str = "files-secret~?>-14142135623";
    for (source, key) in [("ENCRYPTION_KEY", KEY), ("ENCRYPTION_PASSWORD", PASSWORD)] {
        let home = Home::new().with("RUST_LOG", "trace").with(source, key);
        let home = Arc::new(home.with("SIGNALBOX_JWT_SECRET", JWT));
        let token = {
            let mut command =
                home.signalbox(&["token", "create", "--local", "--role", "admin", "--ttl", "1h"]);
            let output = run(&mut command).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let server = Server::start_in(&home).await;
        let mut admin = Api::with(&server, &token).await;
        admin.create("settings/pass", secret_setting(SECRET)).await;
        server.stop().await;
        let log =
            [fs::read(home.path("server.log")).unwrap(), fs::read(home.path("server.out")).unwrap()].concat();
        assert!(contains(&log, b"TRACE"), "it is as talkative as can be");
        for secret in [key, JWT, SECRET, &token] {
            assert_eq!(Forms::of(secret).found_in(&log), None, "{source}");
        }
    }
}
