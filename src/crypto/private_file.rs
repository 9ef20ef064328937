//! Files that hold keys and tokens: who may own them, who may read them, and how they come to be.
//!
//! It knows nothing of what is inside. Errors name the path and what to do, never the content.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};
use zeroize::Zeroizing;

use super::SecretText;

/// More than any key, JWKS or token has.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a private file was not read or not made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("the file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is there already, and is never overwritten.
    #[error("the file {} exists already and is not overwritten; move it away first", .0.display())]
    Exists(PathBuf),
    /// Its owner or mode is not safe.
    #[error("the file {} is refused: {problem}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: Exposure,
    },
    /// It is a directory, a device, too long, or not text.
    #[error("the file {} is not a text file of at most {MAX_BYTES} bytes", .0.display())]
    NotText(PathBuf),
    /// The system refused.
    #[error("the file {} can't be {action}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `made`.
        action: &'static str,
        /// The system's word for it.
        error: io::Error,
    },
}

/// How a file is exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// Everybody has some access.
    #[error(
        "everybody on this machine has access (mode {0:04o}); run `chmod 0600` on it, or set defaultMode 0440 on a Kubernetes mount"
    )]
    Others(u32),
    /// Everybody may write.
    #[error("everybody on this machine may write to it (mode {0:04o}); run `chmod o-w` on it")]
    OthersWrite(u32),
    /// Its group may write.
    #[error("its group may write to it (mode {0:04o}); run `chmod g-w` on it")]
    GroupWrites(u32),
    /// Somebody else owns it.
    #[error("it belongs to user {owner}; it must belong to root or to the user that runs this server ({us})")]
    Owner {
        /// The user who owns it.
        owner: u32,
        /// The user who runs this process.
        us: u32,
    },
}

/// Reads a file that only root, we, and readers of its group have access to. Links are followed.
///
/// # Errors
/// When it is missing, exposed, too long, not text, or can't be read.
pub fn read(path: &Path) -> Result<SecretText, FileError> {
    read_checked(path, check_private)
}

/// Reads a file that everybody may know but only root or we may write, for example a public key.
///
/// # Errors
/// As [`read`].
pub fn read_public(path: &Path) -> Result<SecretText, FileError> {
    read_checked(path, check_unforged)
}

type Check = fn(mode: u32, owner: u32, us: u32) -> Result<(), Exposure>;

fn read_checked(path: &Path, check: Check) -> Result<SecretText, FileError> {
    let io_error = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => FileError::Io { path: path.to_owned(), action: "read", error },
    };
    // Without NONBLOCK, opening a pipe would wait for ever.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(io_error)?;
    let metadata = file.metadata().map_err(io_error)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(FileError::NotText(path.to_owned()));
    }
    check(metadata.mode(), metadata.uid(), geteuid().as_raw())
        .map_err(|problem| FileError::Unsafe { path: path.to_owned(), problem })?;
    // Reserved at once: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::NotText(path.to_owned()));
    }
    SecretText::from_utf8(bytes.to_vec()).ok_or_else(|| FileError::NotText(path.to_owned()))
}

/// Makes a file of mode 0600 that holds `text` and a line end, and waits until it is on the disk.
///
/// It is there whole or not at all, even after a crash: written under another name, and then linked to its own,
/// which fails where a file is already. A missing directory is made with mode 0700.
///
/// # Errors
/// When there is a file already, or the system refuses.
pub fn create(path: &Path, text: &SecretText) -> Result<(), FileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = directory.join(format!(".{}.draft", uuid::Uuid::new_v4()));
    let made = write_draft(directory, &draft, text)
        .and_then(|()| fs::hard_link(&draft, path))
        .and_then(|()| File::open(directory)?.sync_all());
    // The draft may be missing if it could not be made; the first error is the one that counts.
    let _ = fs::remove_file(&draft);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io { path: path.to_owned(), action: "made", error },
    })
}

fn write_draft(directory: &Path, draft: &Path, text: &SecretText) -> io::Result<()> {
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// The rule of security.md: others nothing, the group no writing, owned by root or by us.
fn check_private(mode: u32, owner: u32, us: u32) -> Result<(), Exposure> {
    if mode & 0o007 != 0 {
        return Err(Exposure::Others(mode & 0o7777));
    }
    check_unforged(mode, owner, us)
}

fn check_unforged(mode: u32, owner: u32, us: u32) -> Result<(), Exposure> {
    let mode = mode & 0o7777;
    if mode & 0o002 != 0 {
        return Err(Exposure::OthersWrite(mode));
    }
    if mode & 0o020 != 0 {
        return Err(Exposure::GroupWrites(mode));
    }
    if owner != 0 && owner != us {
        return Err(Exposure::Owner { owner, us });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn modes_and_owners() {
        let check = check_private;
        for mode in [0o400, 0o600, 0o440, 0o640, 0o700] {
            assert_eq!(check(0o100_000 | mode, 0, 1000), Ok(()), "{mode:o}");
            assert_eq!(check(0o100_000 | mode, 1000, 1000), Ok(()), "{mode:o}");
            assert_eq!(check(mode, 7, 1000), Err(Exposure::Owner { owner: 7, us: 1000 }));
            // Root does not trust files of others either: they could have put their own key there.
            assert_eq!(check(mode, 7, 0), Err(Exposure::Owner { owner: 7, us: 0 }));
        }
        for mode in [0o644, 0o604, 0o602, 0o601, 0o777, 0o447] {
            assert_eq!(check(mode, 0, 0), Err(Exposure::Others(mode)), "{mode:o}");
        }
        for mode in [0o660, 0o620, 0o670] {
            assert_eq!(check(mode, 0, 0), Err(Exposure::GroupWrites(mode)), "{mode:o}");
        }
        assert_eq!(check_unforged(0o644, 0, 1000), Ok(()));
        assert_eq!(check_unforged(0o646, 0, 1000), Err(Exposure::OthersWrite(0o646)));
        assert_eq!(check_unforged(0o664, 0, 1000), Err(Exposure::GroupWrites(0o664)));
    }

    #[test]
    fn made_once_private_and_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new").join("a.key");
        create(&path, &"one".into()).unwrap();
        assert!(matches!(create(&path, &"two".into()), Err(FileError::Exists(_))));
        assert_eq!(read(&path).unwrap_or_default().expose(), "one\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn refuses_what_is_exposed_or_no_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        create(&path, &"one".into()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            read(&path).err(),
            Some(FileError::Unsafe { problem: Exposure::Others(0o644), .. })
        ));
        assert!(matches!(read(home.path()).err(), Some(FileError::NotText(_))));
        assert!(matches!(read(&home.path().join("b")).err(), Some(FileError::Missing(_))));
        let link = home.path().join("link");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_ok(), "Kubernetes mounts are links");
    }
}
