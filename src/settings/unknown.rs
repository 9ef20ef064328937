//! Variables that look like options and are none: mostly a slip of the pen, which would otherwise go unnoticed.

use super::environment::Environment;
use crate::setting_key::ENVIRONMENT_PREFIX;

/// What every variable of ours begins with.
const PREFIX: &str = "SIGNALBOX_";
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
/// What Kubernetes makes for a service of that name, and what tests are told by.
const OF_OTHERS: [&str; 4] = [ENVIRONMENT_PREFIX, "SIGNALBOX_SERVICE_", "SIGNALBOX_PORT", "SIGNALBOX_TEST_"];

/// A warning for each variable of ours that nobody reads, given the names of the options.
pub fn warnings(environment: &Environment, options: &[&str]) -> Vec<String> {
    let names = environment.iter().map(|(name, _)| name.to_string_lossy());
    names
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| !options.contains(&&**name) && !CLIENTS.contains(&&**name))
        .filter(|name| !OF_OTHERS.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| {
            format!("{name:?} is set, and nothing reads it: is it misspelt? `signalbox serve --help` lists what there is")
        })
        .collect()
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
        ];
        let known: Vec<&str> = options().map(|option| option.env).collect();
        let told = warnings(&Environment::of(set), &known);
        assert!(told.len() == 1 && told[0].contains("SIGNALBOX_SHUTDOWN_GRASE"), "{told:?}");
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
