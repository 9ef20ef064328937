//! The keys of providers: looked up, and their use recorded.

use chrono::{DateTime, Utc};

use super::{
    GetRequest, Service,
    active::{parse_type, reaches},
    fields::parse_named,
    parse_revision_token,
};
use crate::{
    choice,
    domain::{Error, KindName, Matter, Observation, Principal, ResourceName, Result, Violations},
    proto::v1::{
        ApiKeyUsage, GetActiveApiKeyRequest, GetActiveApiKeyResponse, GetResourceResponse,
        RecordApiKeyUsageRequest, RecordApiKeyUsageResponse, Resource, get_active_api_key_request::Whose,
    },
    view::State,
    watch::{authorise_secrets, not_granted},
};

const API_KEY: KindName = KindName("api_key");
const PROVIDER: KindName = KindName("provider");
/// Keys of one call.
const MAX_USAGES: usize = 1000;

impl Service {
    /// Reads the key that is to be used, among those that the caller reaches.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `PermissionDenied`, `FailedPrecondition`, `Unavailable`.
    pub async fn active_api_key(
        &self,
        caller: &Principal,
        request: &GetActiveApiKeyRequest,
    ) -> Result<GetActiveApiKeyResponse> {
        let mut violations = Violations::default();
        let asked = violations.take(parse_whose(request.whose.as_ref()))?;
        let least = parse_revision_token("min_revision_token", &request.min_revision_token);
        let least = violations.take(least)?.flatten();
        let asked = violations.allow(asked)?;
        authorise_secrets(caller, request.include_secrets)?;
        self.at_least(least).await?;
        let state = self.parts.view.state();
        let provider = match asked {
            Asked::Provider(name) => name,
            Asked::Type(wanted) => {
                let (provider, _) = self.default_for(caller, &state, wanted)?;
                ResourceName::parse(&provider.name).map_err(Error::internal)?
            }
        };
        let name = self.key_to_use(caller, &state, &provider)?;
        let get = GetRequest {
            name,
            revision: 0,
            // At least what was chosen on.
            min_revision_token: state.token().to_string(),
            include_secrets: request.include_secrets,
            include_observations: false,
        };
        let GetResourceResponse { resource, revision, revision_token, stale, confirmed_age } =
            self.get(caller, get).await?;
        Ok(GetActiveApiKeyResponse { api_key: resource, revision, revision_token, stale, confirmed_age })
    }

    /// The name of the key to use of a provider.
    fn key_to_use(&self, caller: &Principal, state: &State, provider: &ResourceName) -> Result<String> {
        let prefix = format!("{}apiKeys/", provider.beneath());
        let seen = state.beneath(&prefix).filter(|entry| entry.kind() == API_KEY && reaches(caller, entry));
        let keys: Vec<Resource> = seen.map(|entry| self.masked(state, entry)).collect();
        // Whether it exists is told to who reaches it, or a key of it.
        if keys.is_empty() && !caller.reaches(provider, PROVIDER) {
            return Err(not_granted(caller, provider.as_str()).at("provider"));
        }
        if state.get(provider.as_str()).is_none() {
            return Err(Error::NotFound { name: provider.to_string() }.at("provider"));
        }
        let key = choice::active_key(keys.iter());
        key.map(|key| key.name.clone()).ok_or_else(|| Error::FailedPrecondition {
            reason: "NO_ACTIVE_KEY",
            subject: provider.to_string(),
            description: format!(
                "{provider} has no active key with a value: store one (`signalbox set {provider}/apiKeys/ID --secret \
                 -`), or activate or rotate one"
            ),
        })
    }

    /// Takes note of when keys were used.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `Exhausted`; nothing is recorded then.
    pub fn record_api_key_usage(
        &self,
        caller: &Principal,
        request: &RecordApiKeyUsageRequest,
    ) -> Result<RecordApiKeyUsageResponse> {
        let used = parse_usages(request, self.parts.clock.now())?;
        for (index, (name, _)) in used.iter().enumerate() {
            if !caller.reaches(name, API_KEY) {
                return Err(not_granted(caller, name.as_str()).at(format!("usages[{index}].name")));
            }
        }
        let state = self.parts.view.state();
        let (mut seen, mut unknown) = (Vec::with_capacity(used.len()), Vec::new());
        for (name, time) in used {
            match state.get(name.as_str()) {
                Some(entry) => seen.push(Observation {
                    uid: entry.record.uid.clone(),
                    what: Matter::LAST_USED,
                    value_json: String::new(),
                    time,
                }),
                None => unknown.push(name.to_string()),
            }
        }
        self.parts.observer.take(seen)?;
        Ok(RecordApiKeyUsageResponse { unknown })
    }
}

/// Whose key is asked for.
enum Asked {
    Provider(ResourceName),
    Type(crate::proto::v1::ProviderType),
}

fn parse_whose(whose: Option<&Whose>) -> Result<Asked> {
    match whose {
        Some(Whose::Provider(name)) => parse_named("provider", name, PROVIDER.0).map(Asked::Provider),
        Some(Whose::Type(number)) => parse_type("type", *number).map(Asked::Type),
        None => Err(Error::invalid("provider", "REQUIRED", "is required: give `provider`, or `type`")),
    }
}

/// Reads what was used and when; with everything that is wrong with it.
fn parse_usages(
    request: &RecordApiKeyUsageRequest,
    now: DateTime<Utc>,
) -> Result<Vec<(ResourceName, DateTime<Utc>)>> {
    let mut violations = Violations::default();
    let count = request.usages.len();
    if count == 0 || count > MAX_USAGES {
        let description = format!("holds {count} usages; 1 to {MAX_USAGES} are allowed");
        violations.add("usages", "OUT_OF_RANGE", description);
    }
    let mut used = Vec::with_capacity(count.min(MAX_USAGES));
    for (index, ApiKeyUsage { name, last_used_at }) in request.usages.iter().enumerate().take(MAX_USAGES) {
        let name = violations.take(parse_named(&format!("usages[{index}].name"), name, API_KEY.0))?;
        let time =
            violations.take(parse_time(&format!("usages[{index}].last_used_at"), *last_used_at, now))?;
        used.extend(name.zip(time));
    }
    violations.allow(Some(used))
}

/// Nobody's clock is to be ahead of the server's: such a time would win for as long as it lies ahead.
fn parse_time(
    field: &str,
    given: Option<prost_types::Timestamp>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    let Some(given) = given else { return Ok(now) };
    let nanos = u32::try_from(given.nanos).ok().filter(|_| given.seconds >= 0);
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
    let wrong =
        || Error::invalid(field, "OUT_OF_RANGE", "must be a time since 1970, with 0 to 999,999,999 nanos");
    time.map(|time| time.min(now)).ok_or_else(wrong)
}
