//! What a server may make a client hold.
//!
//! Owns the limits. A store that is one stays far below them; what goes beyond comes from something else, and must not fill
//! the worker's memory, nor leave it with what every server would refuse. Must not know phases or streams.

use prost::Message;

use super::{replica::Desync, snapshot::Snapshot};

/// Bytes of messages that are put together out of sight at most, and what a whole state may take, unless the options say
/// otherwise.
pub(super) const MAX_STATE_BYTES: usize = 1 << 30;
/// What the names may take that are revoked and not passed yet, each with its length and this.
const MAX_REVOKED_BYTES: usize = 16 << 20;
const REVOKED_NAME_BYTES: usize = 100;
/// Tokens that are longer are not kept: no server would take them back.
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// The longest name of a session, by the contract.
const MAX_SESSION_BYTES: usize = 128;

/// Counts what is put together out of sight, and refuses too much.
pub(super) fn grow(bytes: &mut usize, part: &impl Message, most: usize) -> Result<(), Desync> {
    *bytes = bytes.saturating_add(part.encoded_len());
    if *bytes > most {
        return Err(Desync::Contract("more than `max_state_bytes` comes before a state is whole"));
    }
    Ok(())
}

/// Refuses a state that is too large, be it in however many revisions.
pub(super) fn check_state(state: &Snapshot, most: usize) -> Result<(), Desync> {
    if state.bytes > most {
        return Err(Desync::Contract("the state is larger than `max_state_bytes`"));
    }
    Ok(())
}

/// What a revoked name takes.
pub(super) fn revoked_bytes(name: &str) -> usize {
    name.len() + REVOKED_NAME_BYTES
}

/// Refuses more revoked names than can be kept: what replaces them comes with the snapshot that the next stream begins with.
pub(super) fn check_revoked(bytes: usize) -> Result<(), Desync> {
    if bytes > MAX_REVOKED_BYTES {
        return Err(Desync::Contract("more names are revoked than can be kept"));
    }
    Ok(())
}

/// Whether a resume token and its view can be given back.
pub(super) fn is_token(resume_token: &str, view_id: &str) -> bool {
    resume_token.len() + view_id.len() <= MAX_TOKEN_BYTES
}

/// The name of a session; empty for what is none, and would be refused where it is said again.
pub(super) fn session(name: String) -> String {
    let is_one = name.len() <= MAX_SESSION_BYTES && name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_one { name } else { String::new() }
}
