//! What sealed values and keys promise, from outside.

use std::{fs, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use proptest::prelude::*;

use super::*;
use crate::domain::{
    FieldPath, SealedSecret, SecretId, StoreId, Uid,
    keys::{FirstKeys, Identity},
};

const KEY_A: &str = "3q2-7wABAgMEmQYHCAnKCwwNDg_fEBESExQ7FhcYGRo=";
const KEY_B: &str = "8J-QkSpDtGX-0jM5nYc1oqLPx7RkVwHuE2bTzA46sSI=";

fn identity(store: &str) -> Identity {
    Identity {
        store_id: StoreId(store.into()),
        fresh: true,
        key_checks: Vec::new(),
        keys: Vec::new(),
        password_salt: *b"0123456789abcdef",
        schema_version: 1,
    }
}

/// The identity that a store has once the first keys are written.
fn used(fresh: &Identity, first: FirstKeys) -> Identity {
    Identity { fresh: false, key_checks: vec![first.check], keys: first.keys, ..fresh.clone() }
}

fn env(keys: &str) -> KeySources {
    KeySources { env: Some(keys.into()), ..KeySources::default() }
}

fn keyring(keys: &str) -> Keyring {
    Keyring::load(&env(keys), &identity("s")).unwrap().keyring
}

fn fresh_vault(store: &str) -> (Vault, Identity) {
    let fresh = identity(store);
    let unlocked = Vault::unlock(keyring(KEY_A), &fresh).unwrap();
    (unlocked.vault, used(&fresh, unlocked.first_keys.unwrap()))
}

fn reopen(keys: &str, identity: &Identity) -> Result<Vault, UnlockError> {
    Vault::unlock(keyring(keys), identity).map(|unlocked| unlocked.vault)
}

fn place() -> (Uid, FieldPath) {
    (Uid("7d1d".into()), FieldPath("api_key.secret".into()))
}

fn failure(vault: &Vault, uid: &Uid, field: &FieldPath, sealed: &SealedSecret) -> OpenError {
    vault.open(uid, field, sealed).err().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_again(value in ".{0,600}", uid in "[a-z0-9-]{1,40}", field in "[a-z._]{1,60}") {
        let (vault, used) = fresh_vault("s");
        let (uid, field) = (Uid(uid), FieldPath(field));
        let sealed = vault.seal(&uid, &field, &SecretText::new(value.clone()));
        prop_assert!(value.len() < 8 || !sealed.token.contains(&value));
        let later = reopen(KEY_A, &used).unwrap();
        prop_assert!(later.open(&uid, &field, &sealed).unwrap_or_default() == SecretText::new(value));
    }

    #[test]
    fn no_token_makes_it_panic(data_key in "(data-[0-9]{0,12}|.{0,20})", token in ".{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (vault, _) = fresh_vault("s");
        let (uid, field) = place();
        let mut framed = vec![0x80];
        framed.extend_from_slice(&bytes);
        for token in [token, URL_SAFE.encode(&bytes), URL_SAFE.encode(framed)] {
            for data_key in [data_key.clone(), "data-1".to_owned()] {
                let sealed = SealedSecret { id: SecretId("x".into()), data_key, token: token.clone() };
                prop_assert!(vault.open(&uid, &field, &sealed).is_err());
            }
        }
    }

    #[test]
    fn one_flipped_bit_is_found(index in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (vault, _) = fresh_vault("s");
        let (uid, field) = place();
        let mut sealed = vault.seal(&uid, &field, &"value".into());
        let mut bytes = URL_SAFE.decode(&sealed.token).unwrap();
        let at = index.index(bytes.len());
        bytes[at] ^= 1 << bit;
        sealed.token = URL_SAFE.encode(bytes);
        let error = failure(&vault, &uid, &field, &sealed);
        prop_assert!(matches!(error, OpenError::Tampered | OpenError::Malformed));
    }
}

#[test]
fn nothing_opens_anywhere_else() {
    let (vault, used) = fresh_vault("s");
    let (uid, field) = place();
    let one = vault.seal(&uid, &field, &"one".into());
    let two = vault.seal(&uid, &field, &"two".into());
    assert_ne!(one.id, two.id);
    assert_eq!(failure(&vault, &Uid("other".into()), &field, &one), OpenError::Tampered);
    assert_eq!(failure(&vault, &uid, &FieldPath("api_key.secre".into()), &one), OpenError::Tampered);
    // Lengths are part of the context: `7d1da` + `pi_key.secret` is another place.
    assert_eq!(
        failure(&vault, &Uid("7d1da".into()), &FieldPath("pi_key.secret".into()), &one),
        OpenError::Tampered
    );
    let swapped = SealedSecret { token: two.token, ..one.clone() };
    assert_eq!(failure(&vault, &uid, &field, &swapped), OpenError::Tampered);
    let renamed = SealedSecret { id: two.id, ..one.clone() };
    assert_eq!(failure(&vault, &uid, &field, &renamed), OpenError::Tampered);

    // The same keys under another store's id do not even unlock.
    let moved = Identity { store_id: StoreId("t".into()), ..used };
    assert!(matches!(reopen(KEY_A, &moved), Err(UnlockError::Damaged { .. })));
    let (other, _) = fresh_vault("s");
    assert_eq!(failure(&other, &uid, &field, &one), OpenError::Tampered);
}

#[test]
fn unknown_and_malformed_are_told_apart() {
    let (vault, _) = fresh_vault("s");
    let (uid, field) = place();
    let sealed = vault.seal(&uid, &field, &"one".into());
    for id in ["data-2", "data-01", "data-+1", "data-", "log", ""] {
        let other = SealedSecret { data_key: id.into(), ..sealed.clone() };
        assert_eq!(failure(&vault, &uid, &field, &other), OpenError::UnknownDataKey(id.into()));
    }
    for token in ["", "x", "gAAAAA==", "sk-plain", &"A".repeat(1 << 20)] {
        let other = SealedSecret { token: token.into(), ..sealed.clone() };
        assert_eq!(failure(&vault, &uid, &field, &other), OpenError::Malformed);
    }
}

#[test]
fn every_token_carries_the_same_time() {
    let (vault, _) = fresh_vault("s");
    let (uid, field) = place();
    for _ in 0..3 {
        let token = vault.seal(&uid, &field, &"one".into()).token;
        assert_eq!(URL_SAFE.decode(token).unwrap()[1..9], [0; 8]);
    }
}

#[test]
fn length_is_hidden() {
    let (vault, _) = fresh_vault("s");
    let (uid, field) = place();
    let size = |length: usize| vault.seal(&uid, &field, &"x".repeat(length).into()).token.len();
    assert_eq!(size(0), size(252));
    assert!(size(253) > size(252));
    assert_eq!(size(253), size(508));
    let longest = SecretText::new("x".repeat(crate::domain::limits::SECRET_BYTES));
    let sealed = vault.seal(&uid, &field, &longest);
    assert!(vault.open(&uid, &field, &sealed).unwrap_or_default() == longest);
}

#[test]
fn a_wrong_or_lost_key_stops_before_anything_is_written() {
    let (_, used) = fresh_vault("s");
    let Err(UnlockError::WrongKey { needed, loaded }) = reopen(KEY_B, &used) else { panic!() };
    assert_eq!(needed, keyring(KEY_A).ids()[0]);
    assert_eq!(loaded, keyring(KEY_B).ids()[0]);

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("encryption.key");
    let sources = KeySources { generate_into: Some(path.clone()), ..KeySources::default() };
    let error = Keyring::load(&sources, &used).unwrap_err();
    assert!(error.to_string().contains(&needed), "{error}");
    assert!(!path.exists(), "a lost key is never made anew");
}

#[test]
fn altered_keys_are_damage() {
    let (_, used) = fresh_vault("s");
    let mut forged = used.clone();
    forged.key_checks[0].value = "00".repeat(32);
    assert!(matches!(reopen(KEY_A, &forged), Err(UnlockError::Damaged { .. })));
    let mut swapped = used.clone();
    let log = swapped.keys[1].wrapped.clone();
    swapped.keys[0].wrapped = log;
    assert!(matches!(reopen(KEY_A, &swapped), Err(UnlockError::Damaged { .. })));
    let gone = Identity { keys: Vec::new(), ..used };
    assert!(matches!(reopen(KEY_A, &gone), Err(UnlockError::Damaged { .. })));
}

#[test]
fn rotation_leaves_values_alone() {
    let (vault, used) = fresh_vault("s");
    let (uid, field) = place();
    let sealed = vault.seal(&uid, &field, &"one".into());
    // The new key first, the old one second: everything opens, and can be wrapped anew.
    let both = format!("{KEY_B}, {KEY_A}");
    assert!(reopen(&both, &used).unwrap().open(&uid, &field, &sealed).is_ok());
    let rewrapped = keyring(&both).rewrap(&used).unwrap();
    let mut middle = used.clone();
    middle.keys.extend(rewrapped.keys.clone());
    middle.key_checks.push(rewrapped.check.clone());
    let after = Identity { keys: rewrapped.keys, key_checks: vec![rewrapped.check], ..used };
    for (keys, identity) in [(KEY_A, &middle), (KEY_B, &middle), (KEY_B, &after)] {
        let opened = reopen(keys, identity).unwrap().open(&uid, &field, &sealed).unwrap_or_default();
        assert!(opened == "one".into());
    }
    assert!(matches!(reopen(KEY_A, &after), Err(UnlockError::WrongKey { .. })));
}

#[test]
fn an_older_data_key_may_stay_locked() {
    let (vault, used) = fresh_vault("s");
    let (uid, field) = place();
    let sealed = vault.seal(&uid, &field, &"one".into());
    let renewed = keyring(KEY_B).current_wraps_for_test("s");
    let mut mixed = Identity { key_checks: renewed.key_checks, ..used.clone() };
    mixed.keys = used.keys.into_iter().filter(|key| key.id == "data-1").chain(renewed.keys).collect();
    let later = reopen(KEY_B, &mixed).unwrap();
    assert_eq!(later.locked_data_keys(), ["data-1"]);
    assert_eq!(failure(&later, &uid, &field, &sealed), OpenError::LockedDataKey("data-1".into()));
    assert_eq!(later.seal(&uid, &field, &"two".into()).data_key, "data-2");
}

impl Keyring {
    /// A store whose second data key and log root are wrapped with the current key.
    fn current_wraps_for_test(&self, store: &str) -> Identity {
        let id = StoreId(store.into());
        let key = derive::random_key().unwrap();
        let keys = vec![self.current().wrap(&id, "data-2", &key), self.current().wrap(&id, "log", &key)];
        Identity { fresh: false, key_checks: vec![self.current().check(&id)], keys, ..identity(store) }
    }
}

#[test]
fn request_macs_last_and_differ() {
    let (vault, used) = fresh_vault("s");
    let later = reopen(KEY_A, &used).unwrap();
    assert_eq!(vault.request_mac(b"a"), later.request_mac(b"a"));
    assert_ne!(vault.request_mac(b"a"), vault.request_mac(b"b"));
    assert_ne!(vault.request_mac(b"a"), fresh_vault("s").0.request_mac(b"a"));
}

#[test]
fn a_fresh_store_gets_a_key_once() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keys").join("encryption.key");
    let sources = KeySources { generate_into: Some(path.clone()), ..KeySources::default() };
    let made = Keyring::load(&sources, &identity("s")).unwrap();
    assert_eq!(made.origin, KeyOrigin::Generated(path.clone()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = Keyring::load(&sources, &identity("s")).unwrap();
    assert_eq!(again.origin, KeyOrigin::File(path.clone()));
    assert_eq!(again.keyring.ids(), made.keyring.ids());
    assert_eq!((made.warnings.len(), again.warnings), (1, made.warnings), "at every start");
    // A key of the operator's own is taken instead, and what it needs to open the old is told.
    for given in [
        KeySources { env: Some(KEY_A.into()), ..sources.clone() },
        KeySources { password: Some("torn-umbrella-4-gazebo".into()), ..sources.clone() },
    ] {
        let loaded = Keyring::load(&given, &identity("s")).unwrap();
        assert_eq!(loaded.keyring.ids().len(), 1);
        assert!(matches!(loaded.origin, KeyOrigin::Environment | KeyOrigin::Password));
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert!(warning.starts_with(&format!("{} is ignored", path.display())), "{warning}");
        assert!(warning.contains("second key of ENCRYPTION_KEY"), "{warning}");
    }
    let named = KeySources { file: Some(path.clone()), env: Some(KEY_A.into()), ..sources };
    let named = Keyring::load(&named, &identity("s")).unwrap();
    assert_eq!(
        (named.keyring.ids().len(), named.origin),
        (2, KeyOrigin::File(path)),
        "a file that is named is given"
    );
}

#[test]
fn sources_in_their_order() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("my.key");
    private_file::create(&path, &KEY_B.into()).unwrap();
    let sources = KeySources { file: Some(path.clone()), ..env(KEY_A) };
    let loaded = Keyring::load(&sources, &identity("s")).unwrap();
    assert_eq!(loaded.origin, KeyOrigin::File(path.clone()));
    assert_eq!(loaded.keyring.ids(), [keyring(KEY_B).ids(), keyring(KEY_A).ids()].concat());
    assert!(loaded.warnings.is_empty());
    let absent = KeySources { file: Some(home.path().join("no.key")), ..env(KEY_A) };
    assert!(matches!(Keyring::load(&absent, &identity("s")), Err(KeyError::File(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(Keyring::load(&sources, &identity("s")), Err(KeyError::File(_))));
    let none = Keyring::load(&KeySources::default(), &identity("s")).unwrap_err();
    assert!(none.to_string().contains("signalbox keys generate"), "{none}");
}

#[test]
fn a_password_with_its_salt_is_a_key() {
    let sources = KeySources { password: Some("torn-umbrella-4-gazebo".into()), ..KeySources::default() };
    let one = Keyring::load(&sources, &identity("s")).unwrap();
    assert_eq!(one.origin, KeyOrigin::Password);
    let salted = Identity { password_salt: [7; 16], ..identity("s") };
    assert_ne!(Keyring::load(&sources, &salted).unwrap().keyring.ids(), one.keyring.ids());
}

#[test]
fn weak_keys_and_passwords_are_refused_without_being_repeated() {
    let counting: Vec<u8> = (7..39).collect();
    let encoded = |bytes: &[u8]| URL_SAFE.encode(bytes);
    let keys = [
        encoded(&[0; 32]),
        encoded(&[0xab; 32]),
        encoded(&counting),
        encoded(&[1, 2, 3, 4].repeat(8)),
        encoded(b"thisisasecretkeythisisasecretkey"),
        "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=".to_owned(),
        "ZmDfcTF7_60GrrY167zsiPd67pEvs0aGOv2oasOM1Pg".to_owned(),
        encoded(&[9; 31]),
        "not base64 at all!".to_owned(),
    ];
    for key in keys {
        let error = Keyring::load(&env(&format!("{KEY_A},{key}")), &identity("s")).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, KeyError::Key { position: 2, .. }), "{shown}");
        assert!(!shown.contains(&key) && !shown.contains(KEY_A), "{shown}");
    }
    for empty in ["", " , ,"] {
        assert!(matches!(Keyring::load(&env(empty), &identity("s")), Err(KeyError::Empty { .. })));
    }
    for password in [
        "josoor-llm-provider-key-2026",
        "changeme",
        "ChangeMe-123456",
        "Password2026!!",
        "ababababababab",
        "Xy-7q",
    ] {
        let sources = KeySources { password: Some(password.into()), ..KeySources::default() };
        let error = Keyring::load(&sources, &identity("s")).unwrap_err();
        assert!(matches!(error, KeyError::Password(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains(password));
    }
}

#[test]
fn debug_shows_ids_only() {
    let loaded = Keyring::load(&env(KEY_A), &identity("s")).unwrap();
    let raw = hex::encode(URL_SAFE.decode(KEY_A).unwrap());
    let shown = format!("{loaded:?}");
    let unlocked = format!("{:?}", Vault::unlock(loaded.keyring, &identity("s")).unwrap());
    for text in [shown, unlocked] {
        assert!(text.contains("kek-") && !text.contains(KEY_A) && !text.contains(&raw), "{text}");
    }
}

#[test]
fn generated_keys_are_accepted() {
    let key = generate_key().unwrap();
    assert_eq!(keyring(key.expose()).ids().len(), 1);
}
