//! The command line as it is typed.
//!
//! It must not know what the verbs do. What a flag means for the server stands in `settings`.

mod changes;
mod fleet;
mod keys;
mod probe;
mod write;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use changes::{Diff, Export, History, Import, OWN_FORMAT, Rollback};
pub use fleet::{Quorum, Wait, Workers};

pub use self::{
    keys::{Keys, Rotate},
    probe::{Discover, Health, Render, Test},
    write::Write,
};
use super::{failure::EXIT_CODES, server_flags::ServerFlags, session::Format};

/// LLM configuration, pushed to every worker the moment it changes.
#[derive(Parser)]
#[command(name = "signalbox", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// Which server, and as whom.
    #[command(flatten)]
    pub target: Target,
    /// How results are written
    #[arg(short, long, value_enum, default_value = "table", global = true, help_heading = "Everywhere")]
    pub output: Format,
    /// Say nothing but results
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Which server, and as whom.
#[derive(Args, Clone, Default)]
pub struct Target {
    /// Address of the server [env: SIGNALBOX_URL] [default: http://127.0.0.1:50051]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub server: Option<String>,
    /// File with the token [env: SIGNALBOX_TOKEN_FILE; the token itself: SIGNALBOX_TOKEN]
    /// [default: admin.token in the data directory]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the authorities that the server's certificate is checked against [env: SIGNALBOX_CA_FILE]
    /// [default: the system's]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub ca_file: Option<PathBuf>,
    /// Name that the server's certificate is for, where that is not the host of its address: through a forwarded port
    /// [default: the host]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Everywhere")]
    pub tls_server_name: Option<String>,
    /// PEM file with the certificate to show to a server that asks for one [env: SIGNALBOX_CLIENT_CERT_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate [env: SIGNALBOX_CLIENT_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub key_file: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Run the server
    Serve(Serve),
    /// Show resources
    Get(Get),
    /// List resources
    List(List),
    /// Create or update resources
    Set(Set),
    /// Delete resources, and what lives beneath them
    Delete(Delete),
    /// Print every change as it happens, until ctrl-c or until the server goes away
    Watch(Watch),
    /// Write resources into a file that `import` takes, without their secrets unless a key for these is given
    Export(Export),
    /// Take resources in from files, all or nothing; what exists stays as it is, unless told otherwise
    Import(Import),
    /// Document kinds of configuration and their fields; or say which value of a setting counts, and what it hides
    Explain(Explain),
    /// Show what was changed, when, by whom and why, newest first
    History(History),
    /// Show what differs between two revisions
    Diff(Diff),
    /// Bring a resource, or all of them, back to what they were at a past revision
    Rollback(Rollback),
    /// Show which provider is active and which ones it falls back on, or make another one active
    Switch(Switch),
    /// Show which provider stands for each type, or say which one does
    Default(DefaultProvider),
    /// Call a provider with a stored key, as workers do, or sign in to a database, and say within 10 s what came of it
    Test(Test),
    /// Show the request that a worker would send to a provider, without any secret; nothing is sent
    Render(Render),
    /// Ask providers which models they have; those that can't be asked show their last list
    Discover(Discover),
    /// Ask whether a server is ready, as probes do, without a token: exit code 0 while it is
    Health(Health),
    /// Show which workers there are, and which revision each of them runs
    Workers(Workers),
    /// Show how the server is
    Status,
    /// Make and revoke tokens
    #[command(subcommand)]
    Token(Token),
    /// Let the store hold what older binaries don't know: from then on they no longer start
    RaiseFeatureLevel,
    /// Make encryption keys, and give API keys new values
    #[command(subcommand)]
    Keys(Keys),
    /// Check a running server, which needs a token of the role admin, or a stopped one's store
    Doctor(Doctor),
    /// Move the store of stopped servers to another database, from SQLite to PostgreSQL or back
    Migrate(Migrate),
    /// Print completions for a shell, for example `signalbox completions bash > /etc/bash_completion.d/signalbox`
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `serve`.
#[derive(Args)]
pub struct Serve {
    /// The server's settings.
    #[command(flatten)]
    pub flags: ServerFlags,
}

/// Options of `get`.
#[derive(Args)]
pub struct Get {
    /// Names, for example providers/groq
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Open secrets; needs a token with secrets:read
    #[arg(long)]
    pub secrets: bool,
    /// Show the state at this past revision
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub revision: u64,
    /// Tell what was seen, such as when a key was last used, in JSON and YAML too; tables always do
    #[arg(long)]
    pub observations: bool,
}

/// Options of `list`.
#[derive(Args)]
pub struct List {
    /// Names, `providers/*`, `kind:provider` or a collection; nothing lists everything that the token reaches
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only resources of this kind; may be repeated. It goes with no selector but `*`: give kind:KIND instead of the
    /// selector, or narrow with --filter
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Only resources that an AIP-160 filter picks, for example `enabled = true AND type = GROQ`
    #[arg(long, default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Resources asked for at a time; all are listed in any case
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub page_size: i32,
    /// Open secrets; needs a token with secrets:read
    #[arg(long)]
    pub secrets: bool,
    /// List the state at this past revision
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub revision: u64,
    /// Tell what was seen, such as when a key was last used, in JSON and YAML too; tables always do
    #[arg(long)]
    pub observations: bool,
}

/// Options of `switch`.
#[derive(Args, Clone, Default)]
pub struct Switch {
    /// The provider to become active, for example groq or providers/groq; nothing shows the active one
    pub provider: Option<String>,
    /// A provider to fall back on; repeat it for others, in their order. Not given: the one that was active, and then those
    /// that there were
    #[arg(long = "fallback", value_name = "PROVIDER", requires = "provider")]
    pub fallbacks: Vec<String>,
    /// Fall back on none
    #[arg(long, requires = "provider", conflicts_with = "fallbacks")]
    pub no_fallbacks: bool,
    /// Only if this is still the etag of routers/default
    #[arg(long, requires = "provider")]
    pub etag: Option<String>,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
    /// Whether to wait for workers afterwards.
    #[command(flatten)]
    pub wait: Wait,
}

/// Options of `default`.
#[derive(Args, Clone, Default)]
pub struct DefaultProvider {
    /// A type of providers, for example groq or openai_compatible; nothing shows all types for which there is a provider
    #[arg(value_name = "TYPE")]
    pub provider_type: Option<String>,
    /// The provider that is to stand for the type, for example groq or providers/groq; nothing shows the one that does
    #[arg(requires = "provider_type")]
    pub provider: Option<String>,
    /// Name none: the first enabled one of the type stands for it
    #[arg(long, requires = "provider_type", conflicts_with = "provider")]
    pub none: bool,
    /// Only if this is still the etag of routers/default
    #[arg(long, requires = "provider_type")]
    pub etag: Option<String>,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
    /// Whether to wait for workers afterwards.
    #[command(flatten)]
    pub wait: Wait,
}

/// Options of `explain`.
#[derive(Args)]
pub struct Explain {
    /// A kind with or without a path of fields (provider.auth.scheme), a setting (settings/KEY, users/USER/settings/KEY), or
    /// `import` with or without one of its formats (import.litellm); nothing lists the kinds
    #[arg(value_name = "KIND[.FIELD...] | SETTING | import[.FORMAT]")]
    pub what: Option<String>,
    /// Whose setting
    #[arg(long, requires = "what")]
    pub user: Option<String>,
    /// Open secrets of a setting; needs a token with secrets:read
    #[arg(long, requires = "what")]
    pub secrets: bool,
}

/// Types of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the words say it")]
pub enum ValueType {
    String,
    Int,
    Float,
    Bool,
    Duration,
    Json,
}

/// Options of `set`.
#[derive(Args, Clone, Default)]
pub struct Set {
    /// Name of the resource; with --file only for a document that has none
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// A field, PATH=VALUE; repeat it for other fields and for the items of a list, and give no value to empty the list or to
    /// clear a group of fields
    #[arg(long = "field", value_name = "PATH=VALUE", conflicts_with = "file")]
    pub fields: Vec<String>,
    /// The value of a secret, [PATH=]@FILE, [PATH=]- for standard input or [PATH=]env:NAME; never the value itself
    #[arg(long = "secret", value_name = "PATH=SOURCE", conflicts_with = "file", allow_hyphen_values = true)]
    pub secrets: Vec<String>,
    /// A label, KEY=VALUE, or KEY- to take it away
    #[arg(short, long = "label", value_name = "KEY=VALUE", conflicts_with = "file")]
    pub labels: Vec<String>,
    /// The value of a setting
    #[arg(long, conflicts_with = "file", allow_hyphen_values = true)]
    pub value: Option<String>,
    /// Type of --value; guessed if not given
    #[arg(long = "type", value_enum, requires = "value")]
    pub value_type: Option<ValueType>,
    /// A YAML or JSON file, or - for standard input; several resources are written together or not at all. Maps and lists that it mentions are taken whole
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    pub file: Option<PathBuf>,
    /// Replace resources whole: what the file does not mention gets its default
    #[arg(long, requires = "file")]
    pub replace: bool,
    /// Only if this is still the resource's etag
    #[arg(long, conflicts_with = "file")]
    pub etag: Option<String>,
    /// What every write takes.
    #[command(flatten)]
    pub write: Write,
    /// Whether to wait for workers afterwards.
    #[command(flatten)]
    pub wait: Wait,
}

/// Options of `delete`.
#[derive(Args, Clone, Default)]
pub struct Delete {
    /// Names; several are deleted together or not at all
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Only if this is still the resource's etag
    #[arg(long)]
    pub etag: Option<String>,
    /// It is fine if the resource does not exist
    #[arg(long)]
    pub allow_missing: bool,
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

/// Options of `watch`.
#[derive(Args)]
pub struct Watch {
    /// Names, `providers/*`, `kind:provider` or a collection; nothing watches everything that the token reaches
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only resources of this kind; may be repeated. It goes with no selector but `*`: give kind:KIND instead of the
    /// selector, or narrow with --filter
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only resources with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Open secrets; needs a token with secrets:read
    #[arg(long)]
    pub secrets: bool,
    /// Go on from this token instead of beginning with a snapshot
    #[arg(
        long,
        requires = "view_id",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub resume_token: String,
    /// View that the token came from
    #[arg(
        long,
        requires = "resume_token",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub view_id: String,
    /// Show progress as well
    #[arg(long)]
    pub progress: bool,
}

/// What to do with tokens.
#[derive(Subcommand)]
pub enum Token {
    /// Make a token; it alone is printed on standard output, unless --file takes it
    Create(TokenCreate),
    /// Revoke a token, or all tokens of a subject
    Revoke(TokenRevoke),
}

/// Roles of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the words say it")]
pub enum RoleWord {
    Admin,
    Worker,
    Viewer,
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// So long.
    For(std::time::Duration),
    /// As long as may be.
    Longest,
}

fn life(text: &str) -> Result<Life, humantime::DurationError> {
    if text == "max" { Ok(Life::Longest) } else { humantime::parse_duration(text).map(Life::For) }
}

/// Options of `token create`.
#[derive(Args)]
pub struct TokenCreate {
    /// What the token may do
    #[arg(long, value_enum)]
    pub role: RoleWord,
    /// Whom it is for; shown as the actor of changes [default: the role]
    #[arg(long)]
    pub subject: Option<String>,
    /// What it reaches: a name, `providers/*`, `kind:provider` or `*`; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// May read secrets (secrets:read); for workers
    #[arg(long)]
    pub secrets: bool,
    /// May make tokens that read secrets (secrets:grant); for admins
    #[arg(long)]
    pub grant_secrets: bool,
    /// How long it is good for, such as 90d; max for as long as the token that asks, which nobody outlives [default: 24h, or as
    /// long as that token if it ends before]
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub ttl: Option<Life>,
    /// Write the token into this new file, that only you can read, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Sign without a server, with jwt.key of the key directory, or with the key in the database that replicas share; takes
    /// the flags of `serve`. No server hears of it, so it leaves no line in the audit trail: without --local it does
    #[arg(long)]
    pub local: bool,
    /// The server's settings, for --local.
    #[command(flatten)]
    pub flags: ServerFlags,
}

/// Options of `token revoke`.
#[derive(Args)]
// A group of its own: that of the struct would hold every option.
#[command(group(clap::ArgGroup::new("whose").required(true).args(["token", "id", "subject"])))]
pub struct TokenRevoke {
    /// Id of a token that a server made: a UUID, as `token create` told it
    #[arg(value_name = "ID")]
    pub token: Option<String>,
    /// Id of the token, of whatever form: another issuer's too
    #[arg(long)]
    pub id: Option<String>,
    /// Subject whose tokens are revoked, all that were made until now
    #[arg(long)]
    pub subject: Option<String>,
    /// Issuer of the subject's tokens, if it is not this server
    #[arg(long, requires = "subject", default_value = "", hide_default_value = true)]
    pub issuer: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Options of `doctor`.
#[derive(Args)]
pub struct Doctor {
    /// Check the store of a stopped server, even if one answers
    #[arg(long)]
    pub offline: bool,
    /// A resume or revision token that was kept outside: the store must still have its revision, as it was. Finds a store
    /// that was cut short or put back
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub anchor: Option<String>,
    /// The server's settings, for a stopped one.
    #[command(flatten)]
    pub flags: ServerFlags,
}

/// Options of `migrate`.
#[derive(Args)]
pub struct Migrate {
    /// Where the store is: sqlite://PATH, postgres://USER@HOST/DATABASE, or env:NAME for a variable that holds the URL
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Where it is to be, in the same forms: a database with nothing in it, or a file that is not there
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Say what would be moved, and change nothing
    #[arg(long, conflicts_with = "abandon")]
    pub dry_run: bool,
    /// Give up a move that was begun and not finished: the source can be served again. Refused if the store is at the
    /// target
    #[arg(long)]
    pub abandon: bool,
    /// The server's settings, for its keys.
    #[command(flatten)]
    pub flags: ServerFlags,
}
