//! Where the value of a secret comes from: a file, standard input or a variable. Never the command line, which every
//! user of the machine can read, and which the shell keeps.

use std::path::Path;

use zeroize::Zeroizing;

use super::{failure::Failure, input, session::Session};
use crate::domain::limits;

/// What the server takes, with room for a line end.
const MAX_BYTES: usize = limits::SECRET_BYTES + 2;

/// A secret on its way to a field.
pub struct GivenSecret {
    /// The field, if it was named.
    pub path: Option<String>,
    /// The value.
    pub value: Zeroizing<String>,
}

/// Reads `[PATH=]@FILE`, `[PATH=]-` or `[PATH=]env:NAME`.
pub fn read(session: &mut Session<'_>, text: &str) -> Result<GivenSecret, Failure> {
    let (path, source) = match text.split_once('=') {
        // `@a=b` is a file, not a path.
        Some((path, source)) if !is_source(text) => (Some(path.to_owned()), source),
        _ => (None, text),
    };
    let value = if let Some(file) = source.strip_prefix('@') {
        input::read_short(session, Some(Path::new(file)), MAX_BYTES)
            .map_err(|error| wrong(&format!("can't read {file}: {error}")))?
    } else if let Some(name) = source.strip_prefix("env:") {
        let value =
            session.variable(name).ok_or_else(|| wrong(&format!("the variable {name} is not set")))?;
        Zeroizing::new(
            value.into_string().map_err(|_| wrong(&format!("the variable {name} is not valid UTF-8")))?,
        )
    } else if source == "-" {
        input::read_short(session, None, MAX_BYTES)
            .map_err(|error| wrong(&format!("can't read standard input: {error}")))?
    } else {
        // The text is not repeated: it is most likely the secret.
        return Err(wrong(
            "the value itself does not belong on the command line, where others can read it; give PATH=@FILE, \
             PATH=- for standard input, or PATH=env:NAME",
        ));
    };
    let value = Zeroizing::new(
        value.strip_suffix('\n').map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v)).to_owned(),
    );
    if value.is_empty() {
        return Err(wrong("the value is empty"));
    }
    Ok(GivenSecret { path, value })
}

fn is_source(text: &str) -> bool {
    text.starts_with('@') || text.starts_with("env:") || text == "-"
}

fn wrong(what: &str) -> Failure {
    Failure::usage(format!("--secret: {what}"))
}
