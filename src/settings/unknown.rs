//! Variables that look like options and are none: mostly a slip of the pen, which would otherwise go unnoticed.

use super::{environment::Environment, legacy};
use crate::setting_key::ENVIRONMENT_PREFIX;

/// What every variable of ours begins with.
const PREFIX: &str = "SIGNALBOX_";
/// What those of an earlier tool began with. Of the ones that have another name now, [`legacy`] tells.
const EARLIER: &str = "CHIMERA_";
/// What the command line and the clients read, which may share an environment with the server. A test holds the list
/// against `.env.example`.
const CLIENTS: [&str; 10] = [
    "SIGNALBOX_URL",
    "SIGNALBOX_TOKEN",
    "SIGNALBOX_TOKEN_FILE",
    "SIGNALBOX_CA_FILE",
    "SIGNALBOX_CLIENT_CERT_FILE",
    "SIGNALBOX_CLIENT_KEY_FILE",
    "SIGNALBOX_CACHE_FILE",
    "SIGNALBOX_CACHE_KEY",
    "SIGNALBOX_CACHE_KEY_FILE",
    "SIGNALBOX_ENABLED",
];
/// Stored settings, and what tests are told by.
const OF_OTHERS: [&str; 2] = [ENVIRONMENT_PREFIX, "SIGNALBOX_TEST_"];

/// A warning for each variable of ours that nobody reads, given the names of the options.
pub fn warnings(environment: &Environment, options: &[&str]) -> Vec<String> {
    let names = environment.iter().map(|(name, _)| name.to_string_lossy());
    names
        .filter(|name| name.starts_with(PREFIX) || name.starts_with(EARLIER) && !legacy::has(name))
        .filter(|name| !options.contains(&&**name) && !CLIENTS.contains(&&**name))
        .filter(|name| !OF_OTHERS.iter().any(|prefix| name.starts_with(prefix)) && !of_kubernetes(name))
        .map(|name| {
            format!("{name:?} is set, and nothing reads it: is it misspelt? `signalbox serve --help` lists what there is")
        })
        .collect()
}

/// Whether Kubernetes sets this in every pod beside a service that is called `signalbox`.
fn of_kubernetes(name: &str) -> bool {
    let Some(name) = name.strip_prefix(PREFIX) else { return false };
    let of_port = |rest: &str| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let number = number.parse::<u16>().is_ok();
        let (protocol, part) = rest.split_once('_').unwrap_or((rest, ""));
        let part = matches!(part, "" | "PROTO" | "PORT" | "ADDR");
        number && matches!(protocol, "TCP" | "UDP" | "SCTP") && part
    };
    matches!(name, "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
        // One for each port that has a name.
        || name.strip_prefix("SERVICE_PORT_").is_some_and(|port| !port.is_empty())
        || name.strip_prefix("PORT_").is_some_and(of_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::options;

    #[test]
    fn regression_a_variable_that_nobody_reads_is_told_of() {
        let set = [
            ("SIGNALBOX_SHUTDOWN_GRASE", "1s"),
            ("SIGNALBOX_SHUTDOWN_GRACE", "1s"),
            ("SIGNALBOX_SETTING_MAX_RETRIES", "3"),
            ("SIGNALBOX_TOKEN", "hunter2"),
            ("SIGNALBOX_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
            ("HOME", "/"),
            ("CHIMERA_DB_PATH", "legacy says where it went"),
            ("CHIMERA_LOG", "1"),
        ];
        let known: Vec<&str> = options().map(|option| option.env).collect();
        let told = warnings(&Environment::of(set), &known);
        let [old, slip] = &told[..] else { panic!("{told:?}") };
        assert!(old.contains("CHIMERA_LOG") && slip.contains("SIGNALBOX_SHUTDOWN_GRASE"), "{told:?}");
    }

    #[test]
    fn regression_only_what_kubernetes_sets_is_passed_over() {
        let told = |name: &str| !warnings(&Environment::of([(name, "x")]), &[]).is_empty();
        for theirs in ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT"] {
            assert!(!told(&format!("SIGNALBOX_{theirs}")), "{theirs}");
        }
        for theirs in ["50051_TCP", "50051_TCP_PROTO", "50051_TCP_PORT", "50051_TCP_ADDR"] {
            assert!(!told(&format!("SIGNALBOX_PORT_{theirs}")), "{theirs}");
        }
        let slips = [
            "PORTS",
            "PORT_GRPC",
            "PORT_99999_TCP",
            "PORT_1_HTTP",
            "PORT_1_TCP_X",
            "SERVICE_NAME",
            "SERVICE_PORTS",
        ];
        for slip in slips {
            assert!(told(&format!("SIGNALBOX_{slip}")), "{slip}");
        }
    }

    #[test]
    fn every_documented_variable_is_known() {
        let lines = include_str!("../../.env.example").lines();
        let names = lines
            .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
            .map(|(name, _)| name);
        let set: Vec<(&str, &str)> =
            names.filter(|name| !name.contains(' ')).map(|name| (name, "x")).collect();
        assert!(set.iter().any(|(name, _)| *name == "SIGNALBOX_TOKEN_FILE"), "{set:?}");
        let known: Vec<&str> = options().map(|option| option.env).collect();
        assert_eq!(warnings(&Environment::of(set), &known), Vec::<String>::new());
    }
}
