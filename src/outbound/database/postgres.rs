//! PostgreSQL, and what speaks its protocol: TLS, signing in, one query.
//!
//! `scram` knows how a password is proven; here is what is said around it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    Channel, Found, Login, OPEN, Refusal, Trouble, Turn, may_send_password, refused, scram::Scram, trust_of,
};
use crate::{outbound::Fault, proto::v1::DatabaseTlsMode};

/// Bytes of one message.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Messages that are heard until the server is ready: it tells a score of its settings.
const MESSAGES: usize = 256;
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const VERSION_3: [u8; 4] = [0, 3, 0, 0];
const APPLICATION: &str = "signalbox";
const SCRAM: &[u8] = b"SCRAM-SHA-256";

/// Agrees on TLS as the mode says, signs in, and asks one query: poolers sign in by themselves.
pub(super) async fn sign_in(
    channel: &mut Channel<'_>,
    login: &Login<'_>,
    turn: &Turn,
    found: &mut Found,
) -> Result<(), Trouble> {
    if login.spec.user.is_empty() {
        return Err(Trouble::Lacks("user"));
    }
    encrypt(channel, login, found).await?;
    channel.send(startup(login)).await?;
    authenticate(channel, login, turn).await?;
    until_ready(channel, found, false).await?;
    channel.send(message(b'Q', b"SELECT 1\0")).await?;
    until_ready(channel, found, true).await?;
    // The server ends the connection in any case.
    let _ = channel.send(message(b'X', b"")).await;
    Ok(())
}

async fn encrypt(channel: &mut Channel<'_>, login: &Login<'_>, found: &mut Found) -> Result<(), Trouble> {
    let Some(trust) = trust_of(login.spec) else { return Ok(()) };
    channel.send(TLS_REQUEST.to_vec().into()).await?;
    match channel.read(1).await?[0] {
        b'S' => {
            channel.encrypt(trust).await?;
            found.encrypted = true;
            Ok(())
        }
        b'N' if login.spec.tls_mode() == DatabaseTlsMode::Preferred => Ok(()),
        b'N' => Err(Fault::Tls("it offers none").into()),
        _ => Err(Fault::BadAnswer.into()),
    }
}

fn startup(login: &Login<'_>) -> Zeroizing<Vec<u8>> {
    let mut body = VERSION_3.to_vec();
    let database = &login.spec.database;
    let named = [
        ("user", login.spec.user.as_str()),
        ("database", database),
        ("application_name", APPLICATION),
        ("client_encoding", "UTF8"),
    ];
    for (name, value) in named.iter().filter(|(_, value)| !value.is_empty()) {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat().into()
}

/// A message: its kind, its length with itself, its body.
fn message(kind: u8, body: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    // Of the right size at once: what is moved out of leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + 5));
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

async fn hear(channel: &mut Channel<'_>) -> Result<(u8, Vec<u8>), Trouble> {
    let head = channel.read(5).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let length = length.checked_sub(4).ok_or(Fault::BadAnswer)?;
    // What is no PostgreSQL says lengths that are none.
    if !head[0].is_ascii_alphabetic() {
        return Err(Fault::BadAnswer.into());
    }
    if length > MESSAGE_BYTES {
        return Err(Fault::TooLarge.into());
    }
    Ok((head[0], channel.read(length).await?))
}

/// Proves the password in the way that the server asks for.
async fn authenticate(channel: &mut Channel<'_>, login: &Login<'_>, turn: &Turn) -> Result<(), Trouble> {
    let password = || login.password.ok_or(Trouble::Lacks("password"));
    let mut scram: Option<Scram<'_>> = None;
    for _ in 0..MESSAGES {
        let (kind, body) = hear(channel).await?;
        match kind {
            b'R' => {}
            b'E' => return Err(refusal(&body)),
            // A notice, or a version of the protocol that it does not know.
            b'N' | b'v' => continue,
            _ => return Err(Fault::BadAnswer.into()),
        }
        let (way, rest) = body.split_first_chunk::<4>().ok_or(Fault::BadAnswer)?;
        match (u32::from_be_bytes(*way), scram.as_mut()) {
            (0, None) => return Ok(()),
            (0, Some(scram)) if scram.is_proven() => return Ok(()),
            (3, None) => {
                let password = password()?.expose();
                if !may_send_password(channel, login) {
                    return Err(OPEN);
                }
                let mut body = Zeroizing::new(Vec::with_capacity(password.len() + 1));
                body.extend_from_slice(password.as_bytes());
                body.push(0);
                channel.send(message(b'p', &body)).await?;
            }
            (10, None) => {
                if !rest.split(|byte| *byte == 0).any(|way| way == SCRAM) {
                    return Err(UNKNOWN_WAY);
                }
                let begun = Scram::begin(password()?).ok_or(Fault::Unsendable)?;
                let first = begun.first();
                let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
                let body = [SCRAM, b"\0", &length.to_be_bytes(), first.as_bytes()].concat();
                channel.send(message(b'p', &body)).await?;
                scram = Some(begun);
            }
            (11, Some(scram)) => {
                let proof = scram.prove(rest, Arc::clone(turn)).await.ok_or(Fault::BadAnswer)?;
                channel.send(message(b'p', proof.as_bytes())).await?;
            }
            // Who does not know the password can't prove that it does: this is not the server.
            (12, Some(scram)) => scram.verify(rest).ok_or(Fault::BadAnswer)?,
            (5 | 2 | 6..=9, None) => return Err(UNKNOWN_WAY),
            _ => return Err(Fault::BadAnswer.into()),
        }
    }
    Err(Fault::TooLarge.into())
}

const UNKNOWN_WAY: Trouble = Trouble::Unsupported(
    "the server wants to be signed in to in a way that can't be tried from here, such as MD5, GSSAPI or a certificate",
);

/// Hears everything until the server takes a query; `answered`, if it has to have answered one by then.
async fn until_ready(channel: &mut Channel<'_>, found: &mut Found, answered: bool) -> Result<(), Trouble> {
    let (mut has_row, mut trouble) = (false, None);
    for _ in 0..MESSAGES {
        let (kind, body) = hear(channel).await?;
        match kind {
            b'Z' if answered && !has_row => return Err(trouble.unwrap_or(Fault::BadAnswer.into())),
            b'Z' => return trouble.map_or(Ok(()), Err),
            b'E' if answered => trouble = Some(refusal(&body)),
            // Before it is ready an error ends the connection.
            b'E' => return Err(refusal(&body)),
            b'D' => has_row = true,
            b'S' => {
                let mut parts = body.split(|byte| *byte == 0);
                if parts.next() == Some(b"server_version") {
                    found.version = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
                }
            }
            b'K' | b'N' | b'T' | b'C' => {}
            _ => return Err(Fault::BadAnswer.into()),
        }
    }
    Err(Fault::TooLarge.into())
}

/// What an error says: fields, each a letter and a text; `C` is its code.
fn refusal(body: &[u8]) -> Trouble {
    let field = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
    let code = String::from_utf8_lossy(field.unwrap_or_default());
    let how = match &*code {
        "28P01" | "28000" => Refusal::Authentication,
        "3D000" => Refusal::DatabaseMissing,
        "42501" => Refusal::Permission,
        "53300" | "57P01" | "57P02" | "57P03" => Refusal::Unavailable,
        _ => Refusal::Other,
    };
    // What is no SQLSTATE may be what was sent.
    let known =
        code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    refused(how, if known { &code } else { "" })
}
