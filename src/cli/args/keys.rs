//! Options of `keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Write;

/// What to do with keys.
#[derive(Subcommand)]
pub enum Keys {
    /// Make a key for ENCRYPTION_KEY or a key file; it alone is printed on standard output, unless --file takes it
    Generate {
        /// Write it into this new file, that only you can read, and not to standard output
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Give an API key of a provider a new value; the one before is kept until every worker has the new one. While that lasts
    /// it is not rotated again, unless with --retire-now or --revoke
    Rotate(Rotate),
}

/// Options of `keys rotate`.
#[derive(Args, Clone, Default)]
// A group of its own: that of the struct would hold every option.
#[command(group(clap::ArgGroup::new("at_once").args(["retire_now", "revoke"])))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["secret", "retire_now", "revoke"])))]
pub struct Rotate {
    /// The key, for example providers/groq/apiKeys/prod
    pub name: String,
    /// The new value, @FILE, - for standard input or env:NAME; never the value itself
    #[arg(long, value_name = "SOURCE", allow_hyphen_values = true)]
    pub secret: Option<String>,
    /// How long the value before is kept at most [default: 1h]
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "at_once", requires = "secret")]
    pub timeout: Option<std::time::Duration>,
    /// Let go of the value before at once; without --secret end the rotation that is under way
    #[arg(long)]
    pub retire_now: bool,
    /// The value before has leaked: let go of it, and have every worker stop using it at once
    #[arg(long)]
    pub revoke: bool,
    /// Wait until the value before is retired, and tell which workers it waits for; exits 7 if the time ran out before
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Only if this is still the resource's etag
    #[arg(long)]
    pub etag: Option<String>,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
}
