//! Where a store stands: its identity, its present life, its revision, and the tokens that carry all three.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Identity of a store; survives restore and move. A UUID.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct StoreId(pub String);

/// One life of a store. Random, so that two restores of one backup differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Epoch(pub u64);

/// Position in the store's log; the first write is revision 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct Revision(pub u64);

/// Head of the log's keyed hash chain after a revision.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ChainHash(pub [u8; 32]);

/// A revision of one life of one store, as clients hold it: for resuming, and for reading no older than this.
///
/// It reads as text of 43 characters: epoch and revision as 8 bytes each, little-endian, and the first 16 bytes of the
/// chain hash, in base64url. Clients must not look inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RevisionToken {
    /// The life of the store.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// First half of the chain hash at the revision.
    pub hash: [u8; 16],
}

impl Revision {
    /// Before the first write.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl ChainHash {
    /// The part of the hash that tokens carry.
    #[must_use]
    pub fn half(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        half
    }
}

impl RevisionToken {
    /// Makes the token of a revision.
    #[must_use]
    pub fn new(epoch: Epoch, revision: Revision, hash: &ChainHash) -> Self {
        Self { epoch, revision, hash: hash.half() }
    }

    /// Reads a token; `None` if it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (epoch, rest) = bytes.split_first_chunk::<8>()?;
        let (revision, hash) = rest.split_first_chunk::<8>()?;
        Some(Self {
            epoch: Epoch(u64::from_le_bytes(*epoch)),
            revision: Revision(u64::from_le_bytes(*revision)),
            hash: hash.try_into().ok()?,
        })
    }
}

impl fmt::Display for RevisionToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.revision.0.to_le_bytes());
        bytes[16..].copy_from_slice(&self.hash);
        formatter.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl Epoch {
    /// Reads what [`fmt::Display`] writes: 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_nothing_else_does() {
        let token = RevisionToken::new(Epoch(7), Revision(u64::MAX), &ChainHash([9; 32]));
        assert_eq!(RevisionToken::parse(&token.to_string()), Some(token));
        for bad in ["", "x", &token.to_string()[1..], &format!("{token}A"), &"A".repeat(5000)] {
            assert_eq!(RevisionToken::parse(bad), None, "{bad:?}");
        }
    }
}
