//! Reads: from the view, within the caller's grants, never waiting for the database unless the past is asked for.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Service, age, observe, parse_revision_token, store_error};
use crate::{
    domain::{
        ChainHash, Error, KindName, Principal, Record, ResourceName, Result, Revision, RevisionToken,
        Selector, Violations, limits,
    },
    kinds::{self, filter::Filter as Expression},
    proto::v1::{self, GetResourceResponse, ListResourcesResponse, Resource},
    view::{Entry, Reveal, State},
    watch::{Filter, authorise_secrets, not_granted},
};

/// A read of one resource, as it came.
pub struct GetRequest {
    /// The name, as it came.
    pub name: String,
    /// A past revision; 0 is the current one.
    pub revision: u64,
    /// The token to wait for; may be empty.
    pub min_revision_token: String,
    /// Whether to open secrets.
    pub include_secrets: bool,
    /// Whether to tell what was seen of it.
    pub include_observations: bool,
}

/// A list, as it came.
pub struct ListRequest {
    /// What to list.
    pub selectors: Vec<v1::Selector>,
    /// The filter, as it came.
    pub filter: String,
    /// Resources a page; 0 is the default.
    pub page_size: i32,
    /// The page to go on from; may be empty.
    pub page_token: String,
    /// A past revision; 0 is the current one.
    pub revision: u64,
    /// The token to wait for; may be empty.
    pub min_revision_token: String,
    /// Whether to open secrets.
    pub include_secrets: bool,
    /// Whether to tell what was seen of the resources.
    pub include_observations: bool,
}

/// Where a list goes on. It travels with a keyed MAC, so that nobody makes one for a state that was never listed;
/// the caller's rights are judged again on every page all the same.
#[derive(Serialize, Deserialize)]
pub(super) struct PageToken {
    /// The token of the list's revision: another replica can wait for it, and notices when its life is over.
    pub at: String,
    /// The last one of the page before.
    pub after: String,
    /// Which list it belongs to.
    pub query: String,
    /// Whether the list is of the past: then it opens no secrets.
    pub past: bool,
}

/// A list, parsed.
struct Query {
    selectors: Vec<Selector>,
    expression: Expression,
    size: usize,
    page: Option<PageToken>,
    least: Option<RevisionToken>,
}

impl Service {
    /// Reads one resource.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `PermissionDenied`, `OutOfRange`, `Unavailable`.
    pub async fn get(&self, caller: &Principal, request: GetRequest) -> Result<GetResourceResponse> {
        let mut violations = Violations::default();
        let named =
            kinds::parse_name(&request.name).map_err(|why| Error::invalid("name", "INVALID_NAME", why));
        let named = violations.take(named)?;
        let least = violations.take(parse_min_revision(&request.min_revision_token))?.flatten();
        let (name, kind) = violations.allow(named)?;
        if !caller.reaches(&name, kind.name()) {
            return Err(not_granted(caller, name.as_str()).at("name"));
        }
        let reveal = authorise_secrets(caller, request.include_secrets)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let current = self.parts.view.state();
        let past = request.revision != 0 && request.revision != current.revision.0;
        let state = if past { self.past_of(&name, &current, request.revision).await? } else { current };
        let entry = state.get(name.as_str()).ok_or_else(|| Error::NotFound { name: name.to_string() })?;
        let reveal = if past { Reveal::Masked } else { reveal };
        if reveal == Reveal::Plain && !entry.record.secrets.is_empty() {
            self.audit(caller, "secret_read", format!("{name} at revision {}", state.revision)).await?;
        }
        let mut resource = self.parts.revealer.resource(&entry.record, &entry.sealed, state.epoch, reveal);
        if request.include_observations && !past {
            self.add_observations(std::slice::from_mut(&mut resource)).await?;
        }
        let (stale, confirmed_age) = age(confirmed);
        Ok(GetResourceResponse {
            resource: Some(resource),
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// Lists resources, by name in bytewise order, all pages at one revision.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `OutOfRange`, `FailedPrecondition` when a page is too old, `Unavailable`.
    pub async fn list(&self, caller: &Principal, request: ListRequest) -> Result<ListResourcesResponse> {
        let query = fingerprint(&request);
        let Query { selectors, expression, size, page, least } = self.parse_query(&request, &query)?;
        let scope = Filter::authorise(caller, selectors, request.include_secrets)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let state = match &page {
            Some(page) => self.page_state(page).await?,
            None => self.state_at(request.revision).await?,
        };
        let after = page.as_ref().map(|page| page.after.as_str());
        let shown = |entry: &&Entry| {
            scope.shows(entry)
                && expression.matches(&entry.record.name, &entry.record.labels, &entry.record.spec)
        };
        let past = page.as_ref().map_or(request.revision != 0, |page| page.past);
        let reveal = if past { Reveal::Masked } else { scope.reveal };
        let (mut resources, mut more) = self.page(&state, after, size, reveal, shown);
        if request.include_observations && !past {
            self.add_observations(&mut resources).await?;
            let fitting = observe::fitting(&resources);
            more |= fitting < resources.len();
            resources.truncate(fitting);
        }
        if reveal == Reveal::Plain {
            let detail = format!(
                "{} resources of {} at revision {}",
                resources.len(),
                scope.describe(),
                state.revision
            );
            self.audit(caller, "secrets_listed", detail).await?;
        }
        let next = resources.last().filter(|_| more).map(|last| {
            self.parts.view.pin(&state);
            PageToken { at: state.token().to_string(), after: last.name.clone(), query, past }
        });
        let (stale, confirmed_age) = age(confirmed);
        Ok(ListResourcesResponse {
            next_page_token: next.map(|token| self.encode_page(&token)).transpose()?.unwrap_or_default(),
            resources,
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// Reads all of a list's request, with every violation in it.
    fn parse_query(&self, request: &ListRequest, fingerprint: &str) -> Result<Query> {
        let mut violations = Violations::default();
        let selectors = violations.take(kinds::parse_selectors(&request.selectors, "selectors"))?;
        let expression = Expression::parse_of(&request.filter, selectors.as_deref().and_then(only_kind))
            .map_err(|why| Error::invalid("filter", "INVALID_FILTER", why.to_string()));
        let expression = violations.take(expression)?;
        let size = violations.take(page_size(request.page_size))?;
        let page = violations.take(self.parse_page(&request.page_token, fingerprint))?.flatten();
        let least = violations.take(parse_min_revision(&request.min_revision_token))?.flatten();
        let parts = selectors.zip(expression).zip(size);
        let ((selectors, expression), size) = violations.allow(parts)?;
        Ok(Query { selectors, expression, size, page, least })
    }

    /// The past state, as far as one resource goes: a read of one row where the whole state is not held.
    async fn past_of(&self, name: &ResourceName, current: &State, revision: u64) -> Result<Arc<State>> {
        let wanted = Revision(revision);
        if let Some(state) = self.parts.view.at(wanted) {
            return Ok(state);
        }
        let hash = self.past_hash(current, wanted).await?;
        let change = self.parts.store.record_at(name, wanted).await;
        self.still_held(wanted).await?;
        let change = change.map_err(store_error)?;
        let record = change.and_then(|change| change.record).map(Arc::unwrap_or_clone);
        Ok(Arc::new(current.of_records(wanted, hash, record.into_iter().collect())))
    }

    pub(super) fn encode_page(&self, token: &PageToken) -> Result<String> {
        let mut bytes = serde_json::to_vec(token).map_err(Error::internal)?;
        let mac = self.parts.vault.request_mac(&bytes);
        bytes.extend_from_slice(&mac);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn parse_page(&self, text: &str, query: &str) -> Result<Option<PageToken>> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
            let (json, mac) = bytes.split_last_chunk::<32>()?;
            (self.parts.vault.request_mac(json) == *mac)
                .then(|| serde_json::from_slice::<PageToken>(json).ok())?
        });
        match token {
            Some(token) if token.query == query => Ok(Some(token)),
            Some(_) => Err(Error::invalid(
                "page_token",
                "INVALID_PAGE_TOKEN",
                "belongs to another list; selectors, filter and revision must stay as they were",
            )),
            None => {
                Err(Error::invalid("page_token", "INVALID_PAGE_TOKEN", "is not a page token of this service"))
            }
        }
    }

    /// The state that a list began with, on whichever replica.
    pub(super) async fn page_state(&self, page: &PageToken) -> Result<Arc<State>> {
        let gone = || Error::FailedPrecondition {
            reason: "PAGE_TOKEN_EXPIRED",
            subject: "page_token".into(),
            description: "the revision of this list is gone; list again from the first page".into(),
        };
        let token = RevisionToken::parse(&page.at).ok_or_else(gone)?;
        let state = match self.at_least(Some(token)).await {
            Ok(()) => self.state_at(token.revision.0).await,
            Err(error) => Err(error),
        };
        match state {
            Ok(state) if state.token() == token => Ok(state),
            Ok(_) | Err(Error::OutOfRange { .. } | Error::FailedPrecondition { .. }) => Err(gone()),
            Err(error) => Err(error),
        }
    }

    /// A resource of a page. The list may be older than the store by now: secrets are opened only where they are still
    /// the current ones.
    pub(super) fn shown_on_page(
        &self,
        state: &State,
        current: &State,
        entry: &Entry,
        reveal: Reveal,
    ) -> Resource {
        let record = &entry.record;
        let now = current.get(record.name.as_str()).filter(|now| now.record.secrets == record.secrets);
        match now {
            Some(now) => self.parts.revealer.resource(record, &now.sealed, state.epoch, reveal),
            None => self.parts.revealer.resource(record, &[], state.epoch, Reveal::Masked),
        }
    }

    /// One page: as many resources as were asked for and fit into a message, and whether there are more.
    fn page(
        &self,
        state: &State,
        after: Option<&str>,
        size: usize,
        reveal: Reveal,
        shown: impl FnMut(&&Entry) -> bool,
    ) -> (Vec<Resource>, bool) {
        // A list is current when it begins; what has been replaced by the time of a later page stays closed there.
        let now = after.map(|_| self.parts.view.state());
        let current = now.as_deref().unwrap_or(state);
        let mut bytes = 0;
        let mut resources: Vec<Resource> = Vec::new();
        for entry in state.after_name(after).filter(shown) {
            let resource = self.shown_on_page(state, current, entry, reveal);
            bytes += resource.encoded_len() + 8;
            if resources.len() == size || (bytes > limits::MESSAGE_OUT_BYTES / 2 && !resources.is_empty()) {
                return (resources, true);
            }
            resources.push(resource);
        }
        (resources, false)
    }
}

pub(super) fn parse_min_revision(token: &str) -> Result<Option<RevisionToken>> {
    parse_revision_token("min_revision_token", token)
}

pub(super) fn page_size(asked: i32) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(limits::PAGE_DEFAULT),
        Ok(size) => Ok(size.min(limits::PAGE_MAX)),
        Err(_) => Err(Error::invalid("page_size", "OUT_OF_RANGE", "must not be negative")),
    }
}

/// The kind of all that the selectors can reach, if it is one.
fn only_kind(selectors: &[Selector]) -> Option<KindName> {
    let mut kinds = selectors.iter().map(|selector| kinds::kind_of_pattern(&selector.pattern));
    let first = kinds.next()??;
    kinds.all(|kind| kind == Some(first)).then_some(first)
}

fn fingerprint(request: &ListRequest) -> String {
    let ListRequest {
        selectors,
        filter,
        revision,
        include_secrets,
        include_observations: _,
        page_size: _,
        page_token: _,
        min_revision_token: _,
    } = request;
    let text = format!("{selectors:?}\n{filter}\n{revision}\n{include_secrets}");
    hex::encode(&Sha256::digest(text)[..8])
}

impl State {
    /// Every resource after a name, in order.
    pub(super) fn after_name<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.resources.range::<_, str>((start, Bound::Unbounded)).map(|(_, entry)| entry)
    }

    /// A past state that was read from the log, without its secrets.
    pub(super) fn of_records(&self, revision: Revision, hash: ChainHash, records: Vec<Record>) -> State {
        let resources = records
            .into_iter()
            .map(|record| (record.name.clone(), Entry { record: Arc::new(record), sealed: Arc::from([]) }))
            .collect();
        State { revision, hash, resources, ..self.clone() }
    }
}
