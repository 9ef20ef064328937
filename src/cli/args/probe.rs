//! Options of the verbs that have somebody asked how he is, providers and the server itself, or show what would be asked.

use clap::Args;

/// Options of `test`.
#[derive(Args)]
pub struct Test {
    /// The provider, for example groq or providers/groq, or a database, databases/ID; it may be disabled
    #[arg(value_name = "PROVIDER | DATABASE")]
    pub what: String,
    /// The key to try, providers/ID/apiKeys/ID; nothing tries the one that workers use
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// The model to chat with; nothing takes the provider's default
    #[arg(long)]
    pub model: Option<String>,
}

/// Options of `discover`.
#[derive(Args)]
pub struct Discover {
    /// Providers, for example groq or providers/groq; nothing asks all enabled ones
    #[arg(value_name = "PROVIDER")]
    pub providers: Vec<String>,
}

/// Options of `render`.
#[derive(Args)]
pub struct Render {
    /// The provider, for example groq or providers/groq
    pub provider: String,
    /// The model; nothing takes the provider's default
    #[arg(long)]
    pub model: Option<String>,
    /// What is said; nothing says Hello
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// A parameter, for example generation.temperature=0.2, chat.system_prompt=... or reasoning.effort=low; repeat it for
    /// others and for the items of a list
    #[arg(long = "field", value_name = "PATH=VALUE")]
    pub fields: Vec<String>,
    /// A tool to offer, tools/ID; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    pub tools: Vec<String>,
}

/// Options of `health`.
#[derive(Args)]
pub struct Health {
    /// readiness, liveness, or a service such as signalbox.v1.ConfigService
    #[arg(value_name = "SERVICE", default_value = "readiness")]
    pub service: String,
}
