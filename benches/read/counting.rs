//! How often a read allocates, and how much memory a cache holds: counted in processes of this program's own.
//!
//! Owns the counter in front of their allocator (`count.c`), which makes a difference of two runs exact. Where there is no C
//! compiler or another C library, nothing is counted, and that is said.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// What one process has asked of its allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Calls that have allocated.
    pub calls: i64,
    /// Bytes that were held at its end.
    pub held: i64,
}

/// The counter, built.
pub struct Counter {
    library: PathBuf,
    // Holds the library; it is removed with this.
    _folder: tempfile::TempDir,
}

impl Counter {
    /// Builds it.
    ///
    /// # Errors
    /// Without a compiler, or where the source is not for this C library.
    pub fn build() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let library = folder.path().join("count.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/read/count.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-fno-builtin", "-o"])
            .args([&library, &source])
            .status()?;
        if !built.success() {
            return Err(io::Error::other("cc can't build the counter"));
        }
        Ok(Self { library, _folder: folder })
    }

    /// Runs this program once more with these arguments, and counts.
    ///
    /// # Errors
    /// Where it fails or the counter was not loaded.
    pub fn run(&self, arguments: &[String]) -> io::Result<Counted> {
        let program = std::env::current_exe()?;
        let output = Command::new(program).args(arguments).env("LD_PRELOAD", &self.library).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let counted = said.lines().rev().find_map(parse).filter(|_| output.status.success());
        counted.ok_or_else(|| io::Error::other(format!("nothing was counted: {said}")))
    }
}

fn parse(line: &str) -> Option<Counted> {
    let (calls, held) = line.strip_prefix("counted ")?.split_once(' ')?;
    Some(Counted { calls: calls.parse().ok()?, held: held.parse().ok()? })
}
