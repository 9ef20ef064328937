//! Calls of models by a worker, by configuration alone.
//!
//! ```no_run
//! # async fn run(client: signalbox::client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use signalbox::executor::Executor;
//!
//! let executor = Executor::new(client)?;
//! let completion = executor.complete("Hello", "llama-3.3-70b-versatile", None, None).await?;
//! println!("{} ({:?}, by {})", completion.text(), completion.usage(), completion.provider);
//!
//! let mut pieces = executor.complete("Hello", None, None, None).provider("groq").stream()?;
//! while let Some(piece) = pieces.next().await {
//!     print!("{}", piece?.text());
//! }
//! # Ok(()) }
//! ```
//!
//! The active provider answers, or the next one on the router's terms; a call may name its provider and its model. Each call
//! runs on one snapshot, whose revision is told with the answer. As long as neither the service nor a cache on disk has given
//! one, the environment variables of the providers count (`GROQ_API_KEY` and so on), at revision 0; `SIGNALBOX_ENABLED=false`
//! keeps to them altogether.
//!
//! A provider that asks to be left alone (`Retry-After`, `google.rpc.RetryInfo`) is asked after all others until then, by all calls of an
//! executor and its clones, for an hour at most; a call that names it goes to it.
//!
//! Owns who is asked next (`route`, `order`), for which model (`model`), after which pause (`pause`), and the HTTP (`http`). What is sent and read is `wire`'s, what is configured the
//! client's. Must not know streams of configuration.

mod ask;
mod error;
mod http;
mod model;
mod order;
mod pause;
mod route;
mod stream;
#[cfg(feature = "server")]
#[cfg(test)]
mod tests;

pub use ask::{Ask, Conversation};
pub use error::{AttemptError, AttemptFailure, CompletionError};
pub use stream::{CompletionStream, Piece};

use std::collections::BTreeMap;

use order::Memory;

use crate::{
    client::{Client, Error},
    proto::v1::{GenerationParameters, ReasoningParameters},
    wire::Answer,
};

/// Calls models. Cheap to clone; clones share connections, and what is known of providers: how fast they answer, and
/// which have asked to be left alone.
#[derive(Clone, Debug)]
pub struct Executor {
    client: Client,
    http: http::Http,
    memory: Memory,
}

/// An answer, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// What the model has answered.
    pub answer: Answer,
    /// Id of the provider that has answered.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// Revision of the configuration that the call ran on; 0 for that of environment variables.
    pub revision: u64,
    /// Parameters that the provider has no place for.
    pub unused: Vec<&'static str>,
    /// What became of the attempts before.
    pub failures: Vec<AttemptFailure>,
}

impl Completion {
    /// What the model says.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.answer.text
    }

    /// Tokens by what they were used for, for example `prompt_tokens`.
    #[must_use]
    pub fn usage(&self) -> &BTreeMap<String, i64> {
        &self.answer.usage
    }
}

impl Executor {
    /// An executor on a client's configuration.
    ///
    /// # Errors
    /// [`Error::Options`] where TLS can't be set up on this machine.
    pub fn new(client: Client) -> Result<Self, Error> {
        let http = http::Http::new().map_err(|error| Error::Options(format!("calls over HTTP: {error}")))?;
        Ok(Self { client, http, memory: Memory::default() })
    }

    /// Lets keys and secret headers go over plain http to this host beyond the machine itself. Without that they don't.
    #[must_use]
    pub fn allow_plaintext(mut self, host: &str) -> Self {
        self.http.allow_plaintext(host);
        self
    }

    /// A call: await it for the whole answer, or take it piece by piece with [`Ask::stream`]. `messages` is a text or a
    /// conversation; without a model it is the provider's default.
    pub fn complete<'m>(
        &self,
        messages: impl Into<Conversation>,
        model: impl Into<Option<&'m str>>,
        generation_params: impl Into<Option<GenerationParameters>>,
        reasoning_params: impl Into<Option<ReasoningParameters>>,
    ) -> Ask<'_> {
        Ask::new(self, messages.into(), model.into(), generation_params.into(), reasoning_params.into())
    }
}
