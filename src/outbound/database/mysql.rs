//! MySQL and MariaDB: the greeting, TLS where the connection has it, signing in, one query.
//!
//! `proof` knows how a password is proven; here is what is said around it. The server's own RSA key is not used where there is no
//! TLS: nobody vouches for that key.

mod proof;

use zeroize::Zeroizing;

use super::{Channel, Found, Login, Refusal, Trouble, is_proven, refused, trust_of};
use crate::{outbound::Fault, proto::v1::DatabaseTlsMode};
use proof::Way;

/// Bytes of one packet; those of a sign-in have about a hundred.
const PACKET_BYTES: usize = 16 * 1024;
/// Packets that are heard until the user is in, and until a query is answered.
const PACKETS: usize = 32;
/// What the server has to be able to do: `PROTOCOL_41`, `SECURE_CONNECTION`, `PLUGIN_AUTH`.
const NEEDED: u32 = (1 << 9) | (1 << 15) | (1 << 19);
const SSL: u32 = 1 << 11;
const WITH_DATABASE: u32 = 1 << 3;
/// `LONG_PASSWORD`, which older servers look at, and `TRANSACTIONS`.
const CLIENT: u32 = NEEDED | 1 | (1 << 13);
const MOST_OF_A_PACKET: u32 = 1 << 24;
/// `utf8mb4_general_ci`, which every version knows.
const CHARSET: u8 = 45;
const NONCE_BYTES: usize = 20;
/// The first bytes of packets.
const OK: u8 = 0;
const MORE: u8 = 1;
const SWITCH: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// What `caching_sha2_password` says more: that the hash was right, or that it wants the password itself.
const FAST: &[u8] = &[3];
const FULL: &[u8] = &[4];
const QUERY: &[u8] = b"\x03SELECT 1";
const QUIT: &[u8] = &[1];

const UNKNOWN_WAY: Trouble = Trouble::Unsupported(
    "the server wants to be signed in to in a way that can't be tried from here, such as ed25519, Kerberos or LDAP",
);
/// Only this machine gets so far without TLS. Its certificate is mostly one that the server has made for itself.
const NO_TLS: Trouble = Trouble::Fault(Fault::Tls(
    "the server takes the password only within TLS, or encrypted with a key that nobody vouches for: set `tls_mode` to \
     DATABASE_TLS_MODE_REQUIRED, which is enough for a server on this machine, and have the server offer TLS",
));

/// Hears the server's greeting, agrees on TLS as the mode says, signs in, and asks one query: proxies sign in by themselves.
pub(super) async fn sign_in(
    channel: &mut Channel<'_>,
    login: &Login<'_>,
    found: &mut Found,
) -> Result<(), Trouble> {
    if login.spec.user.is_empty() {
        return Err(Trouble::Lacks("user"));
    }
    let mut talk = Talk { channel, sequence: 0 };
    let greeting = Greeting::parse(&talk.hear().await?).ok_or(Fault::BadAnswer)?;
    found.version.clone_from(&greeting.version);
    encrypt(&mut talk, login, greeting.capabilities & SSL != 0, found).await?;
    // A proof is as good as the password to who guesses, so that everything further is between us and who has proven itself.
    if login.password.is_some() && !is_proven(talk.channel, login) {
        return Err(Trouble::NotTried);
    }
    if greeting.capabilities & NEEDED != NEEDED {
        return Err(UNKNOWN_WAY);
    }
    authenticate(&mut talk, login, &greeting, found.encrypted).await?;
    query(&mut talk).await?;
    // The server ends the connection in any case.
    let _ = talk.begin(QUIT).await;
    Ok(())
}

async fn encrypt(
    talk: &mut Talk<'_, '_>,
    login: &Login<'_>,
    offered: bool,
    found: &mut Found,
) -> Result<(), Trouble> {
    let Some(trust) = trust_of(login.spec) else { return Ok(()) };
    if !offered {
        let preferred = login.spec.tls_mode() == DatabaseTlsMode::Preferred;
        return if preferred { Ok(()) } else { Err(Fault::Tls("it offers none").into()) };
    }
    talk.say(&head(CLIENT | SSL)).await?;
    talk.channel.encrypt(trust).await?;
    found.encrypted = true;
    Ok(())
}

/// Proves the password in the way that the server asks for, which may be another one than it greets with.
async fn authenticate(
    talk: &mut Talk<'_, '_>,
    login: &Login<'_>,
    greeting: &Greeting,
    encrypted: bool,
) -> Result<(), Trouble> {
    let password = login.password.map_or("", |password| password.expose());
    // What it greets with is its own default; an account may have another way, to which it switches. The password itself is
    // never said before that.
    let greeted = Way::named(&greeting.way).filter(|(way, _)| *way != Way::Clear);
    let (mut way, name) = greeted.unwrap_or((Way::CachingSha2, "caching_sha2_password"));
    let first = way.answer(password, &greeting.nonce);
    talk.say(&response(login, encrypted, &first, name)).await?;
    for _ in 0..PACKETS {
        let packet = talk.hear().await.map_err(|trouble| of_account(trouble, login))?;
        match (packet[0], &packet[1..]) {
            (OK, _) => return Ok(()),
            (MORE, said) if said == FAST && way == Way::CachingSha2 => {}
            (MORE, said) if said == FULL && way == Way::CachingSha2 => {
                may_be_said(encrypted)?;
                talk.say(&proof::clear(password)).await?;
            }
            (SWITCH, said) => {
                let (asked, nonce) = switched(said).ok_or(UNKNOWN_WAY)?;
                way = asked;
                if way == Way::Clear {
                    may_be_said(encrypted)?;
                }
                talk.say(&way.answer(password, nonce)).await?;
            }
            _ => return Err(Fault::BadAnswer.into()),
        }
    }
    Err(Fault::TooLarge.into())
}

/// Whether the password itself may be said here: servers take it within TLS only.
const fn may_be_said(encrypted: bool) -> Result<(), Trouble> {
    if encrypted { Ok(()) } else { Err(NO_TLS) }
}

/// The way that the server switches to, and what it has made up for it.
fn switched(said: &[u8]) -> Option<(Way, &[u8])> {
    let end = said.iter().position(|byte| *byte == 0)?;
    let (way, _) = Way::named(&said[..end])?;
    let nonce = &said[end + 1..];
    Some((way, nonce.get(..NONCE_BYTES).unwrap_or(nonce)))
}

/// Where no password is stored and the account has one, that is what is missing.
fn of_account(trouble: Trouble, login: &Login<'_>) -> Trouble {
    match trouble {
        Trouble::Refused { how: Refusal::Authentication, .. } if login.password.is_none() => {
            Trouble::Lacks("password")
        }
        trouble => trouble,
    }
}

/// Asks a query, and hears its columns and rows, each up to a packet that ends them.
async fn query(talk: &mut Talk<'_, '_>) -> Result<(), Trouble> {
    talk.begin(QUERY).await?;
    let mut ends = 0;
    for _ in 0..PACKETS {
        let packet = talk.hear().await?;
        ends += usize::from(packet[0] == SWITCH && packet.len() < 9);
        if ends == 2 {
            return Ok(());
        }
    }
    Err(Fault::TooLarge.into())
}

/// The packets of a connection, which are counted.
struct Talk<'t, 'o> {
    channel: &'t mut Channel<'o>,
    sequence: u8,
}

impl Talk<'_, '_> {
    /// Hears a packet that is not empty and no error.
    async fn hear(&mut self) -> Result<Vec<u8>, Trouble> {
        let head = self.channel.read(4).await?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        if head[3] != self.sequence {
            return Err(Fault::BadAnswer.into());
        }
        if !(1..=PACKET_BYTES).contains(&length) {
            return Err(Fault::TooLarge.into());
        }
        self.sequence = self.sequence.wrapping_add(1);
        let packet = self.channel.read(length).await?;
        if packet[0] == ERROR { Err(refusal(&packet)) } else { Ok(packet) }
    }

    /// Says a packet of a conversation that goes on.
    async fn say(&mut self, body: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length < MOST_OF_A_PACKET);
        let length = length.ok_or(Fault::Unsendable)?.to_le_bytes();
        let mut packet = Zeroizing::new(Vec::with_capacity(body.len() + 4));
        packet.extend_from_slice(&[length[0], length[1], length[2], self.sequence]);
        packet.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        self.channel.send(packet).await
    }

    /// Says a command, with which the counting begins anew.
    async fn begin(&mut self, command: &[u8]) -> Result<(), Fault> {
        self.sequence = 0;
        self.say(command).await
    }
}

/// What a server says of itself first.
struct Greeting {
    version: String,
    capabilities: u32,
    nonce: Vec<u8>,
    way: Vec<u8>,
}

impl Greeting {
    /// Version of the protocol, version of the server up to a NUL, number of the connection, 8 bytes of a nonce, a NUL, the lower
    /// half of what it can do; then what older servers lack: character set, status, the upper half, 11 bytes, the rest of the
    /// nonce with a NUL, the name of a way up to another.
    fn parse(packet: &[u8]) -> Option<Self> {
        let (10, rest) = packet.split_first().map(|(version, rest)| (*version, rest))? else { return None };
        let end = rest.iter().position(|byte| *byte == 0)?;
        let version = std::str::from_utf8(&rest[..end]).ok()?;
        let rest = rest.get(end + 1 + 4..)?;
        let (mut nonce, low) = (rest.get(..8)?.to_vec(), rest.get(9..11)?);
        let high = rest.get(14..16).unwrap_or_default();
        let mut capabilities = u32::from(u16::from_le_bytes([low[0], low[1]]));
        if let [one, two] = *high {
            capabilities |= u32::from(u16::from_le_bytes([one, two])) << 16;
        }
        let further = rest.get(27..).unwrap_or_default();
        nonce.extend_from_slice(further.get(..NONCE_BYTES - 8).unwrap_or_default());
        let way = further.get(NONCE_BYTES - 8 + 1..).unwrap_or_default();
        let way = way.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        // MariaDB says first that it is one of those that came before.
        let version = version.strip_prefix("5.5.5-").unwrap_or(version).to_owned();
        Some(Self { version, capabilities, nonce, way })
    }
}

/// What we can do, the size of packets, the character set, and 23 bytes of nothing; alone it asks for TLS.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend(MOST_OF_A_PACKET.to_le_bytes());
    head.push(CHARSET);
    head.extend([0; 23]);
    head
}

/// Who we are: the user, the proof, the database if one is named, and the way of the proof.
fn response(login: &Login<'_>, encrypted: bool, proof: &[u8], way: &str) -> Vec<u8> {
    let database = &login.spec.database;
    let tls = if encrypted { SSL } else { 0 };
    let named = if database.is_empty() { 0 } else { WITH_DATABASE };
    let mut body = head(CLIENT | tls | named);
    body.extend([login.spec.user.as_bytes(), b"\0"].concat());
    body.push(u8::try_from(proof.len()).unwrap_or_default());
    body.extend_from_slice(proof);
    if !database.is_empty() {
        body.extend([database.as_bytes(), b"\0"].concat());
    }
    body.extend([way.as_bytes(), b"\0"].concat());
    body
}

fn refusal(packet: &[u8]) -> Trouble {
    let code = packet.get(1..3).map_or(0, |code| u16::from_le_bytes([code[0], code[1]]));
    let how = match code {
        // Too many connections, shutting down.
        1040 | 1053 | 1203 => Refusal::Unavailable,
        // Not from this host, blocked for too many errors, the account is locked.
        1045 | 1129 | 1130 | 1698 | 3118 | 4151 => Refusal::Authentication,
        1044 | 1142 => Refusal::Permission,
        1049 => Refusal::DatabaseMissing,
        _ => Refusal::Other,
    };
    refused(how, &code.to_string())
}

#[cfg(test)]
mod tests;
