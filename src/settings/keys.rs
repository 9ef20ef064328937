//! Where the key comes from that seals the secrets.
//!
//! It must not know how keys are derived or checked: that is `crypto`'s, which also refuses well-known keys.

use std::path::{Path, PathBuf};

use super::{
    options::{Opt, Problem},
    reader::Reader,
    secret::SecretText,
    values,
};

const DIR: Opt = Opt::new(
    "key-dir",
    "SIGNALBOX_KEY_DIR",
    "keys.dir",
    "DIR",
    "Directory of generated keys (encryption.key, jwt.key); by default the data directory",
);
const FILE: Opt = Opt::new(
    "encryption-key-file",
    "ENCRYPTION_KEY_FILE",
    "keys.encryption_key_file",
    "FILE",
    "File with the encryption keys, one a line, the current one first",
);
const KEY: Opt = Opt::secret("ENCRYPTION_KEY", "Encryption keys, comma-separated, the current one first");
const PASSWORD: Opt = Opt::secret("ENCRYPTION_PASSWORD", "Password that the encryption key is derived from");

/// The options of this section.
pub static OPTIONS: [&Opt; 4] = [&DIR, &FILE, &KEY, &PASSWORD];

/// Shorter passwords are guessed.
const PASSWORD_CHARS: usize = 12;

/// Where the keys come from. All that are given open, the first of file, environment and password is current; without
/// any, one is made, which is read only as long as none is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Directory of generated keys.
    pub dir: PathBuf,
    /// File with the encryption keys.
    pub encryption_key_file: Option<PathBuf>,
    /// Encryption keys from the environment, comma-separated.
    pub encryption_key: Option<SecretText>,
    /// Password that the encryption key is derived from.
    pub encryption_password: Option<SecretText>,
}

impl Keys {
    /// Reads the section; generated keys lie in the data directory unless something else is said.
    pub fn read(from: &mut Reader<'_>, data_dir: &Path) -> Option<Self> {
        let dir = from.optional(&DIR, values::path);
        let file = from.optional(&FILE, values::path);
        let key = from.secret(&KEY);
        let password = from.secret(&PASSWORD);
        Some(Self {
            dir: dir?.unwrap_or_else(|| data_dir.to_owned()),
            encryption_key_file: file?,
            encryption_key: key?,
            encryption_password: password?,
        })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let file = self.encryption_key_file.as_deref().and_then(|path| Problem::unless_file(&FILE, path));
        let password = self.encryption_password.as_ref().and_then(|password| {
            let short = password.expose().chars().count() < PASSWORD_CHARS;
            short.then(|| {
                Problem::with(
                    &PASSWORD,
                    format_args!("is too short; give at least {PASSWORD_CHARS} characters"),
                )
            })
        });
        let dir = self
            .dir
            .is_file()
            .then(|| Problem::with(&DIR, format_args!("{} is a file; give a directory", self.dir.display())));
        [file, password, dir].into_iter().flatten().collect()
    }

    /// What an operator should know about it.
    #[must_use]
    pub fn warnings(&self, data_dir: &Path) -> Vec<String> {
        let given: Vec<&str> = [
            (&FILE, self.encryption_key_file.is_some()),
            (&KEY, self.encryption_key.is_some()),
            (&PASSWORD, self.encryption_password.is_some()),
        ]
        .into_iter()
        .filter_map(|(option, given)| given.then_some(option.env))
        .collect();
        let mut warnings = Vec::new();
        if let [first, others @ ..] = given.as_slice()
            && !others.is_empty()
        {
            let others = others.join(" and ");
            warnings
                .push(format!("{first} holds the current key; {others} only opens what it sealed before"));
        }
        if given.is_empty() && self.dir == data_dir {
            warnings.push(format!(
                "the encryption key lies beside the database in {}: whoever copies the directory reads the secrets; \
                 give another --key-dir ({}), and back the key up apart from the data",
                data_dir.display(),
                DIR.env
            ));
        }
        warnings
    }
}
