//! MySQL and MariaDB: the greeting, and TLS where the connection has it. Nobody is signed in: without TLS that takes RSA, which no
//! maintained library here has without a known flaw.

use zeroize::Zeroizing;

use super::{Channel, Found, Login, Refusal, Trouble, refused, trust_of};
use crate::{outbound::Fault, proto::v1::DatabaseTlsMode};

/// Bytes of a greeting, which has about a hundred.
const GREETING_BYTES: usize = 4096;
/// What both sides have to be able to do: `PROTOCOL_41`, `SSL`, `SECURE_CONNECTION`, `PLUGIN_AUTH`.
const SSL: u32 = 1 << 11;
const CAPABILITIES: u32 = (1 << 9) | SSL | (1 << 15) | (1 << 19);
/// `utf8mb4_general_ci`, which every version knows.
const CHARSET: u8 = 45;
/// The first byte of a packet that is an error.
const ERROR: u8 = 0xff;

/// Hears the server's greeting, and agrees on TLS.
pub(super) async fn greet(
    channel: &mut Channel<'_>,
    login: &Login<'_>,
    found: &mut Found,
) -> Result<(), Trouble> {
    let head = channel.read(4).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    if !(1..=GREETING_BYTES).contains(&length) || head[3] != 0 {
        return Err(Fault::BadAnswer.into());
    }
    let packet = channel.read(length).await?;
    if packet[0] == ERROR {
        return Err(refusal(&packet));
    }
    let greeting = Greeting::parse(&packet).ok_or(Fault::BadAnswer)?;
    found.version = greeting.version;
    let offered = greeting.capabilities & SSL != 0;
    match trust_of(login.spec) {
        None => return Err(Trouble::NotTried),
        Some(_) if !offered && login.spec.tls_mode() == DatabaseTlsMode::Preferred => {
            return Err(Trouble::NotTried);
        }
        Some(_) if !offered => return Err(Fault::Tls("it offers none").into()),
        Some(trust) => {
            channel.send(tls_request()).await?;
            channel.encrypt(trust).await?;
        }
    }
    found.encrypted = true;
    Err(Trouble::NotTried)
}

/// What a server says of itself first.
struct Greeting {
    version: String,
    capabilities: u32,
}

impl Greeting {
    /// Version of the protocol, version of the server up to a NUL, number of the connection, 8 bytes of a nonce, a NUL, and the
    /// lower half of what it can do.
    fn parse(packet: &[u8]) -> Option<Self> {
        let (10, rest) = packet.split_first().map(|(version, rest)| (*version, rest))? else { return None };
        let end = rest.iter().position(|byte| *byte == 0)?;
        let version = std::str::from_utf8(&rest[..end]).ok()?.to_owned();
        let low = rest.get(end + 1 + 4 + 8 + 1..)?.get(..2)?;
        Some(Self { version, capabilities: u32::from(u16::from_le_bytes([low[0], low[1]])) })
    }
}

/// The packet that asks for TLS: what we can do, the size of packets, the character set, and 23 bytes of nothing.
fn tls_request() -> Zeroizing<Vec<u8>> {
    let mut packet = vec![32, 0, 0, 1];
    packet.extend(CAPABILITIES.to_le_bytes());
    packet.extend((1_u32 << 24).to_le_bytes());
    packet.push(CHARSET);
    packet.extend([0; 23]);
    packet.into()
}

fn refusal(packet: &[u8]) -> Trouble {
    let code = packet.get(1..3).map_or(0, |code| u16::from_le_bytes([code[0], code[1]]));
    let how = match code {
        // Too many connections, shutting down.
        1040 | 1053 | 1203 => Refusal::Unavailable,
        // Not from this host, blocked for too many errors.
        1129 | 1130 | 1045 => Refusal::Authentication,
        _ => Refusal::Other,
    };
    refused(how, &code.to_string())
}
