//! What was changed, when, by whom and why: from the log, within the caller's grants.
//!
//! That a change concerns others is not stored: a row tells what its resource refers to, and the row before it what it referred
//! to, so that the turning of a router stands in the history of the providers that it turned from and to.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    Service,
    read::{PageToken, page_size},
    store_error,
};
use crate::{
    domain::{
        Error, KindName, Pattern, Principal, ResourceName, Result, Revision, RevisionToken, Selector, Text,
        Violations, limits,
    },
    kinds,
    proto::v1::{ChangeType, HistoryEntry, ListHistoryRequest, ListHistoryResponse},
    store::{HistoryCursor, HistoryQuery, HistoryRow, Names, apart},
    view::Reveal,
    watch::{Filter, timestamp},
};

/// Rows that are read at once.
const CHUNK: usize = 200;
/// Rows that are looked at for one page: what is found until then is answered.
const LOOKED_AT: usize = 5_000;
/// Characters of an actor or an action.
const WORD_CHARS: usize = 256;

/// A request, parsed.
struct Query {
    selectors: Vec<Selector>,
    size: usize,
    page: Option<PageToken>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Service {
    /// Tells what was changed.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `FailedPrecondition` for a page of another life, `Unavailable`.
    pub async fn list_history(
        &self,
        caller: &Principal,
        request: &ListHistoryRequest,
    ) -> Result<ListHistoryResponse> {
        let fingerprint = fingerprint(request);
        let Query { selectors, size, page, since, until } = self.parse_history(request, &fingerprint)?;
        let scope = Filter::authorise(caller, selectors, false)?;
        let at = match &page {
            Some(page) => page.at.clone(),
            None => self.parts.view.state().token().to_string(),
        };
        let mut query = HistoryQuery {
            names: names_of(&scope),
            after: self.cursor(page.as_ref())?,
            actor: request.actor.clone(),
            action: request.action.clone(),
            since,
            until,
            limit: CHUNK,
        };
        let mut answer = ListHistoryResponse::default();
        let (mut bytes, mut looked_at) = (0, 0);
        loop {
            let found = self.parts.store.history(query.clone()).await.map_err(store_error)?;
            answer.floor_revision = found.floor.0;
            looked_at += found.rows.len();
            for row in found.rows {
                let entry = self.entry(caller, &scope, &row, request.include_resources);
                bytes += entry.as_ref().map_or(0, |entry| entry.encoded_len() + 8);
                let full = answer.entries.len() == size
                    || (bytes > limits::MESSAGE_OUT_BYTES / 2 && !answer.entries.is_empty());
                if full && entry.is_some() {
                    answer.next_page_token = self.page_after(&query.after, at, fingerprint)?;
                    return Ok(answer);
                }
                query.after =
                    HistoryCursor { revision: row.revision, name: row.change.name.as_str().to_owned() };
                answer.entries.extend(entry);
            }
            if !found.more {
                return Ok(answer);
            }
            if looked_at >= LOOKED_AT {
                answer.next_page_token = self.page_after(&query.after, at, fingerprint)?;
                return Ok(answer);
            }
        }
    }

    /// Reads the request, with every violation in it.
    fn parse_history(&self, request: &ListHistoryRequest, fingerprint: &str) -> Result<Query> {
        let mut violations = Violations::default();
        let selectors = violations.take(kinds::parse_selectors(&request.selectors, "selectors"))?;
        let size = violations.take(page_size(request.page_size))?;
        let page = violations.take(self.parse_page(&request.page_token, fingerprint))?.flatten();
        violations.text("actor", &request.actor, Text::Line, WORD_CHARS);
        violations.text("action", &request.action, Text::Line, WORD_CHARS);
        let since = parse_time("since", request.since, &mut violations);
        let until = parse_time("until", request.until, &mut violations);
        let (selectors, size) = violations.allow(selectors.zip(size))?;
        Ok(Query { selectors, size, page, since, until })
    }

    /// Where a page goes on, if it is of the present life.
    fn cursor(&self, page: Option<&PageToken>) -> Result<HistoryCursor> {
        let Some(page) = page else { return Ok(HistoryCursor::newest()) };
        let epoch = RevisionToken::parse(&page.at).map(|token| token.epoch);
        let place = page.after.split_once(' ').and_then(|(revision, name)| {
            Some(HistoryCursor { revision: Revision(revision.parse().ok()?), name: name.to_owned() })
        });
        match place.filter(|_| epoch == Some(self.parts.view.state().epoch)) {
            Some(cursor) => Ok(cursor),
            None => Err(Error::FailedPrecondition {
                reason: "PAGE_TOKEN_EXPIRED",
                subject: "page_token".into(),
                description: "the store has begun another life; list again from the first page".into(),
            }),
        }
    }

    fn page_after(&self, cursor: &HistoryCursor, at: String, query: String) -> Result<String> {
        let after = format!("{} {}", cursor.revision, cursor.name);
        self.encode_page(&PageToken { at, after, query, past: true })
    }

    /// A row as the caller sees it; `None` if it concerns nothing that was asked for, or is not for him.
    fn entry(
        &self,
        caller: &Principal,
        scope: &Filter,
        row: &HistoryRow,
        with_resource: bool,
    ) -> Option<HistoryEntry> {
        let change = &row.change;
        if !caller.reaches(&change.name, change.kind) {
            return None;
        }
        let related = related(row);
        let concerned = scope.effect(change).is_some()
            || related.iter().any(|(name, kind)| caller.reaches(name, *kind) && scope.picks(name, *kind));
        if !concerned {
            return None;
        }
        let record = change.record.as_deref();
        let epoch = self.parts.view.state().epoch;
        let shown = |record| self.parts.revealer.resource(record, &[], epoch, Reveal::Masked);
        let reached = related.into_iter().filter(|(name, kind)| caller.reaches(name, *kind));
        Some(HistoryEntry {
            revision: row.revision.0,
            time: Some(timestamp(row.time)),
            actor: change.actor.clone(),
            r#type: change_type(change.change_type).into(),
            action: change.action.clone(),
            reason: row.reason.clone(),
            request_id: row.request_id.clone(),
            name: change.name.to_string(),
            uid: row.uid.0.clone(),
            version: row.version,
            related: reached.map(|(name, _)| name.to_string()).collect(),
            resource: record.filter(|_| with_resource).map(shown),
        })
    }
}

/// What the change made its resource refer to, or cease to. Unknown where what was before is compacted away.
fn related(row: &HistoryRow) -> Vec<(ResourceName, KindName)> {
    let change = &row.change;
    let Some(kind) = kinds::kind_named(change.kind) else { return Vec::new() };
    if change.previous.is_some() && row.before.is_none() {
        return Vec::new();
    }
    let (before, after) = (row.before.as_deref(), change.record.as_deref());
    let names = kinds::turned(kind, before.map(|record| &record.spec), after.map(|record| &record.spec));
    names.into_iter().filter_map(|name| kinds::resolve(&name).map(|kind| (name, kind.name()))).collect()
}

/// The names whose rows may concern what a filter picks: its own, and those of the kinds that may refer to it.
fn names_of(scope: &Filter) -> Vec<Names> {
    let mut names = Vec::new();
    let mut kinds: BTreeSet<KindName> = BTreeSet::new();
    for pattern in scope.patterns() {
        match pattern {
            Pattern::All => names.push(Names::All),
            Pattern::Name(name) => names.push(Names::One(name.to_string())),
            Pattern::Prefix(prefix) => names.push(Names::Beneath(prefix.clone())),
            Pattern::Kind(kind) => names.extend(names_of_kind(*kind)),
        }
        match kinds::kind_of_pattern(pattern) {
            Some(kind) => drop(kinds.insert(kind)),
            None => kinds.extend(kinds::registry().iter().map(|kind| kind.name())),
        }
    }
    for kind in kinds {
        names.extend(kinds::referring_to(kind).flat_map(|referring| names_of_kind(referring.name())));
    }
    apart(names)
}

fn names_of_kind(kind: KindName) -> Vec<Names> {
    let kind = kinds::kind_named(kind);
    kind.into_iter().flat_map(kinds::prefixes_of).map(|prefix| Names::Beneath(prefix.to_owned())).collect()
}

fn parse_time(
    field: &str,
    time: Option<prost_types::Timestamp>,
    violations: &mut Violations,
) -> Option<DateTime<Utc>> {
    let time = time?;
    let parsed =
        u32::try_from(time.nanos).ok().and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    // What is written with more than four digits of a year is out of order as text.
    let parsed = parsed.filter(|time| (0..=9999).contains(&chrono::Datelike::year(time)));
    if parsed.is_none() {
        violations.add(field, "OUT_OF_RANGE", "must be a time from the year 0 to 9999");
    }
    parsed
}

fn change_type(change: crate::domain::ChangeType) -> ChangeType {
    match change {
        crate::domain::ChangeType::Created => ChangeType::Created,
        crate::domain::ChangeType::Updated => ChangeType::Updated,
        crate::domain::ChangeType::Deleted => ChangeType::Deleted,
    }
}

fn fingerprint(request: &ListHistoryRequest) -> String {
    let asked = ListHistoryRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    hex::encode(&Sha256::digest([&b"history"[..], &asked.encode_to_vec()].concat())[..8])
}
