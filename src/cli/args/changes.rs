//! Options of the verbs that look at changes, and of those that carry many: history, differences, exports, imports.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};

use super::{Wait, Write};
use crate::import;

/// Options of `history`.
#[derive(Args, Clone, Default)]
pub struct History {
    /// Names, `providers/*`, `kind:provider` or a collection; nothing shows everything that the token reaches
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only resources of this kind; may be repeated. It goes with no selector but `*`: give kind:KIND instead of the
    /// selector, or narrow with --filter
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Changes at most
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Only changes by this subject
    #[arg(long, default_value = "", hide_default_value = true)]
    pub actor: String,
    /// Only changes that are called so, for example rotated
    #[arg(long, default_value = "", hide_default_value = true)]
    pub action: String,
    /// Only changes at this time or later: 2026-03-01T12:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only changes before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Each resource as it then was, with -o json or -o yaml
    #[arg(long)]
    pub resources: bool,
}

/// Options of `diff`.
#[derive(Args, Clone, Default)]
pub struct Diff {
    /// The one revision; without any, what the newest one has changed
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// The other; nothing compares with what is there now
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// Names, `providers/*`, `kind:provider` or a collection; nothing compares everything that the token reaches
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only resources of this kind; may be repeated. It goes with no selector but `*`: give kind:KIND instead of the
    /// selector, or narrow with --filter
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
}

/// Options of `rollback`.
#[derive(Args, Clone, Default)]
pub struct Rollback {
    /// Name of the resource; with --all what to bring back: names, `providers/*`, `kind:provider` or a collection, and nothing
    /// is everything that the token reaches
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub what: Vec<String>,
    /// The past revision, as `signalbox history` tells it
    #[arg(long = "to", value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: u64,
    /// Bring back everything that NAMEs pick: what was created since is deleted
    #[arg(long)]
    pub all: bool,
    /// Only resources of this kind; may be repeated
    #[arg(long, requires = "all")]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long, requires = "all")]
    pub label: Vec<String>,
    /// Only if this is still the resource's etag
    #[arg(long, conflicts_with = "all")]
    pub etag: Option<String>,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
    /// Whether to wait for workers afterwards.
    #[command(flatten)]
    pub wait: Wait,
}

/// Options of `export`.
#[derive(Args, Clone, Default)]
pub struct Export {
    /// Names, `providers/*`, `kind:provider` or a collection; nothing exports everything that the token reaches
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only resources of this kind; may be repeated. It goes with no selector but `*`: give kind:KIND instead of the
    /// selector, or narrow with --filter
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Export the state at this past revision
    #[arg(long, default_value_t = 0, hide_default_value = true, conflicts_with = "export_key_file")]
    pub revision: u64,
    /// Export secrets as well, sealed with the key in this file (`signalbox keys generate` makes one), which `import` needs
    /// to open them; needs a token with secrets:grant
    #[arg(long, value_name = "FILE")]
    pub export_key_file: Option<PathBuf>,
    /// Write into this file, which is replaced as a whole; nothing writes to standard output
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Our own format, among those that `import` reads.
pub const OWN_FORMAT: &str = "signalbox";

/// The formats that `import` reads: ours, and those of other systems.
fn import_formats() -> PossibleValuesParser {
    let own = "resources as `export`, `get` and `list` write them, in YAML or JSON";
    let foreign = import::FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
    std::iter::once(PossibleValue::new(OWN_FORMAT).help(own)).chain(foreign).collect::<Vec<_>>().into()
}

/// What the long help of `import` adds.
const IMPORT_HELP: &str = "\
Secrets never stand on the command line: keys come from the files, and from the variables that a file refers to.
`signalbox explain import` tells what is accepted of each format.";

/// Options of `import`.
#[derive(Args, Clone, Default)]
#[command(after_long_help = IMPORT_HELP)]
pub struct Import {
    /// Files, or - for standard input; all of them are taken in together or not at all
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What the files hold
    #[arg(long, default_value = OWN_FORMAT, value_parser = import_formats(), value_name = "FORMAT")]
    pub from: String,
    /// Change resources that exist: the fields that the files mention
    #[arg(long, conflicts_with = "replace")]
    pub update: bool,
    /// Replace resources that exist: what the files do not mention gets its default. Without it our own format leaves what
    /// exists as it is; the others replace only what an import made and nobody has edited since
    #[arg(long)]
    pub replace: bool,
    /// Leave out what is not valid in files of other systems, and what goes with it, instead of refusing all of it; leave as it
    /// is what something here could then no longer use
    #[arg(long)]
    pub skip_invalid: bool,
    /// Of a file of models (models-dev, litellm-prices) take only those of these providers, such as openai,groq
    #[arg(long, value_delimiter = ',', value_name = "PROVIDER")]
    pub only: Vec<String>,
    /// File with the key that the secrets of an export were sealed with
    #[arg(long, value_name = "FILE")]
    pub export_key_file: Option<PathBuf>,
    /// File with the Fernet keys that another system sealed its secrets with, in base64, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    pub fernet_key_file: Option<PathBuf>,
    /// File with the password that another system derived its Fernet key from (PBKDF2-HMAC-SHA256, 100,000 rounds)
    #[arg(long, value_name = "FILE", requires = "salt")]
    pub password_file: Option<PathBuf>,
    /// Salt of that derivation
    #[arg(long, value_name = "TEXT", requires = "password_file")]
    pub salt: Option<String>,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
    /// Whether to wait for workers afterwards.
    #[command(flatten)]
    pub wait: Wait,
}
