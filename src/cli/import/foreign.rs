//! Formats of other systems: files are converted here, and what became of each item is told.
//!
//! Nothing is changed before everything is converted and the server has agreed; what was made beside the files on the way is
//! taken away again where it refuses or nothing had to be changed, and stays while nobody knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use prost_types::FieldMask;

use crate::{
    app::{SecretText, private_file},
    cli::{
        args::Import,
        failure::{Exit, Failure, Outcome},
        input::Input,
        session::{Format as Output, Session},
        table, text,
    },
    import::{self, Environment, File, ForeignKeys, Format, Imported, Item, Kept, Problems, Takes},
    proto::v1::{ImportConfigResponse, ImportItem, ImportMode, ImportOutcome, ImportedResource, Resource},
};

/// What can be done about what is not valid.
const SKIP: &str =
    "\nmend this, or leave it out with --skip-invalid; see first what else would be imported, with --dry-run";

/// The same where nothing else is there.
const MEND: &str = "\nmend this: nothing else is there, so that --skip-invalid would leave nothing to import";

/// The same of a file that can't be read at all.
const UNREAD: &str =
    "\nmend this: --skip-invalid leaves out what is not valid in a file, and no file that can't be read";

/// What --skip-invalid comes to where nothing else is there.
const NOTHING_LEFT: &str = "\nmend this: without what is not valid nothing is left to import";

/// Fields that a row names.
const FIELDS: usize = 8;

/// Items that are listed although nothing is to be known of them.
const LISTED: usize = 50;

/// Characters of a name that a table shows: names of a foreign file may be of any length, and one makes every row as wide.
const WIDTH: usize = 120;

/// Converts files; providers get these `ids` instead of those that are made up.
///
/// # Errors
/// Everything in them that can't be read; nothing was changed then.
pub fn convert(
    session: &Session<'_>,
    format: &Format,
    inputs: &[Input],
    args: &Import,
    ids: &[(String, String)],
) -> Result<Imported, Failure> {
    let files: Vec<File> = inputs
        .iter()
        .map(|input| File { name: input.place.clone(), text: SecretText::from(input.text.as_str()) })
        .collect();
    let keys = keys(args)?;
    let environment: Environment<'_> = &|name| session.variable(name);
    let input = import::Input { files: &files, environment, keys: &keys, only: &args.only, ids };
    let nothing = |problems: Problems, how: &str| {
        let lines: Vec<String> = problems.to_string().lines().map(text::printable).collect();
        Failure::told(Exit::Failed, format!("nothing was imported:\n{}{how}", lines.join("\n")))
    };
    let nothing_left = if args.skip_invalid { NOTHING_LEFT } else { MEND };
    let imported = (format.convert)(&input).map_err(|problems| nothing(problems, UNREAD))?;
    match (args.skip_invalid, imported.resources.is_empty()) {
        (true, false) => Ok(imported.without_invalid()),
        (false, false) => imported.whole().map_err(|problems| nothing(problems, SKIP)),
        (_, true) => imported.whole().map_err(|problems| nothing(problems, nothing_left)),
    }
}

/// The resources as the server takes them. What is filled in elsewhere takes the place of what is there where one is to
/// `replace`.
#[must_use]
pub fn items(imported: &Imported, replace: bool) -> Vec<ImportItem> {
    let item = |resource: &Resource| {
        let fills = imported.fills.get(&resource.name).cloned();
        let mode = match (&fills, imported.only_new.contains_key(&resource.name)) {
            (Some(_), _) if replace => ImportMode::Update,
            (Some(_), _) => ImportMode::Fill,
            (None, true) => ImportMode::Keep,
            (None, false) => ImportMode::Unspecified,
        };
        let update_mask = fills.map(|paths| FieldMask { paths });
        ImportItem { resource: Some(resource.clone()), update_mask, mode: mode.into() }
    };
    imported.resources.iter().map(item).collect()
}

/// The keys that secrets in the files were sealed with.
fn keys(args: &Import) -> Result<ForeignKeys, Failure> {
    if let Some(path) = &args.fernet_key_file {
        let text = read_private("--fernet-key-file", path)?;
        return ForeignKeys::from_text(&text)
            .map_err(|problem| Failure::usage(format!("--fernet-key-file: {} {problem}", path.display())));
    }
    match (&args.password_file, &args.salt) {
        (Some(path), Some(salt)) => {
            let password = read_private("--password-file", path)?;
            let password = SecretText::from(password.expose().trim_end_matches(['\r', '\n']));
            Ok(ForeignKeys::from_password(&password, salt.as_bytes()))
        }
        _ => Ok(ForeignKeys::none()),
    }
}

fn read_private(flag: &str, path: &Path) -> Result<SecretText, Failure> {
    private_file::read(path).map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

/// What is known of an import when its items are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was done.
    Done,
    /// It was not done: tried, or refused.
    WouldBe,
    /// Nobody knows.
    Unknown,
}

/// Tells what became of each item: a table, or lines beside a document. Of many, those that are as they were are only counted.
pub fn tell(session: &mut Session<'_>, imported: &Imported, told: Told) -> Outcome {
    let as_it_was = |item: &&Item| item.outcome == import::Outcome::Imported && item.note.is_empty();
    let all = imported.items.len() <= LISTED;
    let listed: Vec<&Item> = imported.items.iter().filter(|item| all || !as_it_was(item)).collect();
    let row = |item: &&Item| {
        let [from, to] = [&item.from, &item.to].map(|name| text::clipped(&text::printable(name), WIDTH));
        vec![from, to, item.outcome.word().to_owned(), text::printable(&item.note)]
    };
    let counts = [
        import::Outcome::Imported,
        import::Outcome::Changed,
        import::Outcome::Defaulted,
        import::Outcome::LeftOut,
        import::Outcome::Refused,
        import::Outcome::Kept,
        import::Outcome::Unchanged,
    ]
    .map(|outcome| format!("{} {}", imported.count(outcome), outcome.word()));
    let (heading, verb) = match told {
        Told::Done => ("RESULT", "items"),
        Told::WouldBe => ("WOULD BE", "items, of which would be"),
        Told::Unknown => ("MAY BE", "items, of which may be"),
    };
    if session.format == Output::Table && !session.quiet {
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        if !rows.is_empty() {
            session.line(&table::plain(&["FROM", "TO", heading, "NOTE"], rows))?;
        }
        let unlisted = match imported.items.len() - listed.len() {
            0 => String::new(),
            count => format!(" ({count} that are as they were are not listed)"),
        };
        return session.line(&format!("{} {verb}: {}{unlisted}", imported.items.len(), counts.join(", ")));
    }
    for item in listed.iter().filter(|item| !as_it_was(item)) {
        session.remark(&text::printable(&item.to_string()));
    }
    Ok(())
}

/// Names what was left alone and no item tells of, why, and how to have it otherwise.
pub fn tell_kept(session: &mut Session<'_>, imported: &Imported, answer: &ImportConfigResponse) {
    let told: BTreeSet<&str> = imported.items.iter().map(|item| item.to.as_str()).collect();
    for (name, why) in kept(answer).into_iter().filter(|(name, _)| !told.contains(name.as_str())) {
        let why = imported.why_kept(&name, why);
        session.remark(&format!("kept: {}: {why}", text::printable(&name)));
    }
}

/// The resources that the server left alone, and why.
#[must_use]
pub fn kept(answer: &ImportConfigResponse) -> BTreeMap<String, Kept> {
    let why = |outcome| match outcome {
        ImportOutcome::Skipped => Some(Kept::Exists),
        ImportOutcome::ParentKept => Some(Kept::Elsewhere),
        ImportOutcome::InUse => Some(Kept::InUse),
        _ => None,
    };
    answer.resources.iter().filter_map(|one| Some((one.name.clone(), why(one.outcome())?))).collect()
}

/// The fields that were filled in, of the resources that were there already.
#[must_use]
pub fn filled(imported: &Imported, answer: &ImportConfigResponse) -> BTreeMap<String, BTreeSet<String>> {
    let there = |outcome| matches!(outcome, ImportOutcome::Updated | ImportOutcome::Unchanged);
    let filled = answer.resources.iter().filter(|one| imported.fills.contains_key(&one.name));
    let fields = |one: &ImportedResource| one.fields.iter().map(|field| field.path.clone()).collect();
    filled.filter(|one| there(one.outcome())).map(|one| (one.name.clone(), fields(one))).collect()
}

/// The fields of the resources that the import changes, but for the labels of importers.
#[must_use]
pub fn changed(answer: &ImportConfigResponse) -> BTreeMap<String, Vec<String>> {
    let updated = answer.resources.iter().filter(|one| one.outcome() == ImportOutcome::Updated);
    let fields = updated.map(|one| {
        let paths = one.fields.iter().map(|field| field.path.as_str());
        let told = paths.filter(|path| !path.strip_prefix("labels.").is_some_and(import::is_import_label));
        let mut told: Vec<String> = told.map(text::printable).collect();
        let more = told.len().saturating_sub(FIELDS);
        told.truncate(FIELDS);
        told.extend((more > 0).then(|| format!("and {more} more")));
        (one.name.clone(), told)
    });
    fields.filter(|(_, fields)| !fields.is_empty()).collect()
}

/// The resources that the store had already as they are in the files.
#[must_use]
pub fn unchanged(answer: &ImportConfigResponse) -> BTreeSet<String> {
    let same = answer.resources.iter().filter(|one| one.outcome() == ImportOutcome::Unchanged);
    same.map(|one| one.name.clone()).collect()
}

/// Copies of files. They stay unless they are taken away, however the command ends.
#[derive(Default)]
pub struct Backups {
    made: Vec<PathBuf>,
    /// Copies of the same content that an earlier import left.
    found: Vec<PathBuf>,
}

impl Backups {
    /// Copies the files beside themselves where the format wants it: `NAME.20261127T181500Z.bak`, which only we can read. A
    /// file of which there is such a copy is not copied again.
    ///
    /// # Errors
    /// When a copy can't be made; none is left then.
    pub fn make(
        format: &Format,
        files: &[PathBuf],
        inputs: &[Input],
        now: DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let mut backups = Self::default();
        if format.takes != Takes::FilesWithBackup {
            return Ok(backups);
        }
        for (file, input) in files.iter().zip(inputs).filter(|(file, _)| *file != Path::new("-")) {
            if let Some(copy) = copy_of(file, input.text.as_bytes()) {
                backups.found.push(copy);
                continue;
            }
            let path = name_of(file, now);
            if let Err(error) = write(&path, input.text.as_bytes()) {
                backups.take_away();
                let what = format!("can't keep a copy as {}: {error}", path.display());
                return Err(Failure::told(Exit::Failed, what));
            }
            backups.made.push(path);
        }
        Ok(backups)
    }

    /// Tells where they are.
    pub fn keep(self, session: &mut Session<'_>) {
        for path in self.made.iter().chain(&self.found) {
            session.remark(&format!("a copy is kept as {}", path.display()));
        }
    }

    /// Takes away those that were made.
    pub fn take_away(self) {
        for path in &self.made {
            // One that can't be taken away harms nobody.
            let _ = fs::remove_file(path);
        }
    }
}

/// A copy of this content beside a file, which an earlier import left and only its owner can read.
fn copy_of(file: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!("{}.", file.file_name()?.to_str()?);
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let private = fs::symlink_metadata(path).is_ok_and(|found| {
            found.is_file() && found.mode() & 0o7777 == 0o600 && found.len() == bytes.len() as u64
        });
        name.starts_with(&prefix)
            && name.ends_with(".bak")
            && private
            && fs::read(path).is_ok_and(|found| found == bytes)
    };
    fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(is_copy)
}

/// A name that is free: two imports in one second get two copies.
fn name_of(file: &Path, now: DateTime<Utc>) -> PathBuf {
    let stem = format!("{}.{}", file.display(), now.format("%Y%m%dT%H%M%SZ"));
    let numbered = (2..100).map(|number| format!("{stem}-{number}.bak"));
    let all = std::iter::once(format!("{stem}.bak")).chain(numbered);
    let mut paths = all.map(PathBuf::from);
    paths.find(|path| !path.exists()).unwrap_or_else(|| PathBuf::from(format!("{stem}.bak")))
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
