//! What the calls to providers share: which key they prove themselves with, and what came of one, in words.
//!
//! A key is opened only once the call is audited, and only together with the address that was stored with it: provider and
//! key come out of one state. What can't be opened is never replaced by anything.

use std::collections::BTreeMap;

use prost_types::Duration;
use tokio::time::Instant;

use super::{Service, active::reaches};
use crate::{
    choice,
    domain::{Error, KindName, Principal, ResourceName, Result},
    outbound::{Answer, Credentials, Fault},
    proto::v1::{ProbeReason, Resource, Secret, resource::Spec, secret},
    view::{Entry, State},
    watch::not_granted,
    wire::{HeaderKind, HttpRequest, Mapping, Reason},
};

const API_KEY: KindName = KindName("api_key");
const KEY_FIELD: &str = "api_key.secret";
const HEADERS: &str = "provider.headers.";

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub reason: ProbeReason,
    /// What is the matter and what to do; empty if it went well.
    pub description: String,
    /// The provider's own words, without parts of a credential.
    pub provider_message: String,
}

impl Finding {
    pub const fn ok() -> Self {
        Self { reason: ProbeReason::Ok, description: String::new(), provider_message: String::new() }
    }

    pub fn new(reason: ProbeReason, description: impl Into<String>) -> Self {
        Self { reason, description: description.into(), provider_message: String::new() }
    }

    /// Why there was no answer.
    pub fn of_fault(fault: Fault) -> Self {
        let (reason, description) = match fault {
            Fault::EgressRefused(word) => {
                let description = format!(
                    "this server does not call the host: it is {word}. Whoever runs the server can allow it: \
                     `--allow-outbound HOST[:PORT]`"
                );
                return Self::new(ProbeReason::EgressRefused, description);
            }
            Fault::Tls(why) => {
                return Self::new(ProbeReason::Tls, format!("there is no secure connection: {why}"));
            }
            Fault::NoSuchHost => {
                (ProbeReason::NoSuchHost, "the host of `base_url` has no address; check how it is spelled")
            }
            Fault::ConnectionRefused => {
                (ProbeReason::Refused, "nobody listens there; check host and port of `base_url`, or start it")
            }
            Fault::Unreachable => {
                (ProbeReason::Unreachable, "the host can't be reached, or ends the connection; try again")
            }
            Fault::Timeout => (ProbeReason::Timeout, "there was no answer in time; try again"),
            Fault::TooLarge => {
                (ProbeReason::TooLarge, "the answer is larger than 1 MiB; check `base_url` and the paths")
            }
            Fault::Redirected => (
                ProbeReason::Redirected,
                "the answer leads elsewhere, which is not followed; set `base_url` to where it leads",
            ),
            Fault::BadAnswer => {
                (ProbeReason::BadAnswer, "the answer is no HTTP; check port and scheme of `base_url`")
            }
            Fault::Unsendable => (
                ProbeReason::NotConfigured,
                "a header has no value that can be sent: give the values of sealed headers again",
            ),
        };
        Self::new(reason, description)
    }

    /// What a status says that is no success.
    pub fn of_status(mapping: &Mapping, answer: &Answer, credentials: &Credentials) -> Self {
        let failure = mapping.failure(answer.status, &answer.body, credentials.key());
        let (reason, description) = match failure.reason {
            Reason::BadKey => {
                (ProbeReason::BadKey, "the provider does not accept the key; rotate it, or store another one")
            }
            Reason::PermissionDenied => (
                ProbeReason::PermissionDenied,
                "the provider does not allow it; check the key, and what it may be used for",
            ),
            Reason::NotFound => (
                ProbeReason::NotFound,
                "there is no such model or path; check the model, `base_url` and the paths",
            ),
            Reason::RateLimited => (
                ProbeReason::RateLimited,
                "too many calls, or no credit is left; try later, or see to the account",
            ),
            Reason::Timeout => (ProbeReason::Timeout, "the provider took too long; try again"),
            Reason::InvalidRequest => (
                ProbeReason::InvalidRequest,
                "the provider says that the request is wrong; check `type`, `endpoint_path` and `request_builder`",
            ),
            Reason::Unavailable => {
                (ProbeReason::Unavailable, "the provider has troubles of its own; try again later")
            }
        };
        let provider_message = credentials.scrubbed(&failure.message);
        Self { provider_message, ..Self::new(reason, description) }
    }

    /// An answer that is none by the provider's configuration.
    pub fn bad_answer() -> Self {
        let description = "the answer is none by the provider's configuration; check `type`, `base_url` and \
            `response_extractor`";
        Self::new(ProbeReason::BadAnswer, description)
    }

    fn unreadable(name: &ResourceName) -> Self {
        let description = format!(
            "a secret of {name} can't be decrypted, so that nothing was sent: give the server the key that it was \
             sealed with, or store the secret again"
        );
        Self::new(ProbeReason::KeyUnreadable, description)
    }

    fn no_key(provider: &ResourceName) -> Self {
        let description = format!(
            "{provider} has no active key with a value that this token reaches: store one (`signalbox set \
             {provider}/apiKeys/ID --secret -`)"
        );
        Self::new(ProbeReason::NoKey, description)
    }
}

impl Service {
    /// The key that a call to a provider proves itself with: the one that is named, or that workers would use.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound`, for one that is named.
    pub(super) fn probing_key<'s>(
        &self,
        caller: &Principal,
        state: &'s State,
        provider: &ResourceName,
        named: Option<&ResourceName>,
    ) -> Result<Option<&'s Entry>> {
        if let Some(name) = named {
            if !caller.reaches(name, API_KEY) {
                return Err(not_granted(caller, name.as_str()).at("api_key"));
            }
            let found = state.get(name.as_str());
            return found.map(Some).ok_or_else(|| Error::NotFound { name: name.to_string() }.at("api_key"));
        }
        let prefix = format!("{}apiKeys/", provider.beneath());
        let seen = state.beneath(&prefix).filter(|entry| entry.kind() == API_KEY && reaches(caller, entry));
        let keys: Vec<Resource> = seen.map(|entry| self.masked(state, entry)).collect();
        // One that can't be opened is told as such, rather than that there is none.
        let chosen = choice::active_key(keys.iter()).or_else(|| keys.iter().find(|key| is_unreadable(key)));
        Ok(chosen.and_then(|key| state.get(&key.name)))
    }

    /// Opens what the requests to a provider have to be sent with. To be called once the call is audited.
    pub(super) fn credentials(
        &self,
        provider: &Entry,
        key: Option<&Entry>,
        requests: &[&HttpRequest],
    ) -> Result<Credentials, Finding> {
        let wants_key = requests
            .iter()
            .any(|request| request.headers.iter().any(|header| header.kind == HeaderKind::ApiKey));
        let mut credentials = Credentials::default();
        let (opened, closed) = self.parts.revealer.open_all(&provider.record, &provider.sealed);
        if !closed.is_empty() {
            return Err(Finding::unreadable(&provider.record.name));
        }
        credentials.headers = opened
            .into_iter()
            .filter_map(|(field, value)| {
                let name = field.0.strip_prefix(HEADERS)?.strip_suffix(".secret")?;
                Some((name.to_owned(), value))
            })
            .collect::<BTreeMap<_, _>>();
        if !wants_key {
            return Ok(credentials);
        }
        let key = key.ok_or_else(|| Finding::no_key(&provider.record.name))?;
        let (opened, closed) = self.parts.revealer.open_all(&key.record, &key.sealed);
        if !closed.is_empty() {
            return Err(Finding::unreadable(&key.record.name));
        }
        let value = opened.into_iter().find(|(field, _)| field.0 == KEY_FIELD).map(|(_, value)| value);
        credentials.api_key = Some(value.ok_or_else(|| Finding::no_key(&provider.record.name))?);
        Ok(credentials)
    }
}

fn is_unreadable(key: &Resource) -> bool {
    let Some(Spec::ApiKey(spec)) = &key.spec else { return false };
    let unreadable = |secret: &Secret| secret.state() == secret::State::Undecryptable;
    spec.active.unwrap_or(true) && spec.secret.as_ref().is_some_and(unreadable)
}

/// How a provider and its key are called in the audit.
pub(super) fn audited(provider: &Entry, key: Option<&Entry>) -> String {
    match key {
        Some(key) => format!("{} with {}", provider.record.name, key.record.name),
        None => provider.record.name.to_string(),
    }
}

/// How long ago that was, for an answer.
pub(super) fn since(begun: Instant) -> Option<Duration> {
    Duration::try_from(begun.elapsed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_says_what_to_do() {
        for fault in [
            Fault::EgressRefused("loopback"),
            Fault::NoSuchHost,
            Fault::ConnectionRefused,
            Fault::Unreachable,
            Fault::Tls("its certificate has expired"),
            Fault::Timeout,
            Fault::TooLarge,
            Fault::Redirected,
            Fault::BadAnswer,
            Fault::Unsendable,
        ] {
            let found = Finding::of_fault(fault);
            assert!(found.reason != ProbeReason::Ok && found.description.len() > 20, "{fault:?}");
        }
        let refused = Finding::of_fault(Fault::EgressRefused("loopback")).description;
        assert!(refused.contains("it is loopback") && refused.contains("--allow-outbound"), "{refused}");
    }
}
