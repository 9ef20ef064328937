//! Connects to databases, for administrators who have one tried: each protocol is spoken as far as it takes to sign in.
//!
//! Drivers are not used: they look names up by themselves, past the guard, reserve as much memory as a server announces, and
//! hash passwords as often as it asks for. Here every message has its bounds, and the server's words are never
//! repeated, because they may hold what was sent. Must not know storage, nor who asks.

mod channel;
mod mysql;
mod postgres;
mod redis;
mod scram;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use url::Host;
use zeroize::Zeroizing;

use super::{Fault, Outbound, guard::Target, tls::Trust};
use crate::{
    crypto::SecretText,
    outbound::Credentials,
    proto::v1::{DatabaseSpec, DatabaseTlsMode, DatabaseType},
};
use channel::Channel;

/// Characters of a version that are told.
const VERSION_CHARS: usize = 64;

/// What a database is signed in to with.
pub struct Login<'a> {
    /// The connection, masked.
    pub spec: &'a DatabaseSpec,
    /// The user's password, if one is stored.
    pub password: Option<&'a SecretText>,
}

/// What was found of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The version that the server tells; empty if none.
    pub version: String,
    /// Whether the connection was encrypted.
    pub encrypted: bool,
    /// Why the user was not signed in, if so.
    pub trouble: Option<Trouble>,
}

/// Why nobody was signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no connection.
    Fault(Fault),
    /// It can't be tried from here, for this reason.
    Unsupported(&'static str),
    /// The server greets; nothing more was tried, because it has not proven who it is.
    NotTried,
    /// The server wants this, which is not stored.
    Lacks(&'static str),
    /// The server says no.
    Refused {
        /// In which way.
        how: Refusal,
        /// Its own code: a word of ASCII letters and digits, or empty.
        code: String,
    },
}

/// In which way a server says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// To this user with this password, from here.
    Authentication,
    /// To this user for this database.
    Permission,
    /// There is no such database.
    DatabaseMissing,
    /// To everybody, now.
    Unavailable,
    /// In another way.
    Other,
}

/// One of the calls at the same time; whatever works for a call holds it, also where nobody waits for it any more.
type Turn = Arc<OwnedSemaphorePermit>;

/// Why a password is not sent as it is.
const OPEN: Trouble = Trouble::Fault(Fault::Tls(
    "the server takes the password as it is, and `tls_mode` does not prove that it is the server: set `tls_mode` to \
     DATABASE_TLS_MODE_VERIFY_FULL",
));

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a call has come to, as a label of metrics has it; `None` where nobody was called.
const fn told(trouble: Option<&Trouble>) -> Option<&'static str> {
    match trouble {
        // A server that only greets has answered.
        None | Some(Trouble::NotTried) => Some("ok"),
        Some(Trouble::Fault(fault)) => Some(fault.word()),
        Some(Trouble::Unsupported(_)) => None,
        Some(Trouble::Lacks(_)) => Some("credential_missing"),
        Some(Trouble::Refused { .. }) => Some("refused"),
    }
}

impl Outbound {
    /// Connects to a database and signs in. Whatever is sent goes to an address that the guard has let pass.
    pub async fn try_database(&self, login: &Login<'_>, deadline: Instant) -> Found {
        let (mut found, begun) = (Found::default(), Instant::now());
        let outcome = timeout_at(deadline, self.sign_in(login, &mut found)).await;
        found.trouble = outcome.unwrap_or(Err(Fault::Timeout.into())).err();
        if let Some(outcome) = told(found.trouble.as_ref()) {
            self.counted.ended("database", outcome, begun.elapsed());
        }
        if let Some(Trouble::Refused { code, .. }) = &mut found.trouble
            && login.password.is_some_and(|password| share_letters(password.expose(), code))
        {
            code.clear();
        }
        let version: String = found.version.chars().filter(|letter| is_of_version(*letter)).collect();
        let credentials = Credentials { api_key: login.password.cloned(), ..Credentials::default() };
        let told = !credentials.are_shown_by(&found.version);
        found.version = if told { version.chars().take(VERSION_CHARS).collect() } else { String::new() };
        found
    }

    async fn sign_in(&self, login: &Login<'_>, found: &mut Found) -> Result<(), Trouble> {
        // Waits within the deadline.
        let turn = Arc::clone(&self.calls).acquire_owned().await.map_err(|_| Fault::Unreachable)?;
        let turn: Turn = Arc::new(turn);
        match login.spec.r#type() {
            DatabaseType::Postgresql => {
                postgres::sign_in(&mut self.channel(login).await?, login, &turn, found).await
            }
            DatabaseType::Redis => redis::sign_in(self, login, found).await,
            DatabaseType::Mysql | DatabaseType::Mariadb => {
                mysql::sign_in(&mut self.channel(login).await?, login, found).await
            }
            DatabaseType::Sqlite => Err(Trouble::Unsupported("SQLite is a file on the worker's own machine")),
            DatabaseType::Mongodb | DatabaseType::Other | DatabaseType::Unspecified => {
                Err(Trouble::Unsupported(
                    "connections of this type are stored for workers, and can't be tried from here",
                ))
            }
        }
    }

    /// Opens a connection that is not encrypted yet.
    async fn channel(&self, login: &Login<'_>) -> Result<Channel<'_>, Fault> {
        let DatabaseSpec { host, port, .. } = login.spec;
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Host::Ipv4(address),
            Ok(IpAddr::V6(address)) => Host::Ipv6(address),
            Err(_) => Host::parse(host).map_err(|_| Fault::NoSuchHost)?,
        };
        let port = u16::try_from(*port).ok().filter(|port| *port != 0).ok_or(Fault::Unsendable)?;
        // What may go in the clear goes only where the operator has allowed that.
        let secure =
            trust_of(login.spec).is_some_and(|_| login.spec.tls_mode() != DatabaseTlsMode::Preferred);
        let target = Target { host, port, secure };
        let stream = self.guard.connect(&target).await?;
        Ok(Channel::new(self, target.host, stream))
    }
}

/// What of the server's certificate is checked; `None` where nothing is encrypted.
fn trust_of(spec: &DatabaseSpec) -> Option<Trust> {
    match spec.tls_mode() {
        DatabaseTlsMode::Disabled => None,
        DatabaseTlsMode::Preferred | DatabaseTlsMode::Required => Some(Trust::Anyone),
        DatabaseTlsMode::VerifyCa => Some(Trust::Authority),
        DatabaseTlsMode::VerifyFull | DatabaseTlsMode::Unspecified => Some(Trust::Full),
    }
}

/// A refusal with the server's own code, as far as that is a word.
fn refused(how: Refusal, code: &str) -> Trouble {
    let word = code.len() <= 16 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Trouble::Refused { how, code: if word { code.to_owned() } else { String::new() } }
}

/// Whether a code may be a piece of the password, or the password a piece of it.
fn share_letters(password: &str, code: &str) -> bool {
    let (password, code) =
        (Zeroizing::new(password.to_ascii_uppercase()), Zeroizing::new(code.to_ascii_uppercase()));
    !password.is_empty() && !code.is_empty() && (password.contains(&*code) || code.contains(&*password))
}

/// Whether it is certain who listens: this machine, or a server whose certificate is the host's. That any authority has made
/// one proves nothing: the public ones make them for everybody.
fn is_proven(channel: &Channel<'_>, login: &Login<'_>) -> bool {
    channel.is_local() || trust_of(login.spec) == Some(Trust::Full)
}

/// Whether the password itself may be sent: to who has proven who it is, or where the operator has chosen to do without.
fn may_send_password(channel: &Channel<'_>, login: &Login<'_>) -> bool {
    is_proven(channel, login) || login.spec.tls_mode() == DatabaseTlsMode::Disabled
}

fn is_of_version(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || " .-_+~:()".contains(letter)
}
