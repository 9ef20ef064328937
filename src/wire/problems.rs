//! What is wrong with a mapping or a call, gathered before anything is answered.

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub path: String,
    /// Stable word for programs, for example `REQUIRED`.
    pub reason: &'static str,
    /// What is wrong and what would be right; it reads on from the path, and repeats no value.
    pub description: String,
}

/// Gathers what is wrong.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    /// Whether it is used and not written: what came in by an older rule and does no harm is let be.
    in_use: bool,
}

impl Problems {
    /// Nothing yet, of a mapping that is there already.
    pub fn in_use() -> Self {
        Self { in_use: true, ..Self::default() }
    }

    /// Notes what is only refused where it is written.
    pub fn add_as_written(
        &mut self,
        path: impl Into<String>,
        reason: &'static str,
        description: impl Into<String>,
    ) {
        if !self.in_use {
            self.add(path, reason, description);
        }
    }

    pub fn add(&mut self, path: impl Into<String>, reason: &'static str, description: impl Into<String>) {
        self.found.push(Problem { path: path.into(), reason, description: description.into() });
    }

    pub fn required(&mut self, path: impl Into<String>, what: &str) {
        self.add(path, "REQUIRED", format!("is required: {what}"));
    }

    /// The value that was read; what is wrong with it is noted, and there is none.
    pub fn take<T>(&mut self, path: &str, reason: &'static str, value: Result<T, String>) -> Option<T> {
        value.map_err(|description| self.add(path, reason, description)).ok()
    }

    pub fn at_most(&mut self, path: &str, count: usize, most: usize, what: &str) {
        if count > most {
            self.add(path, "TOO_MANY", format!("has {count} {what}; at most {most} are allowed"));
        }
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    pub fn into_result(self) -> Result<(), Vec<Problem>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }
}

/// The key of a map as it may stand in a path, and whether it is a name that a map of ours may have.
pub(super) fn name_problem(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (name.is_empty() || name.len() > 64 || !name.bytes().all(allowed))
        .then_some("must be 1 to 64 letters, digits, `_` and `-` in ASCII")
}

/// A key from a caller, made harmless for a path.
pub(super) fn shown(key: &str) -> String {
    match key.len() <= 128 && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => key.to_owned(),
        false => format!("{:?}", key.chars().take(64).collect::<String>()),
    }
}

/// The words of a closed list, for an error.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
