//! Two revisions compared, resource by resource, as a dry run would show it.

use std::collections::BTreeSet;

use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    Service,
    read::{PageToken, page_size},
};
use crate::{
    domain::{FieldPath, Principal, Record, ResourceName, Result, Selector, Violations, limits},
    kinds,
    proto::v1::{ChangeType, DiffRevisionsRequest, DiffRevisionsResponse, ResourceDiff},
    view::State,
    watch::Filter,
};

/// Bytes of the differences of one page.
const PAGE_BYTES: usize = limits::MESSAGE_OUT_BYTES / 2;

/// A request, parsed.
struct Query {
    selectors: Vec<Selector>,
    size: usize,
    page: Option<PageToken>,
}

impl Service {
    /// Compares two revisions.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `OutOfRange`, `FailedPrecondition` when a page is too old, `Unavailable`.
    pub async fn diff_revisions(
        &self,
        caller: &Principal,
        request: &DiffRevisionsRequest,
    ) -> Result<DiffRevisionsResponse> {
        let fingerprint = fingerprint(request);
        let Query { selectors, size, page } = self.parse_diff(request, &fingerprint)?;
        let scope = Filter::authorise(caller, selectors, false)?;
        let to = match &page {
            Some(page) => self.page_state(page).await?,
            None => self.state_at(request.to_revision).await?,
        };
        let from = self.state_at(request.from_revision).await?;
        let mut answer = DiffRevisionsResponse {
            from_revision: from.revision.0,
            to_revision: to.revision.0,
            ..DiffRevisionsResponse::default()
        };
        let mut bytes = 0;
        let after = page.as_ref().map(|page| page.after.as_str());
        for (before, now) in Pairs::new(&from, &to, after) {
            let shown = |record: &Record| scope.matches(record);
            let (before, now) = (before.filter(|record| shown(record)), now.filter(|record| shown(record)));
            let Some(diff) = difference(before, now) else { continue };
            bytes += diff.encoded_len() + 8;
            if answer.diffs.len() == size || (bytes > PAGE_BYTES && !answer.diffs.is_empty()) {
                let after = answer.diffs.last().map(|diff| diff.name.clone()).unwrap_or_default();
                self.parts.view.pin(&from);
                self.parts.view.pin(&to);
                let page = PageToken { at: to.token().to_string(), after, query: fingerprint, past: true };
                answer.next_page_token = self.encode_page(&page)?;
                break;
            }
            answer.diffs.push(diff);
        }
        Ok(answer)
    }

    /// Reads the request, with every violation in it.
    fn parse_diff(&self, request: &DiffRevisionsRequest, fingerprint: &str) -> Result<Query> {
        let mut violations = Violations::default();
        let selectors = violations.take(kinds::parse_selectors(&request.selectors, "selectors"))?;
        let size = violations.take(page_size(request.page_size))?;
        let page = violations.take(self.parse_page(&request.page_token, fingerprint))?.flatten();
        if request.from_revision == 0 {
            violations.add("from_revision", "REQUIRED", "is required: the revision to compare from");
        }
        let (selectors, size) = violations.allow(selectors.zip(size))?;
        Ok(Query { selectors, size, page })
    }
}

/// The resources of two states by name, each with what it is in either.
pub(super) struct Pairs<'a> {
    from: Box<dyn Iterator<Item = &'a Record> + 'a>,
    to: Box<dyn Iterator<Item = &'a Record> + 'a>,
    next: (Option<&'a Record>, Option<&'a Record>),
}

impl<'a> Pairs<'a> {
    pub fn new(from: &'a State, to: &'a State, after: Option<&'a str>) -> Self {
        let mut from = from.after_name(after).map(|entry| &*entry.record);
        let mut to = to.after_name(after).map(|entry| &*entry.record);
        let next = (from.next(), to.next());
        Self { from: Box::new(from), to: Box::new(to), next }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Option<&'a Record>, Option<&'a Record>);

    fn next(&mut self) -> Option<Self::Item> {
        let (before, now) = self.next;
        let first: &ResourceName = match (before, now) {
            (Some(before), Some(now)) => (&before.name).min(&now.name),
            (one, other) => &one.or(other)?.name,
        };
        let (before, now) =
            (before.filter(|record| record.name == *first), now.filter(|record| record.name == *first));
        if before.is_some() {
            self.next.0 = self.from.next();
        }
        if now.is_some() {
            self.next.1 = self.to.next();
        }
        Some((before, now))
    }
}

/// What differs between two states of one resource; `None` if nothing does.
fn difference(before: Option<&Record>, now: Option<&Record>) -> Option<ResourceDiff> {
    let (name, change) = match (before, now) {
        (None, None) => return None,
        (Some(before), Some(now)) if (&before.uid, before.version) == (&now.uid, now.version) => return None,
        (Some(before), Some(_)) => (&before.name, ChangeType::Updated),
        (Some(before), None) => (&before.name, ChangeType::Deleted),
        (None, Some(now)) => (&now.name, ChangeType::Created),
    };
    let old = before.map(|record| (&record.labels, &record.spec));
    let new = now.map(|record| (&record.labels, &record.spec));
    let fields = kinds::diff(old, new, &replaced(before, now));
    if fields.is_empty() && change == ChangeType::Updated {
        return None;
    }
    let mut diff = ResourceDiff { name: name.to_string(), r#type: change.into(), fields };
    if diff.encoded_len() > PAGE_BYTES {
        for field in &mut diff.fields {
            field.before.clear();
            field.after.clear();
        }
    }
    Some(diff)
}

/// The fields whose secrets have another value.
fn replaced(before: Option<&Record>, now: Option<&Record>) -> BTreeSet<FieldPath> {
    let (Some(before), Some(now)) = (before, now) else { return BTreeSet::new() };
    let other = |(field, id): &(&FieldPath, _)| before.secrets.get(*field) != Some(*id);
    now.secrets.iter().filter(other).map(|(field, _)| field.clone()).collect()
}

fn fingerprint(request: &DiffRevisionsRequest) -> String {
    let asked = DiffRevisionsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    hex::encode(&Sha256::digest([&b"diff"[..], &asked.encode_to_vec()].concat())[..8])
}
