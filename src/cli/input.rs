//! Files that are read whole, or standard input, and which of the two formats they are in.

use std::{io::Read, path::Path};

use zeroize::Zeroizing;

use super::{failure::Failure, session::Session};

/// What was read.
pub struct Input {
    /// Where it was read from, for errors.
    pub place: String,
    /// The text, which may hold secrets.
    pub text: Zeroizing<String>,
    /// Whether it is JSON, by its name or else by its looks.
    pub is_json: bool,
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// When it can't be read, or is not UTF-8.
pub fn read(session: &mut Session<'_>, file: &Path) -> Result<Input, Failure> {
    let is_input = file == Path::new("-");
    let place = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    let mut text = Zeroizing::new(String::new());
    let read = match is_input {
        true => session.input.read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::usage(format!("can't read {place}: {error}")))?;
    let is_json = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => text.trim_start().starts_with(['{', '[']),
    };
    Ok(Input { place, text, is_json })
}
