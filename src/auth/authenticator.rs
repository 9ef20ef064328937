//! Verifies bearer tokens and makes principals of them.
//!
//! Verified tokens are kept by their hash until they expire. Whether a token is revoked, and whether it has expired, is
//! asked on every call all the same.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{
    claims::{Claims, Expected, Registered, expired, invalid, texts},
    issuer::Scope,
    keys::VerificationKeys,
    roles::{IdentityMap, RoleClaim},
};
use crate::domain::{Clock, Error, Pattern, Principal, Role, limits};

/// Reads the text of a grant, `None` if it is none; names are normalised by it.
pub type GrantParser = Arc<dyn Fn(&str) -> Option<Pattern> + Send + Sync>;
/// Whether a caller's token is revoked, as far as this replica has followed the log.
pub type RevocationCheck = Arc<dyn Fn(&Principal) -> bool + Send + Sync>;

/// Verified tokens that are kept; a fleet of 10,000 workers fits.
const CACHED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
/// How far the clock of an issuer may be ahead, for `nbf`.
const MAX_LEEWAY: Duration = Duration::from_secs(5);

/// An issuer, its keys, and how its tokens are to be read. Its keys count for no other issuer.
pub struct TrustedIssuer {
    /// Its `iss`, exactly.
    pub issuer: String,
    /// Values of `aud` that mean this server; one has to be there.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: VerificationKeys,
    /// Where its tokens say the role.
    pub role: RoleClaim,
}

/// Whom to believe.
pub struct Trust {
    /// The issuers.
    pub issuers: Vec<TrustedIssuer>,
    /// Callers whose rights a file says.
    pub identities: IdentityMap,
    /// How far `nbf` may lie ahead; at most 5 s. `exp` has no leeway.
    pub leeway: Duration,
}

impl Trust {
    /// The issuers, their audiences and their keys as bytes, the same for the same ones and for no others. It holds hashes of
    /// keys: replicas compare it, hashed once more with a key, and it is kept nowhere.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for TrustedIssuer { issuer, audiences, keys, role: _ } in &self.issuers {
            let print = keys.fingerprint();
            let count = (audiences.len() as u64).to_be_bytes();
            let texts = std::iter::once(issuer).chain(audiences).map(|text| text.as_bytes());
            for part in [&count[..]].into_iter().chain(texts).chain([&print[..]]) {
                bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }
}

/// Verifies bearer tokens. Shared by all calls; verification of a new token takes some tens of microseconds.
pub struct Authenticator {
    trust: Trust,
    parse_grant: GrantParser,
    is_revoked: RevocationCheck,
    clock: Arc<dyn Clock>,
    verified: Mutex<LruCache<[u8; 32], Arc<Principal>>>,
}

impl Authenticator {
    /// An authenticator that believes whom `trust` names.
    pub fn new(
        mut trust: Trust,
        parse_grant: GrantParser,
        is_revoked: RevocationCheck,
        clock: Arc<dyn Clock>,
    ) -> Self {
        trust.leeway = trust.leeway.min(MAX_LEEWAY);
        Self { trust, parse_grant, is_revoked, clock, verified: Mutex::new(LruCache::new(CACHED)) }
    }

    /// Verifies a token of at most 8 KiB.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the token is not good (`TOKEN_INVALID`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`);
    /// [`Error::PermissionDenied`] when it is, but gives no role (`ROLE_UNKNOWN`) or a grant that means nothing here
    /// (`GRANT_UNKNOWN`).
    pub fn authenticate(&self, token: &str) -> Result<Arc<Principal>, Error> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(invalid("the token is longer than 8 KiB"));
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.verified.lock().get(&hash).map(Arc::clone);
        if let Some(principal) = known {
            return self.check_still_valid(&principal).map(|()| principal);
        }
        let principal = Arc::new(self.verify(token)?);
        self.check_still_valid(&principal)?;
        self.verified.lock().put(hash, Arc::clone(&principal));
        Ok(principal)
    }

    /// Whether a token that was verified before is still good. Open streams ask this.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with `TOKEN_EXPIRED` or `TOKEN_REVOKED`.
    pub fn check_still_valid(&self, principal: &Principal) -> Result<(), Error> {
        if self.clock.now() >= principal.expires_at {
            return Err(expired());
        }
        if (self.is_revoked)(principal) {
            return Err(Error::Unauthenticated {
                reason: "TOKEN_REVOKED",
                description: "the token was revoked; get a new one".into(),
            });
        }
        Ok(())
    }

    fn verify(&self, token: &str) -> Result<Principal, Error> {
        // The library's own errors may quote the token.
        let header = decode_header(token)
            .map_err(|_| invalid("the token is not a signed JWT; send `authorization: Bearer <token>`"))?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: we understand no extension, so none may be critical.
            return Err(invalid("the token has critical extensions (crit), which are not supported"));
        }
        let verified = self.trust.issuers.iter().find_map(|issuer| {
            let mut candidates = issuer.keys.candidates(&header);
            candidates.find_map(|(algorithm, key)| Some((issuer, signed_claims(token, algorithm, key)?)))
        });
        let (issuer, claims) =
            verified.ok_or_else(|| invalid("the token is not signed with a key that this server trusts"))?;
        let expected = Expected {
            issuer: &issuer.issuer,
            audiences: &issuer.audiences,
            now: self.clock.now(),
            leeway: self.trust.leeway,
        };
        let registered = Registered::check(&claims, &expected)?;
        self.principal(issuer, registered, &claims)
    }

    /// What a token that is good allows: by the identity map, or else by its own claims.
    fn principal(
        &self,
        issuer: &TrustedIssuer,
        registered: Registered,
        claims: &Claims,
    ) -> Result<Principal, Error> {
        let Registered { issuer: iss, subject, audiences, token_id, issued_at, expires_at } = registered;
        let (role, grants, scopes) = match self.trust.identities.find(&iss, &subject, &audiences) {
            Some(entry) => (entry.role, entry.selectors.clone(), entry.scopes.clone()),
            None => {
                let role = issuer.role.role(claims).ok_or_else(role_unknown)?;
                (role, texts(claims, "grants")?, texts(claims, "scope")?.unwrap_or_default())
            }
        };
        let has =
            |scope: Scope| scopes.iter().flat_map(|text| text.split(' ')).any(|word| word == scope.as_str());
        Ok(Principal {
            role,
            grants: self.grants(role, grants)?,
            reads_secrets: role == Role::Worker && has(Scope::SecretsRead),
            grants_secrets: role == Role::Admin && has(Scope::SecretsGrant),
            issuer: iss,
            subject,
            token_id,
            issued_at,
            expires_at,
        })
    }

    /// Reads grants. Absent, they are nothing for a worker and everything for others; an empty list is nothing for anybody.
    fn grants(&self, role: Role, grants: Option<Vec<String>>) -> Result<Vec<Pattern>, Error> {
        let Some(texts) = grants else {
            return Ok(if role == Role::Worker { Vec::new() } else { vec![Pattern::All] });
        };
        if texts.len() > limits::SELECTORS {
            return Err(grant_unknown("the token has more than 64 grants"));
        }
        // One that is not understood is refused, not left out: the caller would miss configuration without knowing why.
        let parsed = texts.iter().map(|text| {
            (self.parse_grant)(text)
                .ok_or_else(|| grant_unknown("the token has a grant that is not a selector of this server"))
        });
        parsed.collect()
    }
}

/// The claims of a token, if this key signed it by this algorithm. Claims are not checked here: the library would do
/// it by the machine's clock.
fn signed_claims(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    decode::<Claims>(token, key, &validation).ok().map(|data| data.claims)
}

fn role_unknown() -> Error {
    Error::PermissionDenied {
        reason: "ROLE_UNKNOWN",
        description: "the token is good, but gives no role on this server".into(),
    }
}

fn grant_unknown(description: &str) -> Error {
    Error::PermissionDenied { reason: "GRANT_UNKNOWN", description: description.into() }
}
