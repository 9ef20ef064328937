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

pub mod catalogue;
pub mod databases;
pub mod dotenv;
pub mod edited;
pub mod env;
mod gather;
pub mod providers;
pub mod report;
pub mod starters;
pub mod summary;
pub mod tree;

use std::ffi::OsString;

pub use edited::{Decision, IMPORTED_AS, IMPORTED_FROM, decide};
pub use gather::Gathered;
pub use report::{Imported, Item, Outcome, Problem, Problems};

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
}

/// A format that can be imported.
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Converts.
    pub convert: fn(&Input<'_>) -> Result<Imported, Problems>,
}

/// All formats.
pub static FORMATS: &[Format] = &[
    Format {
        name: env::FORMAT,
        about: "a .env file or a list of environment variables",
        convert: env::from_files,
    },
    Format {
        name: catalogue::FORMAT,
        about: "the models that this signalbox brings along; it takes no file",
        convert: catalogue::convert,
    },
];

/// The format with this name.
#[must_use]
pub fn format_named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
