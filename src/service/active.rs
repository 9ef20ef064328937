//! The active provider and the defaults by type: what `routers/default` says, read and written under names of their own.
//!
//! Thin: writes are updates of that router on the one way in, where the kinds hold the rules.

use prost::Message;
use tokio::time::Instant;

use super::{
    Service, age,
    fields::renamed_by,
    parse_revision_token,
    write::{DEADLINE, Operation, OperationKind, WriteRequest},
};
use crate::{
    choice::{self, DEFAULT_ROUTER},
    domain::{Error, KindName, Principal, ResourceName, Result, Spec, Unmet, Violations},
    kinds::{provider_types, router::MAX_FALLBACKS},
    proto::v1::{
        BatchWriteResponse, GetActiveProviderRequest, GetActiveProviderResponse, GetDefaultProviderRequest,
        GetDefaultProviderResponse, ProviderType, Resource, ResourceDiff, RouterSpec,
        SetDefaultProviderRequest, SetDefaultProviderResponse, SwitchActiveProviderRequest,
        SwitchActiveProviderResponse,
    },
    view::{Entry, Reveal, State},
    watch::not_granted,
};

const ROUTER: KindName = KindName("router");
const PROVIDER: KindName = KindName("provider");

/// What every write of the router takes from its request.
struct Frame<'r> {
    etag: &'r str,
    validate_only: bool,
    request_id: &'r str,
    reason: &'r str,
    body: Vec<u8>,
}

/// A change of the router: its new content, and the fields of it that are meant.
struct Edit {
    spec: RouterSpec,
    mask: &'static [&'static str],
}

impl Service {
    /// Reads which provider is active.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `PermissionDenied`, `Unavailable`.
    pub async fn active_provider(
        &self,
        caller: &Principal,
        request: &GetActiveProviderRequest,
    ) -> Result<GetActiveProviderResponse> {
        let least = parse_revision_token("min_revision_token", &request.min_revision_token)?;
        reach_router(caller)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let state = self.parts.view.state();
        let entry = state.get(DEFAULT_ROUTER).ok_or_else(no_router)?;
        let spec = router_of(Some(entry)).ok_or_else(no_router)?;
        let provider = self.provider_shown(caller, &state, &spec.primary)?;
        let fallbacks = spec.fallbacks.iter();
        let fallbacks = fallbacks.filter_map(|name| self.provider_shown(caller, &state, name).ok()).collect();
        let (stale, confirmed_age) = age(confirmed);
        Ok(GetActiveProviderResponse {
            provider: Some(provider),
            fallbacks,
            router: Some(self.masked(&state, entry)),
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// Makes a provider the active one.
    ///
    /// # Errors
    /// As [`Service::write`], with the fields of this request.
    pub async fn switch_active_provider(
        &self,
        caller: &Principal,
        request: &SwitchActiveProviderRequest,
    ) -> Result<SwitchActiveProviderResponse> {
        let edit = |router: Option<&RouterSpec>| {
            let fallbacks = match &request.fallbacks {
                Some(given) => given.providers.clone(),
                None => router.map(|router| moved_up(router, &request.provider)).unwrap_or_default(),
            };
            let spec = RouterSpec { primary: request.provider.clone(), fallbacks, ..RouterSpec::default() };
            Ok(Edit { spec, mask: &["router.primary", "router.fallbacks"] })
        };
        let frame = Frame {
            etag: &request.etag,
            validate_only: request.validate_only,
            request_id: &request.request_id,
            reason: &request.reason,
            body: body("SwitchActiveProvider", request),
        };
        let answer = self.write_router(caller, frame, edit).await.map_err(|error| {
            renamed_by(error, |field| match field.strip_prefix("resource.router.fallbacks") {
                Some(rest) if request.fallbacks.is_some() => Some(format!("fallbacks.providers{rest}")),
                _ => sent(field),
            })
        });
        let answer = answer.map_err(|error| {
            not_there(error, |name| {
                name == request.provider
                    || request
                        .fallbacks
                        .as_ref()
                        .is_some_and(|given| given.providers.iter().any(|one| one == name))
            })
        })?;
        let BatchWriteResponse { results, revision, revision_token, mut warnings } = answer;
        let result = results.into_iter().next().unwrap_or_default();
        let diff = result.diffs.into_iter().next();
        let primary = diff.iter().flat_map(|diff| &diff.fields).find(|field| field.path == "router.primary");
        let previous = primary.and_then(|field| serde_json::from_str(&field.before).ok()).unwrap_or_default();
        let dropped = diff.iter().filter(|_| request.fallbacks.is_none()).flat_map(dropped);
        warnings.extend(dropped.map(|name| {
            format!(
                "{name} is no fallback any more: a router has at most {MAX_FALLBACKS}, and it was the last"
            )
        }));
        Ok(SwitchActiveProviderResponse {
            router: result.resource,
            previous,
            revision,
            revision_token,
            diff,
            warnings,
        })
    }

    /// Reads which provider stands for a type, among those that the caller reaches.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `Unavailable`.
    pub async fn default_provider(
        &self,
        caller: &Principal,
        request: &GetDefaultProviderRequest,
    ) -> Result<GetDefaultProviderResponse> {
        let mut violations = Violations::default();
        let wanted = violations.take(parse_type("type", request.r#type))?;
        let least = parse_revision_token("min_revision_token", &request.min_revision_token);
        let least = violations.take(least)?.flatten();
        let wanted = violations.allow(wanted)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let state = self.parts.view.state();
        let (provider, named) = self.default_for(caller, &state, wanted)?;
        let (stale, confirmed_age) = age(confirmed);
        Ok(GetDefaultProviderResponse {
            provider: Some(provider),
            named,
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// The provider that stands for a type, and whether that was said or follows.
    pub(super) fn default_for(
        &self,
        caller: &Principal,
        state: &State,
        wanted: ProviderType,
    ) -> Result<(Resource, bool)> {
        let router = state.get(DEFAULT_ROUTER).filter(|entry| reaches(caller, entry));
        let router = router_of(router);
        let entries = state.beneath("providers/");
        let seen = entries.filter(|entry| entry.kind() == PROVIDER && reaches(caller, entry));
        let providers: Vec<Resource> = seen.map(|entry| self.masked(state, entry)).collect();
        let word = choice::type_word(wanted);
        let named = router.is_some_and(|router| router.type_defaults.contains_key(&word));
        let has_key = |name: &str| {
            let beneath = format!("{name}/apiKeys/");
            let keys = state.beneath(&beneath);
            keys.filter(|entry| reaches(caller, entry))
                .any(|entry| matches!(&entry.record.spec, Spec::ApiKey(spec) if choice::is_usable(spec)))
        };
        let found = choice::default_provider(wanted, router, providers.iter(), has_key).cloned();
        let found = found
            .ok_or_else(|| Error::NotFound { name: format!("enabled provider of the type `{word}`") })?;
        Ok((found, named))
    }

    /// Names the provider that stands for a type, or none.
    ///
    /// # Errors
    /// As [`Service::write`], with the fields of this request.
    pub async fn set_default_provider(
        &self,
        caller: &Principal,
        request: &SetDefaultProviderRequest,
    ) -> Result<SetDefaultProviderResponse> {
        let word = choice::type_word(parse_type("type", request.r#type)?);
        let edit = |router: Option<&RouterSpec>| {
            let mut spec = router.cloned().ok_or_else(|| Error::FailedPrecondition {
                reason: "NO_ACTIVE_PROVIDER",
                subject: DEFAULT_ROUTER.into(),
                description: "no provider is active yet: make one active first (`signalbox switch PROVIDER`)"
                    .into(),
            })?;
            match request.provider.as_str() {
                "" => drop(spec.type_defaults.remove(&word)),
                name => drop(spec.type_defaults.insert(word.clone(), name.to_owned())),
            }
            Ok(Edit { spec, mask: &["router.type_defaults"] })
        };
        let frame = Frame {
            etag: &request.etag,
            validate_only: request.validate_only,
            request_id: &request.request_id,
            reason: &request.reason,
            body: body("SetDefaultProvider", request),
        };
        let answer = self.write_router(caller, frame, edit).await;
        let answer = answer.map_err(|error| renamed_by(error, sent));
        let answer = answer.map_err(|error| not_there(error, |name| name == request.provider))?;
        let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
        let result = results.into_iter().next().unwrap_or_default();
        let diff = result.diffs.into_iter().next();
        Ok(SetDefaultProviderResponse { router: result.resource, revision, revision_token, diff, warnings })
    }

    /// Writes what an edit makes of the router as it is. Whoever changes it meanwhile is built on: the edit is made again.
    async fn write_router(
        &self,
        caller: &Principal,
        frame: Frame<'_>,
        edit: impl Fn(Option<&RouterSpec>) -> Result<Edit>,
    ) -> Result<BatchWriteResponse> {
        reach_router(caller)?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let state = self.parts.view.state();
            let entry = state.get(DEFAULT_ROUTER);
            let Edit { spec, mask } = edit(router_of(entry))?;
            let mut resource = Resource {
                name: DEFAULT_ROUTER.into(),
                spec: Some(Spec::Router(spec)),
                ..Resource::default()
            };
            let current = entry.map(|entry| entry.record.etag(state.epoch).as_str().to_owned());
            let action = match (&current, frame.etag) {
                (None, "") => OperationKind::Create(resource),
                (_, given) => {
                    let current = current.clone().unwrap_or_default();
                    resource.etag = if given.is_empty() { current } else { given.to_owned() };
                    let mask = mask.iter().map(|path| (*path).to_owned()).collect();
                    OperationKind::Update { resource, mask, allow_missing: false }
                }
            };
            let write = WriteRequest {
                operations: vec![Operation { path: String::new(), action }],
                validate_only: frame.validate_only,
                request_id: frame.request_id.to_owned(),
                reason: frame.reason.to_owned(),
                body: frame.body.clone(),
            };
            let outcome = self.write(caller, write).await;
            let overtaken = frame.etag.is_empty()
                && outcome.as_ref().is_err_and(|error| is_overtaken(error.cause()))
                && Instant::now() < deadline;
            if !overtaken {
                return outcome;
            }
        }
    }

    fn provider_shown(&self, caller: &Principal, state: &State, name: &str) -> Result<Resource> {
        let entry = state.get(name).ok_or_else(|| Error::NotFound { name: name.to_owned() })?;
        match reaches(caller, entry) {
            true => Ok(self.masked(state, entry)),
            false => Err(not_granted(caller, name)),
        }
    }

    pub(super) fn masked(&self, state: &State, entry: &Entry) -> Resource {
        self.parts.revealer.resource(&entry.record, &entry.sealed, state.epoch, Reveal::Masked)
    }
}

/// A field of the router as one of a request that changes it: whatever of the router stands against the change, the caller sent
/// no more of it than a provider.
fn sent(field: &str) -> Option<String> {
    let rest = field.strip_prefix("resource.")?;
    Some(if rest.starts_with("router") { "provider".to_owned() } else { rest.to_owned() })
}

/// What the caller names and what is not there is told as such: that a router would refer to it is no matter of his.
fn not_there(error: Error, named: impl Fn(&str) -> bool) -> Error {
    match error.cause() {
        Error::Missing { unmet, .. } => match unmet.iter().find(|one| named(&one.subject)) {
            Some(Unmet { field, subject, .. }) => Error::NotFound { name: subject.clone() }.at(field),
            None => error,
        },
        _ => error,
    }
}

/// The fallbacks after a switch of which only the new primary is said: the old one comes first, and what no longer fits goes.
fn moved_up(router: &RouterSpec, primary: &str) -> Vec<String> {
    let before = std::iter::once(&router.primary).chain(&router.fallbacks);
    before.filter(|name| *name != primary).take(MAX_FALLBACKS).cloned().collect()
}

/// The fallbacks that a switch left without a place. Read from what changed, so that a repeated request is told the same.
fn dropped(diff: &ResourceDiff) -> Vec<String> {
    let of = |path: &str| diff.fields.iter().find(|field| field.path == path);
    let names = |json: &str| serde_json::from_str::<Vec<String>>(json).unwrap_or_default();
    let (Some(fallbacks), Some(primary)) = (of("router.fallbacks"), of("router.primary")) else {
        return Vec::new();
    };
    let active = serde_json::from_str::<String>(&primary.after).unwrap_or_default();
    let after = names(&fallbacks.after);
    names(&fallbacks.before).into_iter().filter(|name| *name != active && !after.contains(name)).collect()
}

/// Whether the router has changed since the edit was made.
fn is_overtaken(error: &Error) -> bool {
    matches!(error, Error::EtagMismatch { name, .. } | Error::AlreadyExists { name } | Error::NotFound { name }
        if name == DEFAULT_ROUTER)
}

/// What the caller's request is told apart by: its name goes along, since requests of other methods may read alike.
pub(super) fn body(method: &str, request: &impl Message) -> Vec<u8> {
    [method.as_bytes(), b"\0", &request.encode_to_vec()].concat()
}

/// Reads a type of providers.
pub(super) fn parse_type(field: &str, number: i32) -> Result<ProviderType> {
    match ProviderType::try_from(number) {
        Ok(found) if found != ProviderType::Unspecified => Ok(found),
        _ => {
            let description = format!("must be a type of providers: one of {}", provider_types::words());
            Err(Error::invalid(field, "REQUIRED", description))
        }
    }
}

pub(super) fn reaches(caller: &Principal, entry: &Entry) -> bool {
    caller.reaches(&entry.record.name, entry.kind())
}

fn reach_router(caller: &Principal) -> Result<()> {
    let name = ResourceName::parse(DEFAULT_ROUTER).map_err(Error::internal)?;
    if caller.reaches(&name, ROUTER) { Ok(()) } else { Err(not_granted(caller, DEFAULT_ROUTER)) }
}

fn router_of(entry: Option<&Entry>) -> Option<&RouterSpec> {
    match entry.map(|entry| &entry.record.spec) {
        Some(Spec::Router(spec)) => Some(spec),
        _ => None,
    }
}

fn no_router() -> Error {
    Error::NotFound { name: DEFAULT_ROUTER.to_owned() }
}
