//! Redis, and what speaks its protocol: `AUTH`, `SELECT`, `PING`, in the plain form that every version knows.

use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Channel, Found, Login, OPEN, Refusal, Trouble, may_send_password, refused, trust_of};
use crate::{
    outbound::{Fault, Outbound},
    proto::v1::DatabaseTlsMode,
};

/// How long TLS may take to be agreed on.
const TLS: Duration = Duration::from_secs(3);
/// Bytes of one line of an answer.
const LINE_BYTES: usize = 1024;

/// Signs in, selects the database and asks whether it is there.
pub(super) async fn sign_in(
    outbound: &Outbound,
    login: &Login<'_>,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut channel = open(outbound, login, found).await?;
    if login.password.is_some() && !may_send_password(&channel, login) {
        return Err(OPEN);
    }
    let user = login.spec.user.as_str();
    match login.password {
        Some(password) if user.is_empty() => ask(&mut channel, &["AUTH", password.expose()]).await?,
        Some(password) => ask(&mut channel, &["AUTH", user, password.expose()]).await?,
        None => {}
    }
    if !login.spec.database.is_empty() {
        ask(&mut channel, &["SELECT", &login.spec.database]).await?;
    }
    ask(&mut channel, &["PING"]).await
}

/// Opens a connection, encrypted as the mode says. Redis has no way to agree on it: where it is preferred, it is tried.
async fn open<'o>(
    outbound: &'o Outbound,
    login: &Login<'_>,
    found: &mut Found,
) -> Result<Channel<'o>, Trouble> {
    let mut channel = outbound.channel(login).await?;
    let Some(trust) = trust_of(login.spec) else { return Ok(channel) };
    // A server without TLS takes the beginning of it for a command whose end it waits for.
    let encrypted = timeout(TLS, channel.encrypt(trust)).await;
    let silent = Fault::Tls("it does not answer to TLS: it may speak without");
    match encrypted.unwrap_or(Err(silent)) {
        Ok(()) => {
            found.encrypted = true;
            Ok(channel)
        }
        Err(_) if login.spec.tls_mode() == DatabaseTlsMode::Preferred => Ok(outbound.channel(login).await?),
        Err(fault) => Err(fault.into()),
    }
}

/// Sends a command, and reads that it was done.
async fn ask(channel: &mut Channel<'_>, words: &[&str]) -> Result<(), Trouble> {
    let mut command = Zeroizing::new(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word.as_bytes());
        command.extend_from_slice(b"\r\n");
    }
    channel.send(command).await?;
    let answer = channel.read_line(LINE_BYTES).await?;
    match answer.split_first() {
        Some((b'+', b"OK" | b"PONG")) => Ok(()),
        Some((b'-', error)) => Err(refusal(words[0], error)),
        _ => Err(Fault::BadAnswer.into()),
    }
}

/// What an error says: its first word is a code. Older servers say `ERR` for nearly everything, so that what was asked
/// tells more.
fn refusal(command: &str, error: &[u8]) -> Trouble {
    let text = String::from_utf8_lossy(error);
    let code = text.split(' ').next().unwrap_or_default();
    let full = text.contains("max number of clients");
    let how = match (code, command) {
        ("LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN", _) => Refusal::Unavailable,
        _ if full => Refusal::Unavailable,
        ("NOAUTH", _) => return Trouble::Lacks("password"),
        ("NOPERM", _) => Refusal::Permission,
        ("DENIED", _) | ("WRONGPASS", _) | (_, "AUTH") => Refusal::Authentication,
        (_, "SELECT") => Refusal::DatabaseMissing,
        _ => Refusal::Other,
    };
    let known =
        ["ERR", "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOPERM", "DENIED", "WRONGPASS"];
    refused(how, if known.contains(&code) { code } else { "" })
}
