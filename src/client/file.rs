//! Small files that a client is given: tokens, keys, certificates.
//!
//! Owns how they are read: never for ever, and never more than is sensible. A pipe into which nobody writes, or a file without
//! an end, is a mistake that must take neither a thread nor the memory. Must not know what stands in them.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
    path::PathBuf,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, task::spawn_blocking, time::timeout};
use zeroize::Zeroizing;

/// How long whoever writes into a pipe may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a file without waiting for anybody. Links are followed: orchestrators put secrets in place by them.
///
/// # Errors
/// Where it can't be opened.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let status = file.metadata()?;
    Ok((file, status))
}

/// What stands in an open file, at most so many bytes.
///
/// # Errors
/// Where it is no file, is longer, or can't be read.
pub(super) fn content(file: File, status: &Metadata, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if !status.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit(most)).read_to_end(&mut bytes)?;
    bounded(bytes, most)
}

/// Reads a file, or what somebody writes into a pipe, as `<(...)` in a shell makes one; at most so many bytes.
///
/// # Errors
/// Where it is neither, is longer, can't be read, or takes too long.
pub(super) async fn read(path: &Path, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read_within(path, most, PATIENCE).await
}

async fn read_within(path: &Path, most: usize, patience: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = PathBuf::from(path);
    let opened = spawn_blocking(move || {
        let (file, status) = open(&path)?;
        if status.file_type().is_fifo() {
            return Ok(Opened::Pipe(file));
        }
        content(file, &status, most).map(Opened::Content)
    });
    match opened.await.map_err(io::Error::other)?? {
        Opened::Content(bytes) => Ok(bytes),
        Opened::Pipe(file) => {
            let mut bytes = Zeroizing::new(Vec::new());
            let mut pipe = pipe::Receiver::from_file(file)?.take(limit(most));
            let read = timeout(patience, pipe.read_to_end(&mut bytes)).await;
            read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            bounded(bytes, most)
        }
    }
}

enum Opened {
    Content(Zeroizing<Vec<u8>>),
    Pipe(File),
}

/// One byte more than what is taken, so that it is seen where there is more.
fn limit(most: usize) -> u64 {
    u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1)
}

fn bounded(bytes: Zeroizing<Vec<u8>>, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, process::Command};

    use super::*;

    fn pipe(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[tokio::test]
    async fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        assert_eq!(**read(&path, 4).await.unwrap(), *b"1234");
        assert!(read(&path, 3).await.unwrap_err().to_string().contains("longer than 3 bytes"));
        assert!(read(folder.path(), 4).await.unwrap_err().to_string().contains("no file"));
        assert!(read(&folder.path().join("none"), 4).await.is_err());
    }

    #[tokio::test]
    async fn regression_what_has_no_end_and_nobody_who_writes_is_not_waited_for() {
        assert!(read(Path::new("/dev/zero"), 4).await.unwrap_err().to_string().contains("no file"));
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(&folder);
        let refused = read_within(&path, 4, Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn regression_a_pipe_gives_what_is_written_and_no_more_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(&folder);
        // Whoever opens a pipe to write waits until it is read.
        let write = |text: &'static str| {
            let path = path.clone();
            std::thread::spawn(move || {
                fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
            })
        };
        let writer = write("12");
        assert_eq!(**read(&path, 4).await.unwrap(), *b"12");
        writer.join().unwrap().unwrap();
        let writer = write("1234");
        assert!(read(&path, 3).await.unwrap_err().to_string().contains("longer than 3 bytes"));
        writer.join().unwrap().unwrap();
    }
}
