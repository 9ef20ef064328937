//! Importers: other systems' configuration as resources.
//!
//! Text in, resources and a report out. A converter says of every item what became of it, by name and with the reason:
//! imported as it was, changed, replaced by a default, or left out. What can't be read at all fails the whole, with every
//! problem at once and the place of each. Nothing here reads a file, a store or the environment by itself, and nothing is
//! sent: what to do with the resources is the caller's.
//!
//! No value is ever repeated in a report or a problem, because any may be a key in the wrong place.
//!
//! # To add a format, do this
//!
//! 1. Write one file here with a function from [`Input`] to [`Imported`]; its first lines state the shape that is accepted.
//! 2. Add its line to [`FORMATS`].

mod admin_settings;
mod model_files;
pub mod databases;
mod decimal;
pub mod dotenv;
pub mod edited;
pub mod env;
mod gather;
mod litellm;
mod litellm_prices;
mod llm_provider_configs;
mod models_dev;
mod parts;
mod preferences;
mod prompt_templates;
mod provider_configs;
pub mod providers;
pub mod report;
mod runtime_config;
mod settings_table;
mod table;
pub mod tree;

use std::ffi::OsString;

pub use edited::{Decision, IMPORTED_AS, IMPORTED_FROM, decide};
pub use gather::Gathered;
pub use report::{Imported, Item, Outcome, Problem, Problems};

use crate::crypto::{ForeignKeys, SecretText};

/// A file that was read.
pub struct File {
    /// Its name, for reports.
    pub name: String,
    /// Its text, which may hold keys.
    pub text: SecretText,
}

/// Looks a variable of the environment up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What a converter is given.
pub struct Input<'a> {
    /// The files, in the order in which they were given.
    pub files: &'a [File],
    /// The environment, for what refers to it.
    pub environment: Environment<'a>,
    /// The keys that secrets in the files were sealed with.
    pub keys: &'a ForeignKeys,
}

/// A format that can be imported.
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Whether a copy of its files is to be kept beside them.
    pub keeps_backup: bool,
    /// Converts.
    pub convert: fn(&Input<'_>) -> Result<Imported, Problems>,
}

/// All formats.
pub static FORMATS: &[Format] = &[
    Format {
        name: env::FORMAT,
        about: "a .env file or a list of environment variables",
        keeps_backup: false,
        convert: env::from_files,
    },
    Format {
        name: admin_settings::FORMAT,
        about: "an admin_settings.json with one provider or several",
        keeps_backup: true,
        convert: admin_settings::convert,
    },
    Format {
        name: litellm::FORMAT,
        about: "the config.yaml of LiteLLM's proxy",
        keeps_backup: false,
        convert: litellm::convert,
    },
    Format {
        name: litellm_prices::FORMAT,
        about: "LiteLLM's model_prices_and_context_window.json",
        keeps_backup: false,
        convert: litellm_prices::convert,
    },
    Format {
        name: models_dev::FORMAT,
        about: "the api.json of models.dev",
        keeps_backup: false,
        convert: models_dev::convert,
    },
    Format {
        name: settings_table::FORMAT,
        about: "a dump of a table settings with LLM providers and databases",
        keeps_backup: false,
        convert: settings_table::convert,
    },
    Format {
        name: llm_provider_configs::FORMAT,
        about: "a dump of a table llm_provider_configs",
        keeps_backup: false,
        convert: llm_provider_configs::convert,
    },
    Format {
        name: provider_configs::FORMAT,
        about: "dumps of the tables provider_configs and api_keys",
        keeps_backup: false,
        convert: provider_configs::convert,
    },
    Format {
        name: provider_configs::KEYS,
        about: "the same, for api_keys alone",
        keeps_backup: false,
        convert: provider_configs::convert,
    },
    Format {
        name: runtime_config::FORMAT,
        about: "a dump of a table runtime_config",
        keeps_backup: true,
        convert: runtime_config::convert,
    },
    Format {
        name: prompt_templates::FORMAT,
        about: "a dump of a table of prompt templates with llm_preferences",
        keeps_backup: false,
        convert: prompt_templates::convert,
    },
];

/// The format with this name.
#[must_use]
pub fn format_named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

#[cfg(test)]
mod tests;
