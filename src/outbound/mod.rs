//! Calls that the server makes to others, for administrators who ask for them: to try a provider or a database, to list
//! a provider's models.
//!
//! It owns the guard (where calls may go), the client on it, and the words for what went wrong. It must not know storage,
//! nor who asks: a call is rendered by `wire` and its credentials are opened before they get here. What an answer holds is
//! somebody else's text, which may be an attacker's: it is bounded, and what it tells of a credential is taken out.

mod address;
mod credentials;
mod database;
mod guard;
mod http;
mod message;
mod tally;
#[cfg(test)]
mod tests;
mod tls;

pub use credentials::Credentials;
pub use database::{Found, Login, Refusal, Trouble};
pub use guard::{Resolve, SystemResolver};
pub use http::{Answer, Outbound};
pub use tally::{CallCounts, Called};

/// How long a call, or several that belong together, may take.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why there is no answer to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The address may not be called, because it is this: a loopback address, say, or unencrypted.
    EgressRefused(&'static str),
    /// The name has no address.
    NoSuchHost,
    /// Nobody listens.
    ConnectionRefused,
    /// There is no way there, or the connection broke.
    Unreachable,
    /// TLS was not agreed on, for this reason.
    Tls(&'static str),
    /// It took too long.
    Timeout,
    /// The answer is larger than is read.
    TooLarge,
    /// The answer leads elsewhere.
    Redirected,
    /// What came is not what is spoken there.
    BadAnswer,
    /// The call can't be sent as it is configured, or lacks a credential.
    Unsendable,
}
