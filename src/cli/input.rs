//! Files that are read whole, or standard input, and which of the two formats they are in.
//!
//! What is read is bounded, and so is the wait for a file that is a pipe: one that never ends, or into which nobody writes, is
//! a mistake and must not take the memory or the terminal.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{failure::Failure, session::Session};
use crate::domain::limits;

/// Bytes of one input: twice what one revision can take, because YAML is wordier than what is sent.
const MAX_BYTES: usize = 2 * limits::BATCH_BYTES;
/// How long a file may give nothing. Who types on standard input may think for longer.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// What was read.
pub struct Input {
    /// Where it was read from, for errors.
    pub place: String,
    /// The text, which may hold secrets.
    pub text: Zeroizing<String>,
    /// Whether it is JSON, by its name or else by its looks.
    pub is_json: bool,
}

/// A part of a file; empty at its end.
type Chunk = io::Result<Zeroizing<Vec<u8>>>;

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// When it can't be read, is too large, gives nothing for long, or is not UTF-8.
pub fn read(session: &mut Session<'_>, file: &Path) -> Result<Input, Failure> {
    let is_input = file == Path::new("-");
    let place = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    let text = match is_input {
        true => read_bounded(session.input, MAX_BYTES),
        false => read_file(file, MAX_BYTES, SILENCE),
    };
    let text = text.map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::FileTooLarge { "; give it in parts" } else { "" };
        Failure::usage(format!("can't read {place}: {error}{hint}"))
    })?;
    let is_json = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => text.trim_start().starts_with(['{', '[']),
    };
    Ok(Input { place, text, is_json })
}

/// Reads one short text, such as a secret: a file, or standard input for `None`.
///
/// # Errors
/// As [`read`].
pub fn read_short(
    session: &mut Session<'_>,
    file: Option<&Path>,
    most: usize,
) -> io::Result<Zeroizing<String>> {
    match file {
        Some(file) => read_file(file, most, SILENCE),
        None => read_bounded(session.input, most),
    }
}

/// Reads to the end, unless that is too far away.
fn read_bounded(input: &mut dyn Read, most: usize) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    input.take(most as u64 + 1).read_to_end(&mut bytes)?;
    text_of(&bytes, most)
}

/// Reads a file on a thread of its own: to open a pipe may take for ever, and so may the next part of it.
fn read_file(file: &Path, most: usize, silence: Duration) -> io::Result<Zeroizing<String>> {
    let (send, chunks) = mpsc::sync_channel(1);
    let path = file.to_owned();
    thread::Builder::new().name("read a file".to_owned()).spawn(move || send_chunks(&path, &send))?;
    let mut bytes = Zeroizing::new(Vec::new());
    loop {
        let chunk: Chunk = chunks.recv_timeout(silence).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "it gave nothing for {} s; if it is a pipe, see who writes into it",
                    silence.as_secs()
                ),
            ),
            RecvTimeoutError::Disconnected => io::Error::other("its reader is gone"),
        })?;
        let chunk = chunk?;
        if chunk.is_empty() {
            return text_of(&bytes, most);
        }
        bytes.extend_from_slice(&chunk);
        if bytes.len() > most {
            return text_of(&bytes, most);
        }
    }
}

/// Ends when nobody takes the chunks any more.
fn send_chunks(path: &Path, send: &SyncSender<Chunk>) {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return drop(send.send(Err(error))),
    };
    loop {
        let mut chunk = Zeroizing::new(vec![0; CHUNK]);
        let read = file.read(&mut chunk).map(|length| {
            chunk.truncate(length);
            chunk
        });
        let ends = !matches!(&read, Ok(chunk) if !chunk.is_empty());
        if send.send(read).is_err() || ends {
            return;
        }
    }
}

fn text_of(bytes: &[u8], most: usize) -> io::Result<Zeroizing<String>> {
    if bytes.len() > most {
        const MIB: usize = 1024 * 1024;
        let size = if most < MIB { format!("{} KiB", most / 1024) } else { format!("{} MiB", most / MIB) };
        let why = format!("it is larger than {size}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    fn refused(read: io::Result<Zeroizing<String>>) -> String {
        read.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn regression_what_never_ends_is_refused() {
        assert!(refused(read_bounded(&mut io::repeat(b'x'), 1000)).contains("larger than"));
        assert!(refused(read_file(Path::new("/dev/zero"), 1000, SOON)).contains("larger than"));
    }

    #[test]
    fn regression_a_pipe_that_nobody_writes_into_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
            path
        };
        let begin = Instant::now();
        assert!(refused(read_file(&pipe("silent"), 1000, SOON)).contains("gave nothing"));
        assert!(begin.elapsed() < Duration::from_secs(20));
        // One into which somebody writes is read to its end.
        let path = pipe("spoken");
        let writing = path.clone();
        let writer = thread::spawn(move || std::fs::write(writing, "a: 1"));
        assert_eq!(read_file(&path, 1000, Duration::from_secs(20)).unwrap().as_str(), "a: 1");
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x".repeat(3 * CHUNK + 1)).unwrap();
        assert_eq!(read_file(&path, 4 * CHUNK, SOON).unwrap().len(), 3 * CHUNK + 1);
        assert!(refused(read_file(&path, 3 * CHUNK, SOON)).contains("larger than"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(refused(read_file(&path, 10, SOON)).contains("not UTF-8"));
        assert!(refused(read_file(&folder.path().join("none"), 10, SOON)).contains("No such file"));
    }
}
