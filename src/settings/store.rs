//! Where configuration is kept, and for how long its history is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values::{self, Wrong},
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
    "The database: sqlite://PATH; by default sqlite://{data-dir}/signalbox.db",
);
const RETENTION: Opt = Opt::new(
    "retention",
    "SIGNALBOX_RETENTION",
    "store.retention",
    "TIME",
    "How long history is kept, or off to keep it for ever",
)
.or("90d");

/// The options of this section.
pub static OPTIONS: [&Opt; 3] = [&DATA_DIR, &DATABASE_URL, &RETENTION];

/// Name of the database file in the data directory.
const DATABASE_FILE: &str = "signalbox.db";

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// Where configuration is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Directory of whatever the server keeps.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// How long history is kept; `None` for ever.
    pub retention: Option<Duration>,
}

impl Store {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let data_dir = from.get(&DATA_DIR, values::path);
        let database = from.optional(&DATABASE_URL, database);
        let retention = from.get(&RETENTION, values::duration_or_off);
        let data_dir = data_dir?;
        let database = database?.unwrap_or_else(|| Database::Sqlite(data_dir.join(DATABASE_FILE)));
        Some(Self { data_dir, database, retention: retention? })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let Database::Sqlite(file) = &self.database;
        let hour = Duration::from_secs(3600);
        let bounds = (hour, hour * 24 * 36_500);
        let retention = self
            .retention
            .and_then(|time| Problem::unless_between(&RETENTION, time, bounds, values::show_duration));
        let no_directory = |option, path: &Path| {
            let what = format_args!("{} is a file; give a directory", path.display()).to_string();
            path.is_file().then(|| Problem::with(option, what))
        };
        let no_file = file.is_dir().then(|| {
            Problem::with(&DATABASE_URL, format_args!("{} is a directory; give a file", file.display()))
        });
        [retention, no_directory(&DATA_DIR, &self.data_dir), no_file].into_iter().flatten().collect()
    }
}

/// Reads the URL. It may hold a password, so no error repeats it.
fn database(url: &str) -> Result<Database, Wrong> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => sqlite(url),
        "postgres" | "postgresql" => Err("PostgreSQL is not supported by this version yet; \
             leave the setting out or give sqlite://PATH"
            .to_owned()),
        _ => Err("is not the URL of a supported database; give sqlite://PATH, for example sqlite://data/signalbox.db"
            .to_owned()),
    }
}

fn sqlite(url: &str) -> Result<Database, Wrong> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    // `sqlite:///absolute` has three slashes, of which the last belongs to the path.
    let path = if url.starts_with("sqlite:///") {
        format!("/{}", path.trim_start_matches('/'))
    } else {
        path.to_owned()
    };
    if path.is_empty() || path == ":memory:" {
        return Err(
            "needs the path of a file that outlives the process, for example sqlite://data/signalbox.db"
                .to_owned(),
        );
    }
    if path.contains(['?', '#']) {
        return Err("takes no parameters; give sqlite://PATH and nothing after it".to_owned());
    }
    Ok(Database::Sqlite(PathBuf::from(path)))
}
