//! The last known good state on disk, encrypted and authenticated, so that a worker starts while the service is away.
//!
//! Owns the file: who may have access to it, how it is replaced, what is refused. What stands in it is `format`'s, when it is
//! written is `keeper`'s. Must not know streams.

mod format;
mod identity;
pub(super) mod keeper;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use super::{clock::wall, error::Error, file, secret::SecretText, settings::Overrides};
use format::Saved;
pub(super) use identity::Identity;

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 30;
/// A shorter secret could be guessed, and the file tried offline.
const MIN_KEY: usize = 32;
/// A larger file is no key.
const MAX_KEY_BYTES: usize = 64 * 1024;
/// A temporary file that is older is written by nobody any more.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// Clocks of two boots may differ by so much.
const SKEW: Duration = Duration::from_secs(300);

/// Why the cache on disk is not used, or can't be written. The client goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It can't be read. A symbolic link is not followed.
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Others than this user own it or have access to it, or it is no regular file.
    #[error("{} is not used: others have access to it or own it, or it is no file", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// It is no cache, or one of another version.
    #[error("{} is not used: it is no cache of this version", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// It does not open: it was changed, or is of another key, service, view or token subject. Which of them, the file alone
    /// does not tell.
    #[error("{} is not used: it was changed, or is of another key, service, view or token subject", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The store confirmed it too long ago.
    #[error("{} is not used: it is {age:?} old, and the limit is {limit:?}", path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// How old it is.
        age: Duration,
        /// How old it may be.
        limit: Duration,
    },
    /// It was confirmed in the future, by this machine's clock.
    #[error("{} is not used: it is of the future", path.display())]
    Future {
        /// The file.
        path: PathBuf,
    },
    /// Whose it has to be is not known, because the token can't be read.
    #[error("the cache on disk is not used: {0}")]
    Token(Box<Error>),
    /// It can't be written or removed.
    #[error("{} can't be written: {cause}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Where a cache is kept, and what it is sealed with.
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheOptions {
    pub(super) path: PathBuf,
    key: Key,
    max_age: Duration,
}

#[derive(Clone, Debug)]
enum Key {
    Given(SecretText),
    File(PathBuf),
}

impl CacheOptions {
    /// A file, and the secret that its key is derived from: at least 32 characters, made at random.
    pub fn new(path: impl Into<PathBuf>, key: SecretText) -> Self {
        Self::with(path.into(), Key::Given(key))
    }

    /// A file, and a file with that secret, to which nobody else may have access.
    pub fn with_key_file(path: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::with(path.into(), Key::File(key.into()))
    }

    /// How long after its confirmation a cache is used; a day by default. [`Staleness`](super::Staleness) applies besides, so
    /// that secrets are refused earlier.
    pub fn max_age(mut self, limit: Duration) -> Self {
        self.max_age = limit;
        self
    }

    fn with(path: PathBuf, key: Key) -> Self {
        Self { path, key, max_age: Duration::from_secs(86_400) }
    }

    /// Reads the key, and checks it.
    pub(super) fn open(&self) -> Result<DiskCache, Error> {
        let key = match &self.key {
            Key::Given(key) => key.clone(),
            Key::File(path) => read_key(path)?,
        };
        if key.expose().len() < MIN_KEY {
            let rule = "the key of the cache on disk has at least 32 characters, made at random";
            return Err(Error::Options(rule.to_owned()));
        }
        Ok(DiskCache { path: self.path.clone(), key, max_age: self.max_age })
    }
}

fn read_key(path: &Path) -> Result<SecretText, Error> {
    let failed = |cause: io::Error| Error::CacheKey { path: path.to_owned(), cause };
    let (file, status) = file::open(path).map_err(failed)?;
    let user = rustix::process::geteuid().as_raw();
    if status.mode() & 0o027 != 0 || (status.uid() != 0 && status.uid() != user) {
        let why = "others have access to it, its group may write it, or others own it";
        return Err(failed(io::Error::other(why)));
    }
    let bytes = file::content(file, &status, MAX_KEY_BYTES).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| failed(io::Error::other(error)))?;
    Ok(SecretText::new(text.trim()))
}

/// One file.
#[derive(Clone)]
pub(super) struct DiskCache {
    path: PathBuf,
    key: SecretText,
    max_age: Duration,
}

impl DiskCache {
    /// What the file holds; `None` where there is none. `now` is the machine's time since 1970.
    pub(super) fn load(
        &self,
        identity: &Identity,
        overrides: Arc<Overrides>,
        now: Duration,
    ) -> Result<Option<Saved>, CacheError> {
        let path = || self.path.clone();
        let Some(content) = self.read()? else { return Ok(None) };
        if !format::is_cache(&content) {
            return Err(CacheError::Unknown { path: path() });
        }
        let saved = format::open(content, &self.key, identity, overrides);
        let saved = saved.ok_or_else(|| CacheError::Foreign { path: path() })?;
        if saved.confirmed > now + SKEW {
            return Err(CacheError::Future { path: path() });
        }
        let age = now.saturating_sub(saved.confirmed);
        if age > self.max_age {
            return Err(CacheError::TooOld { path: path(), age, limit: self.max_age });
        }
        Ok(Some(saved))
    }

    /// Replaces the file as a whole, unless another process has put a later state there meanwhile.
    pub(super) fn save(&self, identity: &Identity, saved: &Saved) -> Result<(), CacheError> {
        if self.holds_later(identity, saved) {
            return Ok(());
        }
        let sealed = format::seal(saved, &self.key, identity);
        let sealed = sealed.ok_or_else(|| io::Error::other("it can't be sealed"));
        sealed.and_then(|sealed| self.replace(&sealed)).map_err(|cause| self.unwritable(cause))
    }

    /// Whether the file makes a state needless. What can't be read does not.
    fn holds_later(&self, identity: &Identity, saved: &Saved) -> bool {
        let content = self.read().ok().flatten().filter(|content| format::is_cache(content));
        content.is_some_and(|content| format::is_later(content, &self.key, identity, saved, wall() + SKEW))
    }

    /// Removes what processes that were killed while they wrote have left beside the file.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.folder()) else { return };
        let begin = self.temporary_prefix();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digits = name.strip_prefix(&begin).filter(|digits| digits.len() == 16);
            let ours = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let status = entry.metadata().ok().filter(|status| ours && status.is_file());
            let age = status.and_then(|status| status.modified().ok()?.elapsed().ok());
            if age.is_some_and(|age| age > LEFT_BEHIND) {
                // It is in nobody's way if it stays.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    /// What the names of its temporary files begin with; 16 hexadecimal digits follow.
    fn temporary_prefix(&self) -> String {
        format!(".{}.", self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Takes the file away, if there is one.
    pub(super) fn remove(&self) -> Result<(), CacheError> {
        match fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(self.unwritable(cause)),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Option<Vec<u8>>, CacheError> {
        let failed = |cause| CacheError::Unreadable { path: self.path.clone(), cause };
        // A pipe without a writer must not be waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let status = file.metadata().map_err(failed)?;
        let ours = status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o077 == 0;
        if !status.is_file() || !ours || status.len() > MAX_BYTES {
            return Err(CacheError::NotPrivate { path: self.path.clone() });
        }
        let mut content = Vec::new();
        (&mut file).take(MAX_BYTES).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(content))
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let folder = self.folder();
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let name = format!("{}{:016x}", self.temporary_prefix(), rand::random::<u64>());
        let temporary = folder.join(name);
        let written = write(&temporary, content).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // What could not be put in its place is of no use; the error that counts is the first.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn unwritable(&self, cause: io::Error) -> CacheError {
        CacheError::Unwritable { path: self.path.clone(), cause }
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
