//! What a command is run with: where it writes, where it reads, what the environment says, and how it should speak.

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
};

use clap::ValueEnum;
use prost_reflect::{ReflectMessage, SerializeOptions};
use serde::Serialize;

use super::failure::{Exit, Failure, Outcome};
use crate::{
    domain::{Clock, Release},
    settings::Env,
};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Canonical proto JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The world around a command.
pub struct Session<'a> {
    /// For results.
    pub out: &'a mut dyn Write,
    /// For everything else.
    pub err: &'a mut dyn Write,
    /// For files and secrets that are given as `-`.
    pub input: &'a mut dyn Read,
    /// The environment.
    pub env: Env<'a>,
    /// What this binary is.
    pub release: Release,
    /// The time, for ages.
    pub clock: &'a dyn Clock,
    /// Whether there is somebody to ask.
    pub interactive: bool,
    /// How results are written.
    pub format: Format,
    /// Whether to say nothing but results.
    pub quiet: bool,
}

impl Session<'_> {
    /// A variable that is set to something.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<OsString> {
        self.env.get(name).filter(|value| !value.is_empty()).map(OsStr::to_owned)
    }

    /// Writes a line of results.
    pub fn line(&mut self, text: &str) -> Outcome {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Writes a remark, unless it should be quiet. Nobody may be there to read it, which is no failure.
    pub fn remark(&mut self, text: &str) {
        if !self.quiet {
            let _ = writeln!(self.err, "{text}");
        }
    }

    /// Writes warnings of the server.
    pub fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            self.remark(&format!("warning: {}", super::text::printable(&super::scalar::with_words(warning))));
        }
    }

    /// Writes a message as JSON or YAML; `false` if a table is wanted.
    pub fn document<T: Serialize>(&mut self, value: &T) -> Result<bool, Failure> {
        match self.format {
            Format::Table => return Ok(false),
            Format::Json => {
                serde_json::to_writer_pretty(&mut self.out, value).map_err(std::io::Error::from)?;
                writeln!(self.out)?;
            }
            Format::Yaml => self.out.write_all(yaml(value)?.as_bytes())?,
        }
        Ok(true)
    }

    /// Writes several messages: a JSON array, or one YAML document each; `false` if a table is wanted.
    pub fn documents<T: Serialize>(&mut self, values: &[T]) -> Result<bool, Failure> {
        if self.format != Format::Yaml {
            return self.document(&values);
        }
        for value in values {
            write!(self.out, "---\n{}", yaml(value)?)?;
        }
        Ok(true)
    }
}

/// A value as one YAML document, without its mark.
pub fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map_err(|error| Failure::told(Exit::Failed, format!("can't write the answer as YAML: {error}")))
}

/// A message as canonical proto JSON.
pub fn canonical<M: ReflectMessage>(message: &M) -> Result<serde_json::Value, Failure> {
    message
        .transcode_to_dynamic()
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|error| Failure::told(Exit::Failed, format!("can't write the answer as JSON: {error}")))
}

/// Several messages as canonical proto JSON.
pub fn canonical_all<M: ReflectMessage>(messages: &[M]) -> Result<Vec<serde_json::Value>, Failure> {
    messages.iter().map(canonical).collect()
}
