//! Formats of other systems: files are converted here, and what became of each item is told.
//!
//! Nothing is changed before everything is converted and the server has agreed; what was made beside the files on the way is
//! taken away again where it does not.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::{
    app::{SecretText, private_file},
    cli::{
        args::Import,
        failure::{Exit, Failure, Outcome},
        input::Input,
        session::{Format as Output, Session},
        table, text,
    },
    import::{self, Environment, File, ForeignKeys, Format, Imported, Item, Takes},
    proto::v1::{ImportConfigResponse, ImportItem, ImportMode, ImportOutcome, Resource},
};

/// Items that are listed although nothing is to be known of them.
const LISTED: usize = 50;

/// Converts files.
///
/// # Errors
/// Everything in them that can't be read; nothing was changed then.
pub fn convert(
    session: &Session<'_>,
    format: &Format,
    inputs: &[Input],
    args: &Import,
) -> Result<Imported, Failure> {
    let files: Vec<File> = inputs
        .iter()
        .map(|input| File { name: input.place.clone(), text: SecretText::from(input.text.as_str()) })
        .collect();
    let keys = keys(args)?;
    let environment: Environment<'_> = &|name| session.variable(name);
    let input = import::Input { files: &files, environment, keys: &keys };
    (format.convert)(&input).map_err(|problems| {
        let lines: Vec<String> = problems.to_string().lines().map(text::printable).collect();
        Failure::told(Exit::Failed, format!("nothing was imported:\n{}", lines.join("\n")))
    })
}

/// The resources as the server takes them.
#[must_use]
pub fn items(imported: &Imported) -> Vec<ImportItem> {
    let item = |resource: &Resource| {
        let only_new = imported.only_new.contains_key(&resource.name);
        let mode = if only_new { ImportMode::Keep } else { ImportMode::Unspecified };
        ImportItem { resource: Some(resource.clone()), update_mask: None, mode: mode.into() }
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

/// Tells what became of each item: a table, or lines beside a document. Of many, those that are as they were are only counted.
pub fn tell(session: &mut Session<'_>, imported: &Imported) -> Outcome {
    let as_it_was = |item: &&Item| item.outcome == import::Outcome::Imported && item.note.is_empty();
    let all = imported.items.len() <= LISTED;
    let listed: Vec<&Item> = imported.items.iter().filter(|item| all || !as_it_was(item)).collect();
    let row = |item: &&Item| {
        [item.from.as_str(), item.to.as_str(), item.outcome.word(), item.note.as_str()]
            .map(text::printable)
            .to_vec()
    };
    let counts = [
        import::Outcome::Imported,
        import::Outcome::Changed,
        import::Outcome::Defaulted,
        import::Outcome::LeftOut,
        import::Outcome::Kept,
    ]
    .map(|outcome| format!("{} {}", imported.count(outcome), outcome.word()));
    if session.format == Output::Table && !session.quiet {
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        if !rows.is_empty() {
            session.line(&table::plain(&["FROM", "TO", "RESULT", "NOTE"], rows))?;
        }
        return session.line(&format!("{} items: {}", imported.items.len(), counts.join(", ")));
    }
    for item in listed.iter().filter(|item| !as_it_was(item)) {
        session.remark(&text::printable(&item.to_string()));
    }
    Ok(())
}

/// Names what was left alone, why, and how to have it otherwise.
pub fn tell_kept(session: &mut Session<'_>, imported: &Imported, answer: &ImportConfigResponse) {
    for name in kept(answer) {
        session.remark(&format!("kept: {}: {}", text::printable(name), imported.why_kept(name)));
    }
}

/// The resources that the server left alone.
pub fn kept(answer: &ImportConfigResponse) -> impl Iterator<Item = &str> {
    let skipped = answer.resources.iter().filter(|one| one.outcome() == ImportOutcome::Skipped);
    skipped.map(|one| one.name.as_str())
}

/// Copies of files, which are taken away again unless they are kept.
#[derive(Default)]
pub struct Backups {
    made: Vec<PathBuf>,
    kept: bool,
}

impl Backups {
    /// Copies the files beside themselves where the format wants it: `NAME.20261127T181500Z.bak`, which only we can read.
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
            let path = name_of(file, now);
            write(&path, input.text.as_bytes()).map_err(|error| {
                Failure::told(Exit::Failed, format!("can't keep a copy as {}: {error}", path.display()))
            })?;
            backups.made.push(path);
        }
        Ok(backups)
    }

    /// Lets them stay, and tells where they are.
    pub fn keep(mut self, session: &mut Session<'_>) {
        self.kept = true;
        for path in &self.made {
            session.remark(&format!("a copy is kept as {}", path.display()));
        }
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        if !self.kept {
            for path in &self.made {
                // One that can't be taken away harms nobody.
                let _ = fs::remove_file(path);
            }
        }
    }
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
