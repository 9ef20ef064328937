//! Where configuration is kept, for how long its history is, and what a store begins with.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    database::{Database, Encryption},
    options::{Opt, Problem},
    reader::Reader,
    values,
};

const DATA_DIR: Opt = Opt::new(
    "data-dir",
    "SIGNALBOX_DATA_DIR",
    "store.data_dir",
    "DIR",
    "Directory of the database and of whatever else the server keeps",
)
.or("data");
const DATABASE_URL: Opt = Opt::new(
    "database-url",
    "SIGNALBOX_DATABASE_URL",
    "store.database_url",
    "URL",
    "The database: sqlite://PATH, or postgres://USER@HOST/DATABASE; by default sqlite://{data-dir}/signalbox.db",
);
const ALLOW_PLAINTEXT: Opt = Opt::new(
    "database-allow-plaintext",
    "SIGNALBOX_DATABASE_ALLOW_PLAINTEXT",
    "store.database_allow_plaintext",
    "BOOL",
    "Reach PostgreSQL on another machine without TLS: password and configuration then cross the network in the clear",
)
.switch();
const RETENTION: Opt = Opt::new(
    "retention",
    "SIGNALBOX_RETENTION",
    "store.retention",
    "TIME",
    "How long history is kept, or off to keep it for ever",
)
.or("90d");

const STARTERS: Opt = Opt::new(
    "starters",
    "SIGNALBOX_STARTERS",
    "store.starters",
    "WHAT",
    "What an empty store begins with: on (starter providers, the model catalogue, and what the environment and .env \
     hold of providers and databases), or off",
)
.or("on");

/// The options of this section.
pub static OPTIONS: [&Opt; 5] = [&DATA_DIR, &DATABASE_URL, &ALLOW_PLAINTEXT, &RETENTION, &STARTERS];

/// Name of the database file in the data directory.
const DATABASE_FILE: &str = "signalbox.db";

/// Where configuration is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Directory of whatever the server keeps.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// Whether a database on another machine may be reached without TLS.
    pub allow_plaintext: bool,
    /// How long history is kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Whether an empty store is given starters, and what the environment holds.
    pub starters: bool,
}

impl Store {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let data_dir = from.get(&DATA_DIR, values::path);
        let database = from.optional(&DATABASE_URL, Database::parse);
        let allow_plaintext = from.get(&ALLOW_PLAINTEXT, values::switch);
        let retention = from.get(&RETENTION, values::duration_or_off);
        let starters = from.get(&STARTERS, |text| values::word(text, &[("on", true), ("off", false)]));
        let data_dir = data_dir?;
        let database = database?.unwrap_or_else(|| Database::Sqlite(data_dir.join(DATABASE_FILE)));
        let (allow_plaintext, retention, starters) = (allow_plaintext?, retention?, starters?);
        Some(Self { data_dir, database, allow_plaintext, retention, starters })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let hour = Duration::from_secs(3600);
        let bounds = (hour, hour * 24 * 36_500);
        let retention = self
            .retention
            .and_then(|time| Problem::unless_between(&RETENTION, time, bounds, values::show_duration));
        let no_directory = |option, path: &Path| {
            let what = format_args!("{} is a file; give a directory", path.display()).to_string();
            path.is_file().then(|| Problem::with(option, what))
        };
        [retention, no_directory(&DATA_DIR, &self.data_dir), self.validate_database()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn validate_database(&self) -> Option<Problem> {
        match &self.database {
            Database::Sqlite(file) => file.is_dir().then(|| {
                Problem::with(&DATABASE_URL, format_args!("{} is a directory; give a file", file.display()))
            }),
            Database::Postgres(_) if self.allow_plaintext => None,
            Database::Postgres(url) => (!url.local && url.encryption == Encryption::None).then(|| {
                Problem::with(
                    &DATABASE_URL,
                    "leads to another machine, and without TLS password and configuration would cross the network in \
                     the clear; add ?sslmode=verify-full (and sslrootcert=FILE), or say --database-allow-plaintext \
                     (SIGNALBOX_DATABASE_ALLOW_PLAINTEXT) if something else encrypts",
                )
            }),
        }
    }

    /// What an operator should know about it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Database::Postgres(url) = &self.database else { return Vec::new() };
        let warning = match url.encryption {
            _ if url.local => return Vec::new(),
            Encryption::Verified => return Vec::new(),
            Encryption::None => {
                "the database on another machine is reached without TLS: whoever sees the traffic reads it"
            }
            Encryption::Unverified => {
                "the certificate of the database is not verified: whoever stands in between can pose as it; \
                 say sslmode=verify-full"
            }
        };
        vec![warning.to_owned()]
    }
}
