//! The settings file: TOML, one table a section. What it holds is flattened to text, and read like a flag.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use super::options::{Opt, Problem};

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file's values by `section.key`.
pub type Values = BTreeMap<String, String>;

/// Reads the file, or says why it can't be.
pub fn read(path: &Path) -> Result<Values, Problem> {
    let place = format!("settings file {}", path.display());
    let text = read_bounded(path)
        .map_err(|error| Problem::elsewhere(&place, format_args!("can't be read: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Problem::elsewhere(&place, "is larger than 1 MiB, which no settings are"));
    }
    // The message without the excerpt: an excerpt could show a secret that was put here by mistake.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Problem::elsewhere(&place, format_args!("line {line} is not TOML: {}", error.message().trim()))
    })?;
    let mut values = Values::new();
    flatten("", &table, &mut values);
    Ok(values)
}

/// A device may never end.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut Values) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, into),
            toml::Value::String(text) => drop(into.insert(path, text.clone())),
            other => drop(into.insert(path, other.to_string())),
        }
    }
}

/// A problem for every key that no option has.
pub fn unknown_keys(values: &Values, options: &[&'static Opt]) -> Vec<Problem> {
    let known: Vec<&str> = options.iter().filter_map(|option| option.key).collect();
    values.keys().filter(|key| !known.contains(&key.as_str())).map(|key| unknown(key, &known)).collect()
}

fn unknown(key: &str, known: &[&str]) -> Problem {
    let last = key.rsplit('.').next().unwrap_or(key);
    let same_end = known.iter().find(|known| known.rsplit('.').next() == Some(last));
    let section = key.split('.').next().unwrap_or(key);
    let siblings: Vec<&str> =
        known.iter().copied().filter(|known| known.split('.').next() == Some(section)).collect();
    let hint = match same_end {
        Some(known) => format!("did you mean `{known}`?"),
        None if siblings.is_empty() => {
            let mut sections: Vec<&str> = known.iter().filter_map(|known| known.split('.').next()).collect();
            sections.dedup();
            format!("the sections are {}", sections.join(", "))
        }
        None => format!("there are {}", siblings.join(", ")),
    };
    Problem::elsewhere(format_args!("`{key}` in the settings file"), format_args!("is not a setting; {hint}"))
}
