//! The server's settings as flags, made from the options that `settings` declares.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

use crate::settings::{self, Flags, Opt};

/// The flags of the server that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFlags(pub Flags);

impl Args for ServerFlags {
    fn augment_args(command: Command) -> Command {
        let command = command.after_help(environment_only());
        settings::options().filter_map(argument).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |flag: &&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
        let value = |flag| {
            let values: Vec<&str> = matches.get_many::<String>(flag)?.map(String::as_str).collect();
            Some((flag, values.join(",")))
        };
        Ok(Self(
            settings::options().filter_map(|option| option.flag).filter(given).filter_map(value).collect(),
        ))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(option: &'static Opt) -> Option<Arg> {
    let flag = option.flag?;
    let default =
        if option.default.is_empty() { String::new() } else { format!(" [default: {}]", option.default) };
    let help = format!("{} [env: {}]{default}", option.help, option.env);
    let argument =
        Arg::new(flag).long(flag).value_name(option.value).help(help).help_heading(heading(option));
    Some(match option {
        Opt { switch: true, .. } => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Opt { list: true, .. } => argument.action(ArgAction::Append),
        _ => argument,
    })
}

/// The options without a flag: a command line is seen by every process of the machine.
fn environment_only() -> String {
    let lines = settings::options()
        .filter(|option| option.flag.is_none())
        .map(|option| format!("  {:<24} {}", option.env, option.help));
    let lines: Vec<_> = lines.collect();
    format!(
        "From the environment only: what is secret, and what OpenTelemetry's library reads\n{}",
        lines.join("\n")
    )
}

/// The section of the settings file, as a heading.
fn heading(option: &Opt) -> &'static str {
    match option.key.and_then(|key| key.split('.').next()) {
        Some("listen") => "Listening",
        Some("store") => "Store",
        Some("keys") => "Keys",
        Some("jwt") => "Tokens",
        Some("tls") => "TLS",
        Some("limits") => "Limits",
        Some("outbound") => "Calls to others",
        Some("log") => "Logs",
        Some("traces") => "Traces",
        Some("shutdown") => "Shutdown",
        _ => "Settings",
    }
}
