//! What stands in a cache file, alike for every language:
//!
//! - the line `signalbox cache 3`, with its line feed;
//! - a salt of 16 bytes, a nonce of 12;
//! - the state under AES-256-GCM, with the first line as associated data. The key is HKDF-SHA256 of the secret, with the salt,
//!   and with `signalbox client cache`, a zero byte and the view's fingerprint of the [`Identity`] as info.
//!
//! The state is a header, and then the resources one after the other; numbers are little-endian.
//!
//! - the length of the header in 4 bytes, and the header, a JSON object: `revision`, `resume_token`, `view_id`, `confirmed` (when
//!   the store confirmed the state, in seconds since 1970), `revoked` (names, with the revisions that revoke), `kinds` (words),
//!   `servers` (their fingerprints of the [`Identity`] in hexadecimal digits; the file is foreign where none of them is one's
//!   own), `client` (who wrote it);
//! - of each resource: the number of its kind in `kinds` in 1 byte, the length of its name in 2, its update revision in 8, its
//!   length in 4; the name; the resource, as the API's message. A kind that the writer did not know has the word ``.
//!
//! A client of another version leaves the resume token out of account: it may know kinds that the writer had to leave out.
//! Must not know files or tasks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use bytes::Buf;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Identity;
use crate::{
    client::{
        entry::Entry, options::CLIENT_VERSION, replica::Cursor, secret::SecretText, selector::Kind,
        settings::Overrides, snapshot::Snapshot,
    },
    proto::v1::Resource,
};

const MAGIC: &[u8] = b"signalbox cache 3\n";
const LABEL: &[u8] = b"signalbox client cache\0";
const SALT_BYTES: usize = 16;
/// Within one life a lower revision can't be confirmed so much later than a higher one was: heartbeats are more frequent.
const CONFIRMED_LATER: Duration = Duration::from_secs(60);
/// Number of the kind, length of the name, update revision, length of the resource.
const FRAME_BYTES: usize = 1 + 2 + 8 + 4;

/// A state as it is kept.
#[derive(Clone, Debug)]
pub(in crate::client) struct Saved {
    pub(in crate::client) snapshot: Arc<Snapshot>,
    pub(in crate::client) cursor: Cursor,
    /// When the store confirmed it, since 1970 by the machine's clock.
    pub(in crate::client) confirmed: Duration,
}

#[derive(Serialize, Deserialize)]
struct Header {
    revision: u64,
    resume_token: String,
    view_id: String,
    confirmed: f64,
    revoked: BTreeMap<String, u64>,
    kinds: Vec<String>,
    servers: Vec<String>,
    client: String,
}

pub(super) fn is_cache(content: &[u8]) -> bool {
    content.starts_with(MAGIC)
}

/// The file of a state; `None` where the machine has no randomness or the state is too large.
pub(super) fn seal(saved: &Saved, secret: &SecretText, identity: &Identity) -> Option<Vec<u8>> {
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
    aws_lc_rs::rand::fill(&mut salt).ok()?;
    aws_lc_rs::rand::fill(&mut nonce).ok()?;
    // Sealed in place, so that no plaintext is left behind.
    let mut packed = Zeroizing::new(Vec::new());
    pack(saved, identity.servers(), &mut packed)?;
    let nonce_bytes = nonce;
    let sealing = key(secret, &salt, identity)?;
    let tag = sealing.seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(MAGIC),
        &mut packed,
    );
    Some([MAGIC, &salt, &nonce_bytes, &packed, tag.ok()?.as_ref()].concat())
}

/// The state in a file; `None` where it does not open, or is not what it has to be.
pub(super) fn open(
    content: Vec<u8>,
    secret: &SecretText,
    identity: &Identity,
    overrides: Arc<Overrides>,
) -> Option<Saved> {
    unseal(content, secret, identity, |packed| unpack(packed, identity, overrides))
}

/// Whether a file holds a later revision than a state, with all that the state knows to be revoked: several processes may share
/// one file, and the last to write need not know most. It counts as long as it is not of the future (beyond `latest`).
///
/// Revisions can be compared only within one life of the store. The file is of another where the store has confirmed the lower
/// revision well after it.
pub(super) fn is_later(
    content: Vec<u8>,
    secret: &SecretText,
    identity: &Identity,
    saved: &Saved,
    latest: Duration,
) -> bool {
    let header = unseal(content, secret, identity, |packed| Some(header(packed, identity)?.0));
    header.is_some_and(|header| {
        let confirmed = Duration::try_from_secs_f64(header.confirmed).unwrap_or_default();
        let same_life =
            header.view_id == saved.cursor.view_id && saved.confirmed <= confirmed + CONFIRMED_LATER;
        let mut revoked = saved.snapshot.revoked.iter();
        let knows = |(name, revision): (&Arc<str>, &u64)| {
            *revision <= header.revision || header.revoked.contains_key(&**name)
        };
        header.revision > saved.snapshot.revision && same_life && confirmed <= latest && revoked.all(knows)
    })
}

fn unseal<T>(
    mut content: Vec<u8>,
    secret: &SecretText,
    identity: &Identity,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    let sealed = content.get_mut(MAGIC.len()..)?;
    let (salt, sealed) = sealed.split_at_mut_checked(SALT_BYTES)?;
    let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let opened = key(secret, salt, identity)?.open_in_place(nonce, Aad::from(MAGIC), sealed);
    let found = opened.ok().and_then(|packed| read(packed));
    drop(Zeroizing::new(content));
    found
}

fn key(secret: &SecretText, salt: &[u8], identity: &Identity) -> Option<LessSafeKey> {
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret.expose().as_bytes());
    let info = [LABEL, identity.view()];
    let key = extracted.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(key)))
}

fn pack(saved: &Saved, servers: Vec<String>, packed: &mut Vec<u8>) -> Option<()> {
    let snapshot = &saved.snapshot;
    let word = |entry: &Entry| Kind::of(&entry.resource).map_or("", Kind::as_str);
    let mut kinds: Vec<_> = snapshot.entries().values().map(|entry| word(entry)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let header = Header {
        revision: snapshot.revision,
        resume_token: saved.cursor.resume_token.clone(),
        view_id: saved.cursor.view_id.clone(),
        confirmed: saved.confirmed.as_secs_f64(),
        revoked: snapshot.revoked.iter().map(|(name, revision)| (name.to_string(), *revision)).collect(),
        kinds: kinds.iter().map(ToString::to_string).collect(),
        servers,
        client: CLIENT_VERSION.to_owned(),
    };
    let header = serde_json::to_vec(&header).ok()?;
    packed.extend(u32::try_from(header.len()).ok()?.to_le_bytes());
    packed.extend(header);
    for entry in snapshot.entries().values() {
        let number = kinds.binary_search(&word(entry)).ok()?;
        let resource = entry.with_secrets();
        let message = Zeroizing::new(resource.encode_to_vec());
        packed.push(u8::try_from(number).ok()?);
        packed.extend(u16::try_from(resource.name.len()).ok()?.to_le_bytes());
        packed.extend(resource.update_revision.to_le_bytes());
        packed.extend(u32::try_from(message.len()).ok()?.to_le_bytes());
        packed.extend(resource.name.as_bytes());
        packed.extend(&*message);
    }
    Some(())
}

/// The header, and what follows it; `None` where it is of another service.
fn header<'a>(mut packed: &'a [u8], identity: &Identity) -> Option<(Header, &'a [u8])> {
    let length = usize::try_from(packed.try_get_u32_le().ok()?).ok()?;
    let (header, rest) = packed.split_at_checked(length)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    identity.has_one_of(&header.servers).then_some((header, rest))
}

fn unpack(packed: &[u8], identity: &Identity, overrides: Arc<Overrides>) -> Option<Saved> {
    let (header, mut rest) = header(packed, identity)?;
    let mut snapshot = Snapshot::new(overrides);
    snapshot.revision = header.revision;
    snapshot.revoked =
        header.revoked.into_iter().map(|(name, revision)| (Arc::from(name), revision)).collect();
    while !rest.is_empty() {
        let (mut frame, after) = rest.split_at_checked(FRAME_BYTES)?;
        frame.advance(1);
        let name = usize::from(frame.get_u16_le());
        frame.advance(8);
        let length = usize::try_from(frame.get_u32_le()).ok()?;
        let (message, after) = after.get(name..)?.split_at_checked(length)?;
        snapshot.upsert(Arc::new(Entry::new(Resource::decode(message).ok()?)));
        rest = after;
    }
    let same = header.client == CLIENT_VERSION;
    let cursor = Cursor { resume_token: header.resume_token, view_id: header.view_id };
    Some(Saved {
        snapshot: Arc::new(snapshot),
        cursor: if same { cursor } else { Cursor::default() },
        confirmed: Duration::try_from_secs_f64(header.confirmed).ok()?,
    })
}
