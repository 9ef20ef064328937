//! Which virtual key a caller presents, and what it may do.
//!
//! Owns the check of a presented key against the hashes that the stream brings. Must not know what was spent.
//!
//! A gateway needs a token with `secrets:read` for `virtualKeys/*`, and [`ClientOptions::include_secrets`]: the hashes are
//! sealed, and without them no key is ever found.
//!
//! ```no_run
//! # fn run(client: &signalbox::client::Client, bearer: &str) -> Result<(), &'static str> {
//! let key = client.find_virtual_key(bearer).ok_or("401")?;
//! if !key.allows_provider("groq") || !key.allows_model("llama-3.3-70b-versatile") {
//!     return Err("403");
//! }
//! # Ok(()) }
//! ```
//!
//! [`ClientOptions::include_secrets`]: super::ClientOptions::include_secrets

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    entry::{SecretError, VIRTUAL_KEY_HASH},
    snapshot::Snapshot,
    views::VirtualKey,
};

/// Longer texts are no keys, and are not worth hashing.
const LONGEST_KEY: usize = 256;

impl Snapshot {
    /// The virtual key that a caller presents, if there is such a key, and it is enabled, not revoked and not expired at
    /// `now`. Its hash is compared in constant time; what time tells is whether there is a key with that public id.
    #[must_use]
    pub fn find_virtual_key(&self, presented: &str, now: SystemTime) -> Option<VirtualKey> {
        if presented.len() > LONGEST_KEY {
            return None;
        }
        let (key_id, _) = presented.strip_prefix("sbx_")?.split_once('_')?;
        let key = VirtualKey::of(self.held_virtual_key(key_id)?)?;
        let hash = match key.0.secret(VIRTUAL_KEY_HASH) {
            Ok(hash) => hash,
            Err(error) => {
                if error == SecretError::Masked {
                    tracing::warn!(
                        "virtual keys can't be checked: ask for secrets, with a token that may read them"
                    );
                }
                return None;
            }
        };
        let presented = hex::encode(Sha256::digest(presented.as_bytes()));
        let same = bool::from(presented.as_bytes().ct_eq(hash.expose().as_bytes()));
        (same && key.usable(now)).then_some(key)
    }
}

impl VirtualKey {
    /// Its public id, to be shown and logged in place of the key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.spec().key_id
    }

    /// When it ends to be good; `None` if it does not.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let time = self.spec().expire_time?;
        let seconds = u64::try_from(time.seconds).unwrap_or_default();
        let nanos = u32::try_from(time.nanos).unwrap_or_default();
        UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
    }

    /// Whether it may be used at all: it is enabled, was not revoked, and has not expired.
    #[must_use]
    pub fn usable(&self, now: SystemTime) -> bool {
        self.enabled() && !self.0.revoked && self.expires_at().is_none_or(|end| now < end)
    }

    /// Whether it may be used for a model. Without a list it may for any.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        let models = &self.spec().allowed_models;
        models.is_empty() || models.iter().any(|allowed| allowed == model)
    }

    /// Whether it may be used for a provider, by its id. Without a list it may for any.
    #[must_use]
    pub fn allows_provider(&self, id: &str) -> bool {
        let providers = &self.spec().allowed_providers;
        providers.is_empty() || providers.iter().any(|allowed| allowed.strip_prefix("providers/") == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        client::entry::Entry,
        proto::v1::{Resource, Secret, VirtualKeySpec, resource::Spec, secret::State},
    };

    const KEY: &str = "sbx_01070d13191f252b_MTc9Q0lPVVthZ21zeX-Fi5GXnaOpr7W7wcfN09nf5es";

    fn snapshot(change: impl FnOnce(&mut VirtualKeySpec)) -> Snapshot {
        let mut spec = VirtualKeySpec {
            key_id: "01070d13191f252b".to_owned(),
            key_hash: Some(Secret { value: Some(hex::encode(Sha256::digest(KEY))), state: 0 }),
            ..VirtualKeySpec::default()
        };
        change(&mut spec);
        let name = "virtualKeys/team-a".to_owned();
        let resource = Resource { name, spec: Some(Spec::VirtualKey(spec)), ..Resource::default() };
        let mut snapshot = Snapshot::default();
        snapshot.upsert(Arc::new(Entry::new(resource)));
        snapshot
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_key_that_was_made_is_found_and_no_other() {
        let mut snapshot = snapshot(|_| ());
        let found = snapshot.find_virtual_key(KEY, at(0)).unwrap();
        assert_eq!((found.id(), found.key_id()), ("team-a", "01070d13191f252b"));
        assert!(!format!("{found:?} {:?}", found.resource()).contains(&hex::encode(Sha256::digest(KEY))));
        let hash = hex::encode(Sha256::digest(KEY));
        let long = format!("{KEY}{}", "x".repeat(LONGEST_KEY));
        for other in [
            "",
            "sbx_",
            "sbx__",
            &KEY[..63],
            &KEY[4..],
            &KEY.to_uppercase(),
            &format!("{KEY} "),
            &hash,
            &long,
        ] {
            assert!(snapshot.find_virtual_key(other, at(0)).is_none(), "{other}");
        }
        assert!(snapshot.virtual_key("team-a").is_some());
        snapshot.remove("virtualKeys/team-a");
        assert!(snapshot.find_virtual_key(KEY, at(0)).is_none());
    }

    #[test]
    fn only_a_key_that_may_be_used_is_found() {
        let found =
            |change: fn(&mut VirtualKeySpec), now| snapshot(change).find_virtual_key(KEY, now).is_some();
        assert!(!found(|key| key.enabled = Some(false), at(0)));
        let expiring = |key: &mut VirtualKeySpec| {
            key.expire_time = Some(prost_types::Timestamp { seconds: 100, nanos: 5 });
        };
        assert!(found(expiring, at(100)));
        assert!(!found(expiring, at(101)));
        // Without the hash nothing can be checked, and nothing is let in.
        assert!(!found(
            |key| key.key_hash = Some(Secret { value: None, state: State::Present.into() }),
            at(0)
        ));
        assert!(!found(|key| key.key_hash = None, at(0)));
        let mut revoked = snapshot(|_| ());
        revoked.revoked.insert("virtualKeys/team-a".into(), 9);
        assert!(revoked.find_virtual_key(KEY, at(0)).is_none());
    }

    #[test]
    fn lists_allow_what_is_on_them() {
        let key = |change: fn(&mut VirtualKeySpec)| snapshot(change).find_virtual_key(KEY, at(0)).unwrap();
        let any = key(|_| ());
        assert!(any.allows_model("anything") && any.allows_provider("groq"));
        let some = key(|key| {
            key.allowed_models = vec!["gpt-4o".to_owned()];
            key.allowed_providers = vec!["providers/groq".to_owned()];
        });
        assert!(some.allows_model("gpt-4o") && !some.allows_model("gpt-4o-mini"));
        assert!(
            some.allows_provider("groq") && !some.allows_provider("groq2") && !some.allows_provider("gro")
        );
    }
}
