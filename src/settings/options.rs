//! What an option is called in each place that it can be given in, and what is wrong with one.
//!
//! It must not know any particular option: each section declares its own as constants of [`Opt`]. Help texts, look-ups
//! and complaints are all made from these, so that they can't disagree.

use std::fmt;

/// One option of the server.
#[derive(Debug)]
pub struct Opt {
    /// The flag without its dashes; `None` for secrets, which everybody could see in the list of processes.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub env: &'static str,
    /// Section and key in the file; `None` for secrets and for the file's own name.
    pub key: Option<&'static str>,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// The value when nothing is given, as somebody would write it; empty for none.
    pub default: &'static str,
    /// What it is for, in a sentence.
    pub help: &'static str,
    /// Whether the flag alone, without a value, means `true`.
    pub switch: bool,
    /// Whether the flag may be repeated; in one value commas stand between.
    pub list: bool,
}

impl Opt {
    /// An option that has no default: `new("jwks-file", "SIGNALBOX_JWKS_FILE", "jwt.jwks_file", "FILE", "…")`.
    #[must_use]
    pub const fn new(
        flag: &'static str,
        env: &'static str,
        key: &'static str,
        value: &'static str,
        help: &'static str,
    ) -> Self {
        Self { flag: Some(flag), env, key: Some(key), value, default: "", help, switch: false, list: false }
    }

    /// A secret: only ever read from the environment.
    #[must_use]
    pub const fn secret(env: &'static str, help: &'static str) -> Self {
        Self { flag: None, env, key: None, value: "SECRET", default: "", help, switch: false, list: false }
    }

    /// With a default.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// As a list, whose flag may be repeated.
    #[must_use]
    pub const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    /// As a switch that is off by default.
    #[must_use]
    pub const fn switch(mut self) -> Self {
        self.switch = true;
        self.default = "false";
        self
    }
}

impl fmt::Display for Opt {
    /// Every name that it has: `--listen (SIGNALBOX_LISTEN, listen.address in the file)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.flag, self.key) {
            (Some(flag), Some(key)) => write!(out, "--{flag} ({}, {key} in the file)", self.env),
            (Some(flag), None) => write!(out, "--{flag} ({})", self.env),
            (None, _) => out.write_str(self.env),
        }
    }
}

/// Something that is wrong with the settings, in a sentence that says where and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A problem with an option.
    #[must_use]
    pub fn with(option: &Opt, what: impl fmt::Display) -> Self {
        Self(format!("{option}: {what}"))
    }

    /// A problem with something that is not an option, such as the file as a whole.
    #[must_use]
    pub fn elsewhere(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self(format!("{place}: {what}"))
    }

    /// A problem if the value lies outside its bounds.
    pub fn unless_between<T: PartialOrd + Copy>(
        option: &Opt,
        value: T,
        (least, most): (T, T),
        show: impl Fn(T) -> String,
    ) -> Option<Self> {
        let inside = least <= value && value <= most;
        (!inside).then(|| {
            Self::with(
                option,
                format_args!("{} is out of range; give {} to {}", show(value), show(least), show(most)),
            )
        })
    }

    /// A problem if the file is not there, or is no file.
    pub fn unless_file(option: &Opt, path: &std::path::Path) -> Option<Self> {
        let what = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => "is a directory; give a file".to_owned(),
            Ok(_) => return None,
            Err(error) => format!("can't be read: {error}"),
        };
        Some(Self::with(option, format_args!("{} {what}", path.display())))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
