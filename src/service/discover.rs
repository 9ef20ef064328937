//! The models of providers, asked of them: all at once, each for itself, and remembered for when one can't be asked.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Service,
    fields::parse_unrepeated,
    probe::{Finding, audited, since},
    provider::{entry_of, provider_spec},
};
use crate::{
    domain::{Error, KindName, Matter, Observation, Principal, Result, Violations, record::Uid},
    outbound::{Credentials, DEADLINE},
    proto::v1::{
        DiscoverModelsRequest, DiscoverModelsResponse, DiscoveredModel, DiscoveredProvider, ProbeReason,
    },
    view::{Entry, State},
    watch::timestamp,
    wire::{ListedModel, Mapping},
};

const PROVIDER: KindName = KindName("provider");
/// Providers of one call.
const MAX_PROVIDERS: usize = 32;
/// Pages of one list.
const MAX_PAGES: usize = 50;
/// Models of one list.
const MAX_MODELS: usize = 2000;
/// Bytes of a page's token.
const TOKEN_BYTES: usize = 1024;
/// Characters of a model's id or name.
const NAME_CHARS: usize = 256;
/// Bytes of a list that is remembered.
const REMEMBERED_BYTES: usize = 64 * 1024;

/// A list, as it is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    models: Vec<Model>,
    #[serde(default, skip_serializing_if = "is_false")]
    truncated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Model {
    id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    display_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context_window_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
}

impl Service {
    /// Asks providers for their models.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `NotFound`, `FailedPrecondition`, `Unavailable` when it can't be audited. A provider that
    /// can't be asked is no error.
    pub async fn discover_models(
        &self,
        caller: &Principal,
        request: &DiscoverModelsRequest,
    ) -> Result<DiscoverModelsResponse> {
        let state = self.parts.view.state();
        let providers = providers(caller, &state, request)?;
        let mut jobs = Vec::with_capacity(providers.len());
        for entry in providers {
            jobs.push((entry, self.probing_key(caller, &state, &entry.record.name, None)?));
        }
        let detail: Vec<String> = jobs.iter().map(|(entry, key)| audited(entry, *key)).collect();
        self.audit(caller, "models_discovered", detail.join(", ")).await?;
        let remembered =
            self.remembered(jobs.iter().map(|(entry, _)| entry.record.uid.clone()).collect()).await?;
        let room = self.parts.max_answer_bytes * 3 / 4 / jobs.len().max(1);
        let asked = jobs.into_iter().map(|(entry, key)| self.discover(entry, key));
        let mut told = join_all(asked).await;
        for (uid, provider) in &mut told {
            if provider.reason() != ProbeReason::Ok
                && let Some((list, time)) = remembered.get(uid)
            {
                tell(provider, list.clone());
                provider.list_time = Some(*time);
            }
            cut(provider, room);
        }
        Ok(DiscoverModelsResponse { providers: told.into_iter().map(|(_, provider)| provider).collect() })
    }

    /// Asks one provider, and remembers what it lists.
    async fn discover(&self, entry: &Entry, key: Option<&Entry>) -> (Uid, DiscoveredProvider) {
        let begun = Instant::now();
        let uid = entry.record.uid.clone();
        let listed = self.ask(entry, key, begun + DEADLINE).await;
        let mut told = DiscoveredProvider {
            name: entry.record.name.to_string(),
            latency: since(begun),
            ..DiscoveredProvider::default()
        };
        match listed {
            Ok(list) => {
                let time = self.parts.clock.now();
                let (what, value_json) = (Matter::MODELS, remembered_form(&list));
                self.remember(Observation { uid: uid.clone(), what, value_json, time });
                told.set_reason(ProbeReason::Ok);
                told.list_time = Some(timestamp(time));
                tell(&mut told, list);
            }
            Err(Finding { reason, description, provider_message }) => {
                told.set_reason(reason);
                (told.description, told.provider_message) = (description, provider_message);
            }
        }
        (uid, told)
    }

    /// All pages of a provider's list, within bounds.
    async fn ask(&self, entry: &Entry, key: Option<&Entry>, deadline: Instant) -> Result<List, Finding> {
        let mapping =
            provider_spec(entry).ok().and_then(|spec| Mapping::of(spec).ok()).ok_or_else(no_list)?;
        let mut request = mapping.models_request("").ok_or_else(no_list)?;
        let credentials = self.credentials(entry, key, &[&request])?;
        let (mut list, mut seen) = (List::default(), BTreeSet::new());
        for _ in 0..MAX_PAGES {
            let answer = self.parts.outbound.send(&request, &credentials, deadline).await;
            let answer = answer.map_err(Finding::of_fault)?;
            if !(200..300).contains(&answer.status) {
                return Err(Finding::of_status(&mapping, &answer, &credentials));
            }
            let page = mapping.models_page(&answer.body).map_err(|_| Finding::bad_answer())?;
            let models = page.models.into_iter().filter_map(|model| usable(model, &credentials));
            list.models.extend(models.filter(|model| seen.insert(model.id.clone())));
            if list.models.len() > MAX_MODELS {
                list.models.truncate(MAX_MODELS);
                list.truncated = true;
                return Ok(list);
            }
            if page.next_page_token.is_empty() {
                return Ok(list);
            }
            if page.next_page_token.len() > TOKEN_BYTES {
                return Err(Finding::bad_answer());
            }
            request = mapping.models_request(&page.next_page_token).ok_or_else(no_list)?;
        }
        list.truncated = true;
        Ok(list)
    }

    /// The last good lists, with their times. Without the store there are none.
    async fn remembered(&self, uids: Vec<Uid>) -> Result<HashMap<Uid, (List, prost_types::Timestamp)>> {
        let seen = match self.parts.store.observed(uids).await {
            Ok(seen) => seen,
            Err(crate::store::StoreError::Unavailable(_)) => return Ok(HashMap::new()),
            Err(error) => return Err(super::store_error(error)),
        };
        let lists = seen.into_iter().filter(|one| one.what == Matter::MODELS);
        Ok(lists
            .filter_map(|one| {
                Some((one.uid, (serde_json::from_str(&one.value_json).ok()?, timestamp(one.time))))
            })
            .collect())
    }
}

/// The providers that are asked.
fn providers<'s>(
    caller: &Principal,
    state: &'s State,
    request: &DiscoverModelsRequest,
) -> Result<Vec<&'s Entry>> {
    if request.names.is_empty() {
        return enabled(caller, state);
    }
    let mut violations = Violations::default();
    violations.at_most("names", request.names.len(), MAX_PROVIDERS, "providers");
    let mut names = Vec::new();
    for (index, text) in request.names.iter().enumerate().take(MAX_PROVIDERS) {
        let field = format!("names[{index}]");
        let name = violations.take(parse_unrepeated(&field, text, PROVIDER.0))?;
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            violations.add(field, "DUPLICATE", "is listed twice");
        }
        names.extend(name);
    }
    let names = violations.allow(Some(names))?;
    let entry = |(index, name)| entry_of(caller, state, &format!("names[{index}]"), name, PROVIDER);
    names.iter().enumerate().map(entry).collect()
}

fn enabled<'s>(caller: &Principal, state: &'s State) -> Result<Vec<&'s Entry>> {
    let providers = state.beneath("providers/").filter(|entry| {
        let record = &entry.record;
        let on = provider_spec(entry).is_ok_and(|spec| spec.enabled.unwrap_or(true));
        on && entry.kind() == PROVIDER && caller.reaches(&record.name, PROVIDER)
    });
    let providers: Vec<&Entry> = providers.collect();
    if providers.len() > MAX_PROVIDERS {
        return Err(Error::FailedPrecondition {
            reason: "TOO_MANY_PROVIDERS",
            subject: "names".to_owned(),
            description: format!(
                "{} providers are enabled; name at most {MAX_PROVIDERS} at a time",
                providers.len()
            ),
        });
    }
    Ok(providers)
}

fn no_list() -> Finding {
    Finding::new(
        ProbeReason::NotConfigured,
        "the provider has no list of models that can be asked for; set `model_listing`, or write `models` by hand",
    )
}

/// A model as it may be told: an endpoint that answers with what it was sent must not bring a credential back.
fn usable(model: ListedModel, credentials: &Credentials) -> Option<Model> {
    let ListedModel { id, display_name, context_window_tokens, max_output_tokens } = model;
    let tellable = |text: &str| {
        text.chars().count() <= NAME_CHARS
            && !text.chars().any(char::is_control)
            && !credentials.are_shown_by(text)
    };
    let display_name = if tellable(&display_name) { display_name } else { String::new() };
    (!id.is_empty() && tellable(&id)).then_some(Model {
        id,
        display_name,
        context_window_tokens,
        max_output_tokens,
    })
}

fn tell(provider: &mut DiscoveredProvider, list: List) {
    provider.truncated = list.truncated;
    provider.models = list
        .models
        .into_iter()
        .map(|model| DiscoveredModel {
            id: model.id,
            display_name: model.display_name,
            context_window_tokens: model.context_window_tokens.unwrap_or_default(),
            max_output_tokens: model.max_output_tokens.unwrap_or_default(),
        })
        .collect();
}

/// Leaves out models from the end until a provider takes no more room than it has.
fn cut(provider: &mut DiscoveredProvider, room: usize) {
    let mut bytes = 0;
    let fits = |model: &&DiscoveredModel| {
        bytes += prost::Message::encoded_len(*model) + 8;
        bytes <= room
    };
    let fitting = provider.models.iter().take_while(fits).count();
    provider.truncated |= fitting < provider.models.len();
    provider.models.truncate(fitting);
}

/// The list as JSON of bounded length.
fn remembered_form(list: &List) -> String {
    let mut bytes = 64;
    let fits = |model: &&Model| {
        bytes += serde_json::to_string(model).map_or(usize::MAX / 4, |text| text.len() + 1);
        bytes <= REMEMBERED_BYTES
    };
    let models: Vec<Model> = list.models.iter().take_while(fits).cloned().collect();
    let truncated = list.truncated || models.len() < list.models.len();
    serde_json::to_string(&List { models, truncated }).unwrap_or_default()
}

fn is_false(value: &bool) -> bool {
    !value
}
