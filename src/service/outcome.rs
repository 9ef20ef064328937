//! What is kept of an answer for a day, so that a repetition of the request is answered as the request was: the masked
//! answer, and the secrets that are shown only once, sealed.
//!
//! The kept bytes are the encoded answer with a field of our own behind it that no public message has. An outcome that was
//! kept before there were such secrets reads as one without.

use prost::Message;

use crate::{
    crypto::{SecretText, Vault},
    domain::{Error, FieldPath, Result, SealedSecret, SecretId, Uid},
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

/// What the store is to keep of an answer. No plaintext of a secret is in it.
pub(super) fn seal(vault: &Vault, answer: &BatchWriteResponse) -> Vec<u8> {
    let mut masked = answer.clone();
    let mut sealed = Sealed::default();
    for (index, result) in (0..).zip(&mut masked.results) {
        let secret = SecretText::new(std::mem::take(&mut result.one_time_secret));
        let Some(resource) = result.resource.as_ref().filter(|_| !secret.is_empty()) else { continue };
        let SealedSecret { id, data_key, token } = vault.seal(&Uid(resource.uid.clone()), &field(), &secret);
        sealed.secrets.push(SealedOnce { result: index, id: id.0, data_key, token });
    }
    let mut outcome = masked.encode_to_vec();
    outcome.extend(sealed.encode_to_vec());
    outcome
}

/// The answer that was kept. A secret that does not open any more is left out, and a warning says so.
///
/// # Errors
/// `Internal`, when the outcome can't be read.
pub(super) fn open(vault: &Vault, outcome: &[u8]) -> Result<BatchWriteResponse> {
    let mut answer = BatchWriteResponse::decode(outcome).map_err(Error::internal)?;
    let Sealed { secrets } = Sealed::decode(outcome).map_err(Error::internal)?;
    for SealedOnce { result, id, data_key, token } in secrets {
        let index = usize::try_from(result).map_err(Error::internal)?;
        let result = answer.results.get_mut(index);
        let result = result.ok_or_else(|| Error::internal("a kept secret belongs to no result"))?;
        let uid = Uid(result.resource.as_ref().map(|resource| resource.uid.clone()).unwrap_or_default());
        let sealed = SealedSecret { id: SecretId(id), data_key, token };
        match vault.open(&uid, &field(), &sealed) {
            Ok(secret) => secret.expose().clone_into(&mut result.one_time_secret),
            Err(error) => {
                let warning =
                    format!("the secret that was shown for results[{index}] can't be shown again: {error}");
                answer.warnings.push(warning);
            }
        }
    }
    Ok(answer)
}

/// The place that these secrets are sealed for; no spec has such a field.
fn field() -> FieldPath {
    FieldPath("one_time_secret".to_owned())
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

    #[test]
    fn secrets_come_back_and_are_nowhere_in_between() {
        let vault = vault("a");
        let given = answer(&["sbx_first", "", "sbx_third"]);
        let outcome = seal(&vault, &given);
        let holds = |text: &str| outcome.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds("sbx_") && !holds("first"));
        assert_eq!(open(&vault, &outcome).unwrap(), given);
        // What was kept before there were such secrets.
        let plain = answer(&[""]);
        assert_eq!(open(&vault, &plain.encode_to_vec()).unwrap(), plain);
        assert_eq!(seal(&vault, &plain), plain.encode_to_vec());
    }

    #[test]
    fn what_does_not_open_is_left_out() {
        let outcome = seal(&vault("a"), &answer(&["sbx_first"]));
        let opened = open(&vault("b"), &outcome).unwrap();
        assert_eq!((opened.results[0].one_time_secret.as_str(), opened.warnings.len()), ("", 1));
        assert!(open(&vault("a"), &[0xff]).is_err());
    }
}
