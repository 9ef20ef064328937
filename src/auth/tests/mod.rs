//! What tokens and the gate promise, from outside; and the fixtures for it.

mod gate;
mod tokens;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    crypto::SecretText,
    domain::{Clock, Error, Pattern, Principal, ResourceName, Revocation, RevocationSet},
};

const SECRET: &str = "mT0Zq3vUyR9kXw5bN7cJ1hLd8fGs2aPe4oViQtBxWjE=";

/// A clock that stands until it is set.
struct StoppedClock(Mutex<DateTime<Utc>>);

impl Clock for StoppedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock()
    }
}

const NOW: i64 = 1_800_000_000;

/// An authenticator with what tests turn and look at.
struct Fixture {
    clock: Arc<StoppedClock>,
    revoked: Arc<Mutex<RevocationSet>>,
    authenticator: Arc<Authenticator>,
}

impl Fixture {
    fn trusting(trust: Trust) -> Self {
        let clock = Arc::new(StoppedClock(Mutex::new(DateTime::from_timestamp(NOW, 0).unwrap())));
        let revoked = Arc::new(Mutex::new(RevocationSet::default()));
        let asked = Arc::clone(&revoked);
        let authenticator = Authenticator::new(
            trust,
            Arc::new(parse_grant),
            Arc::new(move |principal: &Principal| asked.lock().revokes(principal)),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        Self { clock, revoked, authenticator: Arc::new(authenticator) }
    }

    fn own() -> Self {
        Self::trusting(trust(own_keys(), RoleClaim::default()))
    }

    fn later(&self, milliseconds: i64) {
        *self.clock.0.lock() += TimeDelta::milliseconds(milliseconds);
    }

    fn revoke(&self, revocation: &Revocation) {
        self.revoked.lock().insert(revocation);
    }

    fn principal(&self, token: &str) -> Result<Principal, Error> {
        self.authenticator.authenticate(token).map(|principal| (*principal).clone())
    }

    /// The reason of a refusal, behind a letter for its code: U, P or another.
    fn refusal(&self, token: &str) -> String {
        match self.authenticator.authenticate(token) {
            Ok(_) => "accepted".into(),
            Err(Error::Unauthenticated { reason, .. }) => format!("U {reason}"),
            Err(Error::PermissionDenied { reason, .. }) => format!("P {reason}"),
            Err(other) => format!("? {other}"),
        }
    }

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(&SECRET.into()).unwrap()
    }
}

fn parse_grant(text: &str) -> Option<Pattern> {
    match text {
        "*" => Some(Pattern::All),
        _ => match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => Some(Pattern::Prefix(prefix.into())),
            _ => ResourceName::parse(text).ok().map(Pattern::Name),
        },
    }
}

fn own_keys() -> VerificationKeys {
    VerificationKeys::of_secret(&SECRET.into()).unwrap()
}

fn trust(keys: VerificationKeys, role: RoleClaim) -> Trust {
    let issuer = TrustedIssuer { issuer: OWN_NAME.into(), audiences: vec![OWN_NAME.into()], keys, role };
    Trust { issuers: vec![issuer], identities: IdentityMap::default(), leeway: Duration::from_secs(2) }
}

/// Claims of a good worker's token, with changes: `null` takes a claim away.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "signalbox", "aud": "signalbox", "sub": "ci", "iat": NOW, "exp": NOW + 60, "role": "worker",
    });
    for (claim, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(claim),
            _ => claims.as_object_mut().unwrap().insert(claim.clone(), value.clone()),
        };
    }
    claims
}

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

/// A token with our own key.
fn own(changes: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), &claims(changes), &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// A key pair of one algorithm.
struct Pair {
    algorithm: Algorithm,
    private_pem: String,
    public_pem: String,
}

impl Pair {
    fn generate(algorithm: Algorithm, signature: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = rcgen::KeyPair::generate_for(signature).unwrap();
        Self { algorithm, private_pem: pair.serialize_pem(), public_pem: pair.public_key_pem() }
    }

    fn encoding_key(&self) -> EncodingKey {
        let pem = self.private_pem.as_bytes();
        match self.algorithm {
            Algorithm::RS256 | Algorithm::PS256 => EncodingKey::from_rsa_pem(pem).unwrap(),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem).unwrap(),
            _ => EncodingKey::from_ed_pem(pem).unwrap(),
        }
    }

    fn token(&self, key_id: Option<&str>) -> String {
        let header = Header { kid: key_id.map(str::to_owned), ..Header::new(self.algorithm) };
        sign(&header, &claims(&json!({})), &self.encoding_key())
    }

    fn jwk(&self, key_id: &str) -> Value {
        let pem = self.public_pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&key.unwrap(), Some(self.algorithm)).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = key_id.into();
        jwk
    }
}

/// One pair of each kind; making an RSA key takes its time.
static PAIRS: LazyLock<[Pair; 3]> = LazyLock::new(|| {
    [
        Pair::generate(Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
        Pair::generate(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        Pair::generate(Algorithm::EdDSA, &rcgen::PKCS_ED25519),
    ]
});

/// A directory with one file of mode 0644.
fn public_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    (home, path)
}

fn pem_keys(pem: &str) -> Result<VerificationKeys, TokenKeyError> {
    let (_home, path) = public_file(pem);
    VerificationKeys::load(&KeySource::PublicKeyFile(path))
}

fn set_keys(keys: &Value) -> Result<VerificationKeys, TokenKeyError> {
    let (_home, path) = public_file(&json!({ "keys": keys }).to_string());
    VerificationKeys::load(&KeySource::JwksFile(path))
}
