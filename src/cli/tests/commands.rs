//! Every command that the documents name is one that there is: its verbs and its flags.

use std::{fs, path::Path};

use clap::{Command, CommandFactory as _};

use crate::cli::args::Cli;

/// What people copy commands from, beside `docs/`.
const ELSEWHERE: [&str; 6] = [
    "README.md",
    "deploy/README.md",
    "clients/python/README.md",
    "deploy/compose/compose.yaml",
    "deploy/systemd/signalbox.service",
    "deploy/systemd/signalbox@.service",
];

#[test]
fn every_command_of_the_documents_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut cli = Cli::command();
    cli.build();
    let (mut found, mut wrong) = (0, Vec::new());
    for path in docs.chain(ELSEWHERE.map(|name| root.join(name))) {
        for command in commands(&fs::read_to_string(&path).unwrap()) {
            found += 1;
            if let Err(what) = check(&cli, &command) {
                wrong.push(format!("{}: signalbox {command}: {what}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found > 100, "{found}");
}

/// What follows the name of the program, wherever it is called: in a block, or between backticks.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n#", " ").replace("\\\n>", " ").replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        for (at, _) in line.match_indices("signalbox ") {
            let before = line[..at].trim_end_matches("/usr/local/bin/");
            let rest = &line[at + "signalbox ".len()..];
            let called = before.is_empty() || before.ends_with([' ', '`', '(']);
            // `--namespace signalbox` is none, and neither is a sentence with the word in it.
            let value = before
                .split_whitespace()
                .next_back()
                .is_some_and(|word| word.starts_with('-') && word != "--");
            let shell = ["$ ", "> "].iter().any(|mark| line.starts_with(mark));
            let command = before.ends_with('`')
                || shell
                || line.trim_start_matches(['#', ' ', '(']).starts_with("signalbox ");
            if called && !value && command && !rest.trim_start().starts_with(['=', ':']) {
                let end = rest.find(['`', '|', '>', '&', ';', ')', '\'', '"', '$']).unwrap_or(rest.len());
                found.push(rest[..end].split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    found
}

/// Looks at verbs and flags. What stands for a value in a document need be none.
fn check(cli: &Command, command: &str) -> Result<(), String> {
    let mut at = cli;
    let mut is_verb = true;
    for word in command.split_whitespace() {
        if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
            let flag = flag.split('=').next().unwrap_or(flag).trim_end_matches([',', '.']);
            let known = at.get_arguments().any(|argument| argument.get_long() == Some(flag));
            if !known && flag != "help" && flag != "version" {
                return Err(format!("there is no --{flag}"));
            }
        } else if let Some(short) = word.strip_prefix('-').and_then(|rest| rest.chars().next()) {
            if !at.get_arguments().any(|argument| argument.get_short() == Some(short)) && short != 'h' {
                return Err(format!("there is no -{short}"));
            }
        } else if is_verb && at.has_subcommands() {
            at = at.find_subcommand(word).ok_or_else(|| format!("there is no verb {word}"))?;
        } else {
            is_verb = false;
        }
    }
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let mut cli = Cli::command();
    cli.build();
    for wrong in
        ["frobnicate", "status --nonsense", "token make", "keys generate -z", "token create --filee x"]
    {
        assert!(check(&cli, wrong).is_err(), "{wrong}");
    }
    for right in [
        "token create --role admin --local --data-dir x",
        "set ... --wait=3",
        "-q list kind:x -o json",
        "doctor",
    ] {
        assert_eq!(check(&cli, right), Ok(()), "{right}");
    }
    let text = "as `signalbox status -o json`\n$ X=1 signalbox list | sed x\n#   signalbox keys \\\n#  generate > a\nthe signalbox is\n";
    assert_eq!(commands(text), ["status -o json", "list", "keys generate"]);
    assert!(commands("kubectl --namespace signalbox exec x\n").is_empty());
}
