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
//! 1. Write one file here with a function from [`Input`] to [`Imported`]; `shapes` states what is accepted.
//! 2. Add its line to [`FORMATS`].

mod admin_settings;
mod azure;
pub mod beside;
pub mod catalogue;
pub mod databases;
mod decimal;
pub mod dotenv;
pub mod edited;
pub mod env;
mod gather;
mod litellm;
mod litellm_prices;
mod llm_provider_configs;
mod merge;
mod model_files;
mod models_dev;
mod parts;
mod preferences;
mod prompt_templates;
mod provider_configs;
pub mod providers;
pub mod report;
mod runtime_config;
mod settings_table;
mod shapes;
pub mod starters;
pub mod summary;
mod table;
pub mod tree;

use std::ffi::OsString;

pub use edited::{
    DENIES, Decision, IMPORTED_AS, IMPORTED_FROM, decide, is_ours as is_import_label, is_same_but_secrets,
    moves, restamped,
};
pub use gather::Gathered;
pub use merge::laid_over;
pub use model_files::has_all;
pub use report::{Imported, Item, Kept, Outcome, Problem, Problems};

pub use crate::crypto::ForeignKeys;
use crate::crypto::SecretText;

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
    /// The words of the providers whose models are taken of a file of models; none for those of all.
    pub only: &'a [String],
    /// The ids that providers get instead of those that a format makes up (`beside::ids`), by the latter.
    pub ids: &'a [(String, String)],
}

/// What a format is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: what it imports comes with this binary.
    Nothing,
    /// Files.
    Files,
    /// Files, of which a copy is kept beside them, because whoever has moved from them throws them away.
    FilesWithBackup,
}

/// A format that can be imported.
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What it is given.
    pub takes: Takes,
    /// What of it is accepted, in the words of [`shapes`].
    shape: &'static str,
    /// Whether it is a dump of a table.
    is_dump: bool,
    /// Converts.
    pub convert: Convert,
}

type Convert = fn(&Input<'_>) -> Result<Imported, Problems>;

impl Format {
    /// Whether it is a file of models and prices of many providers.
    #[must_use]
    pub fn is_of_models(&self) -> bool {
        [litellm_prices::FORMAT, models_dev::FORMAT].contains(&self.name)
    }

    /// What of it is accepted, as text for people.
    #[must_use]
    pub fn shape(&self) -> String {
        shapes::told(self.shape, self.is_dump)
    }
}

const fn format(
    name: &'static str,
    about: &'static str,
    takes: Takes,
    shape: &'static str,
    convert: Convert,
) -> Format {
    Format { name, about, takes, shape, is_dump: false, convert }
}

const fn dump(
    name: &'static str,
    about: &'static str,
    takes: Takes,
    shape: &'static str,
    convert: Convert,
) -> Format {
    Format { name, about, takes, shape, is_dump: true, convert }
}

/// All formats.
#[rustfmt::skip]
pub static FORMATS: &[Format] = &[
    format(env::FORMAT, "a .env file or a list of environment variables", Takes::Files, shapes::ENV, env::from_files),
    format(catalogue::FORMAT, "the models that this signalbox brings along; it takes no file", Takes::Nothing,
        shapes::CATALOGUE, catalogue::convert),
    format(admin_settings::FORMAT, "an admin_settings.json with one provider or several", Takes::FilesWithBackup,
        shapes::ADMIN_SETTINGS, admin_settings::convert),
    format(litellm::FORMAT, "the config.yaml of LiteLLM's proxy", Takes::Files, shapes::LITELLM, litellm::convert),
    format(litellm_prices::FORMAT, "LiteLLM's model_prices_and_context_window.json", Takes::Files,
        shapes::LITELLM_PRICES, litellm_prices::convert),
    format(models_dev::FORMAT, "the api.json of models.dev", Takes::Files, shapes::MODELS_DEV, models_dev::convert),
    dump(settings_table::FORMAT, "a dump of a table settings with LLM providers and databases", Takes::Files,
        shapes::SETTINGS, settings_table::convert),
    dump(llm_provider_configs::FORMAT, "a dump of a table llm_provider_configs", Takes::Files,
        shapes::LLM_PROVIDER_CONFIGS, llm_provider_configs::convert),
    dump(provider_configs::FORMAT, "dumps of the tables provider_configs and api_keys", Takes::Files,
        shapes::PROVIDER_CONFIGS, provider_configs::convert),
    dump(provider_configs::KEYS, "the same, for api_keys alone", Takes::Files, shapes::PROVIDER_CONFIGS,
        provider_configs::convert),
    dump(runtime_config::FORMAT, "a dump of a table runtime_config", Takes::FilesWithBackup, shapes::RUNTIME_CONFIG,
        runtime_config::convert),
    dump(prompt_templates::FORMAT, "a dump of a table of prompt templates with llm_preferences", Takes::Files,
        shapes::PROMPT_TEMPLATES, prompt_templates::convert),
];

/// The format with this name.
#[must_use]
pub fn format_named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

#[cfg(test)]
mod tests;
