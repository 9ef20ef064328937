//! Which tokens are not accepted any more: every revocation of the log, gathered for asking.

use chrono::{DateTime, Utc};
use imbl::{HashMap, HashSet};

use super::{Principal, Revocation};

/// All revocations up to a revision. Persistent: a clone costs nothing and stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSet {
    tokens: HashSet<String>,
    /// By issuer and subject: tokens issued up to that moment are revoked.
    subjects: HashMap<(String, String), DateTime<Utc>>,
}

impl RevocationSet {
    /// Takes a revocation in. Order does not matter, and nothing is ever taken back.
    pub fn insert(&mut self, revocation: &Revocation) {
        match revocation {
            Revocation::Token { token_id } => {
                self.tokens.insert(token_id.clone());
            }
            Revocation::Subject { issuer, subject, issued_until } => {
                let until = self.subjects.entry((issuer.clone(), subject.clone())).or_insert(*issued_until);
                *until = (*until).max(*issued_until);
            }
        }
    }

    /// Whether the caller's token is revoked.
    ///
    /// Tokens tell their time of issue in whole seconds, rounded down: one that was issued in the second of the
    /// revocation is revoked too. So is one that does not tell: it can't prove that it is newer.
    #[must_use]
    pub fn revokes(&self, principal: &Principal) -> bool {
        if principal.token_id.as_ref().is_some_and(|id| self.tokens.contains(id)) {
            return true;
        }
        if self.subjects.is_empty() {
            return false;
        }
        let subject = (principal.issuer.clone(), principal.subject.clone());
        self.subjects
            .get(&subject)
            .is_some_and(|until| principal.issued_at.is_none_or(|issued_at| issued_at <= *until))
    }
}

impl<'a> FromIterator<&'a Revocation> for RevocationSet {
    fn from_iter<T: IntoIterator<Item = &'a Revocation>>(revocations: T) -> Self {
        let mut set = Self::default();
        revocations.into_iter().for_each(|revocation| set.insert(revocation));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn principal(token_id: Option<&str>, issued_at: Option<i64>) -> Principal {
        Principal {
            subject: "ci".into(),
            issuer: "signalbox".into(),
            role: Role::Worker,
            grants: Vec::new(),
            reads_secrets: false,
            grants_secrets: false,
            token_id: token_id.map(str::to_owned),
            issued_at: issued_at.map(at),
            expires_at: at(1000),
        }
    }

    fn subject(until: i64) -> Revocation {
        Revocation::Subject { issuer: "signalbox".into(), subject: "ci".into(), issued_until: at(until) }
    }

    #[test]
    fn tokens_and_subjects() {
        let mut set: RevocationSet = [&Revocation::Token { token_id: "a".into() }].into_iter().collect();
        assert!(set.revokes(&principal(Some("a"), Some(500))));
        assert!(!set.revokes(&principal(Some("b"), Some(500))));
        assert!(!set.revokes(&principal(None, None)));
        let before = set.clone();
        set.insert(&subject(400));
        set.insert(&subject(300));
        assert!(set.revokes(&principal(Some("b"), Some(400))));
        assert!(!set.revokes(&principal(Some("b"), Some(401))));
        assert!(set.revokes(&principal(None, None)), "it can't prove that it is newer");
        let other = Principal { issuer: "https://id".into(), ..principal(None, Some(1)) };
        assert!(!set.revokes(&other));
        assert!(!before.revokes(&principal(Some("b"), Some(400))), "a clone stays as it was");
    }
}
