//! The names of sessions as clients hold them: with a proof that this store has given it, and to whom.
//!
//! A name reads as the session's id, a dot, and 37 characters: whose it is and a MAC, in base64url. Every replica of the store
//! can tell it, without having met the session.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    crypto::Vault,
    domain::{Principal, SessionId},
};

/// Bytes of the MAC of the subject.
const OWNER: usize = 12;
/// Bytes of the MAC of id and owner.
const PROOF: usize = 16;

/// Gives sessions their names, and tells whose they are.
#[derive(Clone)]
pub struct Names(Arc<Vault>);

/// Whose a session is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The caller's.
    Own(SessionId),
    /// Of another subject.
    Foreign,
    /// Of another store, or no name at all.
    Unknown,
}

impl Names {
    /// Names with the keys of a store.
    #[must_use]
    pub fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }

    /// A new session of a caller: its id, and the name to give to the client.
    #[must_use]
    pub fn give(&self, principal: &Principal) -> (SessionId, String) {
        let id = uuid::Uuid::new_v4().to_string();
        let owner = self.owner(principal);
        let proof = [&owner[..], &self.proof(&id, &owner)].concat();
        let name = format!("{id}.{}", URL_SAFE_NO_PAD.encode(proof));
        (SessionId(id), name)
    }

    /// Whose the session of this name is.
    #[must_use]
    pub fn whose(&self, name: &str, principal: &Principal) -> Whose {
        let Some((id, owner, proof)) = parts(name) else { return Whose::Unknown };
        if proof != self.proof(id, &owner) {
            return Whose::Unknown;
        }
        if owner == self.owner(principal) { Whose::Own(SessionId(id.to_owned())) } else { Whose::Foreign }
    }

    fn owner(&self, principal: &Principal) -> [u8; OWNER] {
        let Principal { issuer, subject, .. } = principal;
        // The length keeps issuer and subject apart.
        let whose = format!("owner\n{}\n{issuer}{subject}", issuer.len());
        first(&self.0.session_mac(whose.as_bytes()))
    }

    fn proof(&self, id: &str, owner: &[u8; OWNER]) -> [u8; PROOF] {
        let named = format!("session\n{id}\n{}", hex::encode(owner));
        first(&self.0.session_mac(named.as_bytes()))
    }
}

fn parts(name: &str) -> Option<(&str, [u8; OWNER], [u8; PROOF])> {
    let (id, tail) = name.split_once('.')?;
    let bytes: [u8; OWNER + PROOF] = URL_SAFE_NO_PAD.decode(tail).ok()?.try_into().ok()?;
    Some((id, first(&bytes), bytes[OWNER..].try_into().ok()?))
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}
