//! `deploy/systemd`: units that systemd takes, that start the binary with settings it knows, and that let it do little.

use std::{fs, process::Command};

use super::{binary, text};

const UNITS: [&str; 2] = ["signalbox.service", "signalbox@.service"];

/// The values of a name, in order.
fn values(unit: &str, name: &str) -> Vec<String> {
    let text = text(&format!("deploy/systemd/{unit}"));
    let found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned).collect()
}

#[test]
fn systemd_has_nothing_against_them() {
    let there = Command::new("systemd-analyze").arg("--version").output();
    assert!(there.is_ok(), "systemd-analyze is missing: run scripts/tools, or install systemd");
    let folder = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // It wants the program to be there.
        let text = text(&format!("deploy/systemd/{unit}"));
        let file = folder.path().join(unit);
        fs::write(&file, text.replace("/usr/local/bin/signalbox", binary::BINARY)).unwrap();
        let verified =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
        assert!(verified.status.success() && verified.stderr.is_empty(), "{unit}: {verified:?}");
        // 0 is the least exposed, 10 the most; what takes it above 2 should be looked at.
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(judged.status.success(), "{unit}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[test]
fn what_they_start_and_set_is_known() {
    for unit in UNITS {
        assert_eq!(values(unit, "ExecStart"), ["/usr/local/bin/signalbox serve"], "{unit}");
        let set = values(unit, "Environment").join(" ");
        let names: Vec<&str> = set.split(' ').map(|pair| pair.split_once('=').unwrap().0).collect();
        assert!(!names.is_empty(), "{unit}");
        binary::assert_known(names, unit);
        // In comments too.
        let text = text(&format!("deploy/systemd/{unit}"));
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        binary::assert_known(words.filter(|word| word.starts_with("SIGNALBOX_")), unit);
        // A database that comes up later must not find it given up.
        let again = ["RestartSec", "StartLimitIntervalSec"].map(|name| values(unit, name).concat());
        assert_eq!(again, ["2", "0"], "{unit}");
        // What no start mends is not tried every two seconds: the binary ends so on a wrong setting.
        assert_eq!(values(unit, "RestartPreventExitStatus"), ["2"], "{unit}");
        assert_eq!(binary::run(&["serve", "--listen", "nowhere"]).status.code(), Some(2));
        let stop: u64 = values(unit, "TimeoutStopSec")[0].parse().unwrap();
        assert!(stop > 10, "{unit}: {stop} s are not more than SIGNALBOX_SHUTDOWN_DEADLINE");
        let listens = values(unit, "LoadCredential");
        let named = set.contains("ENCRYPTION_KEY_FILE=%d/encryption.key");
        assert_eq!(named, listens.iter().any(|each| each.starts_with("encryption.key:")), "{unit}");
    }
}

#[test]
fn both_are_confined_alike() {
    let confined = |unit| {
        let text = text(&format!("deploy/systemd/{unit}"));
        let (_, block) = text.split_once("\nNoNewPrivileges=yes\n").expect("a block that begins so");
        block.to_owned()
    };
    assert_eq!(confined(UNITS[0]), confined(UNITS[1]));
    for unit in UNITS {
        assert_eq!(values(unit, "DynamicUser"), ["yes"]);
        assert_eq!(values(unit, "CapabilityBoundingSet"), [""]);
        assert_eq!(values(unit, "SystemCallFilter"), ["@system-service", "~@privileged"]);
    }
}
