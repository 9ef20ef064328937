//! What is kept of an answer for a day, so that a repetition of the request is answered as the request was: the masked
//! answer, and the secrets that are shown only once, sealed.
//!
//! The kept bytes are the encoded answer with a field of our own behind it that no public message has. An outcome that was
//! kept before there were such secrets reads as one without.

use prost::Message;

use crate::{
    crypto::{SecretText, Vault},
    domain::{ApplyError, Error, FieldPath, Result, SealedSecret, SecretId, Uid},
    proto::v1::BatchWriteResponse,
};

/// The sealed secrets behind the answer.
#[derive(Clone, PartialEq, Message)]
struct Sealed {
    /// Far from the fields that answers have, or may come to have.
    #[prost(message, repeated, tag = "1000")]
    secrets: Vec<SealedOnce>,
}

/// One secret, sealed for the resource that it was made for.
#[derive(Clone, PartialEq, Message)]
struct SealedOnce {
    /// Index of the result that shows it.
    #[prost(uint32, tag = "1")]
    result: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    data_key: String,
    #[prost(string, tag = "4")]
    token: String,
}

/// Where an outcome belongs. One that was moved elsewhere in the database is not believed.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Who asked.
    pub principal: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// The token that it was asked with: another one of the same subject is not shown the secrets again.
    pub token_id: &'a str,
}

impl Place<'_> {
    /// Unambiguous bytes: lengths before texts.
    fn label(&self, with_token: bool) -> Vec<u8> {
        let token_id = if with_token { self.token_id } else { "" };
        let mut label = b"outcome".to_vec();
        for text in [self.principal, self.request_id, token_id] {
            label.extend((text.len() as u64).to_le_bytes());
            label.extend(text.as_bytes());
        }
        label
    }

    fn mac(&self, vault: &Vault, outcome: &[u8]) -> [u8; 32] {
        vault.request_mac(&[&self.label(false), outcome].concat())
    }

    /// The place that these secrets are sealed for; no spec has such a field.
    fn field(&self) -> FieldPath {
        FieldPath(format!("one_time_secret:{}", hex::encode(self.label(true))))
    }
}

/// What the store is to keep of an answer. No plaintext of a secret is in it.
pub(super) fn seal(vault: &Vault, place: &Place<'_>, answer: &BatchWriteResponse) -> Vec<u8> {
    let mut masked = answer.clone();
    let mut sealed = Sealed::default();
    for (index, result) in (0..).zip(&mut masked.results) {
        let secret = SecretText::new(std::mem::take(&mut result.one_time_secret));
        let Some(resource) = result.resource.as_ref().filter(|_| !secret.is_empty()) else { continue };
        let uid = Uid(resource.uid.clone());
        let SealedSecret { id, data_key, token } = vault.seal(&uid, &place.field(), &secret);
        sealed.secrets.push(SealedOnce { result: index, id: id.0, data_key, token });
    }
    let mut outcome = masked.encode_to_vec();
    outcome.extend(sealed.encode_to_vec());
    let mac = place.mac(vault, &outcome);
    outcome.extend(mac);
    outcome
}

/// The answer that was kept. A secret that does not open any more is left out, and a warning says so.
///
/// # Errors
/// `FailedPrecondition`, when the outcome is not the one that was kept here: the store is damaged.
pub(super) fn open(vault: &Vault, place: &Place<'_>, outcome: &[u8]) -> Result<BatchWriteResponse> {
    let altered = || {
        let (principal, request_id) = (place.principal.escape_debug(), place.request_id.escape_debug());
        tracing::error!(%principal, %request_id, "the kept answer of a request was edited");
        Error::from(ApplyError::Damaged {
            what: "the kept answer of this request was changed by another program".into(),
        })
    };
    let (outcome, mac) = outcome.split_last_chunk::<32>().ok_or_else(altered)?;
    if place.mac(vault, outcome) != *mac {
        return Err(altered());
    }
    let mut answer = BatchWriteResponse::decode(outcome).map_err(Error::internal)?;
    let Sealed { secrets } = Sealed::decode(outcome).map_err(Error::internal)?;
    for SealedOnce { result, id, data_key, token } in secrets {
        let index = usize::try_from(result).map_err(Error::internal)?;
        let result = answer.results.get_mut(index);
        let result = result.ok_or_else(|| Error::internal("a kept secret belongs to no result"))?;
        let uid = Uid(result.resource.as_ref().map(|resource| resource.uid.clone()).unwrap_or_default());
        let sealed = SealedSecret { id: SecretId(id), data_key, token };
        match vault.open(&uid, &place.field(), &sealed) {
            Ok(secret) => secret.expose().clone_into(&mut result.one_time_secret),
            Err(_) => {
                let warning = format!(
                    "the secret of results[{index}] is shown again only to the token that it was shown to first"
                );
                answer.warnings.push(warning);
            }
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{KeySources, Keyring, generate_key},
        domain::{StoreId, keys::Identity},
        proto::v1::{BatchResult, Resource},
    };

    fn vault(store: &str) -> Vault {
        let identity = Identity {
            store_id: StoreId(store.to_owned()),
            fresh: true,
            key_checks: Vec::new(),
            keys: Vec::new(),
            password_salt: [0; 16],
            schema_version: 1,
        };
        let sources = KeySources { env: Some(generate_key().unwrap()), ..Default::default() };
        let keyring = Keyring::load(&sources, &identity).unwrap().keyring;
        Vault::unlock(keyring, &identity).unwrap().vault
    }

    fn answer(secrets: &[&str]) -> BatchWriteResponse {
        let results = secrets.iter().enumerate().map(|(index, secret)| BatchResult {
            resource: Some(Resource { uid: format!("uid-{index}"), ..Default::default() }),
            diffs: Vec::new(),
            one_time_secret: (*secret).to_owned(),
        });
        BatchWriteResponse { results: results.collect(), revision: 7, ..Default::default() }
    }

    const HERE: Place<'static> = Place { principal: "signalbox\nadmin", request_id: "r1", token_id: "t1" };

    #[test]
    fn secrets_come_back_and_are_nowhere_in_between() {
        let vault = vault("a");
        let given = answer(&["sbx_first", "", "sbx_third"]);
        let outcome = seal(&vault, &HERE, &given);
        let holds = |text: &str| outcome.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds("sbx_") && !holds("first"));
        assert_eq!(open(&vault, &HERE, &outcome).unwrap(), given);
    }

    #[test]
    fn regression_an_outcome_that_was_moved_or_edited_is_not_believed() {
        let vault = vault("a");
        let outcome = seal(&vault, &HERE, &answer(&["sbx_first"]));
        for place in [Place { principal: "signalbox\nmallory", ..HERE }, Place { request_id: "r2", ..HERE }] {
            assert!(open(&vault, &place, &outcome).is_err());
        }
        for index in [0, outcome.len() / 2, outcome.len() - 1] {
            let mut edited = outcome.clone();
            edited[index] ^= 1;
            assert!(open(&vault, &HERE, &edited).is_err(), "{index}");
        }
        assert!(open(&vault, &HERE, &[0xff]).is_err());
    }

    #[test]
    fn regression_another_token_of_the_subject_is_not_shown_the_secret() {
        let vault = vault("a");
        let outcome = seal(&vault, &HERE, &answer(&["sbx_first"]));
        let opened = open(&vault, &Place { token_id: "t2", ..HERE }, &outcome).unwrap();
        assert_eq!((opened.results[0].one_time_secret.as_str(), opened.warnings.len()), ("", 1));
    }
}
