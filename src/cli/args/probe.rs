//! Options of the verbs that have somebody asked how he is: providers, and the server itself.

use clap::Args;

/// Options of `test`.
#[derive(Args)]
pub struct Test {
    /// The provider, for example groq or providers/groq; it may be disabled
    pub provider: String,
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

/// Options of `health`.
#[derive(Args)]
pub struct Health {
    /// readiness, liveness, or a service such as signalbox.v1.ConfigService
    #[arg(value_name = "SERVICE", default_value = "readiness")]
    pub service: String,
}
