//! What an import fills in: fields that a resource which is there does not have, and secrets that an earlier import had no
//! values of. Must not change one that it has.

use super::{Draft, Planner, import::resource_of};
use crate::{
    choice::DEFAULT_ROUTER,
    domain::{Record, ResourceName, Result, Spec},
    import::{is_same_but_secrets, restamped},
    kinds::secrets::{self, SecretInput, SecretView},
    proto::v1::{BatchResult, Resource, secret::State},
    view::Entry,
};

/// What is stored with the values that an import brings of secrets which are MISSING since an earlier one. `None` where it brings
/// none of these, or where somebody has edited the resource since. A secret that has a value keeps it.
pub(super) fn supplied(imported: &Resource, spec: &Spec, record: &Record) -> Option<Spec> {
    let states = secrets::states(&record.spec);
    if !states.values().any(|state| *state == State::Missing)
        || !is_same_but_secrets(imported, &resource_of(record))
    {
        return None;
    }
    let mut inputs = secrets::split(&mut spec.clone());
    let mut any = false;
    let mut supplied = record.spec.clone();
    secrets::fill(&mut supplied, |field| match (states.get(field), inputs.remove(field)) {
        (Some(State::Missing), Some(SecretInput::Replace(value))) => {
            any = true;
            SecretView::Value(value)
        }
        (Some(State::Missing), _) => SecretView::Missing,
        (Some(State::Present | State::Undecryptable), _) => SecretView::Present,
        (Some(State::Absent | State::Unspecified) | None, _) => SecretView::Absent,
    });
    any.then_some(supplied)
}

impl Planner<'_> {
    /// Fills in what the mask names and the stored resource does not have.
    pub(super) fn fill(
        &mut self,
        draft: Draft,
        resource: &Resource,
        mask: &[String],
        entry: &Entry,
    ) -> Result<Option<BatchResult>> {
        let Draft { path, name, kind, mut spec, origin, .. } = draft;
        let Some(wanted) = self.mask(&path, kind, resource, mask) else { return Ok(None) };
        let record = &entry.record;
        self.leave_unfit_defaults(&name, &mut spec);
        let wanted = wanted.lacking((&record.labels, &record.spec));
        let (labels, spec) = wanted.apply((&record.labels, &record.spec), (&resource.labels, Some(&spec)));
        let filled = Resource { labels, spec: Some(spec), ..resource.clone() };
        let Resource { labels, spec: Some(spec), .. } = restamped(&resource_of(record), filled) else {
            return Ok(None);
        };
        let planned = self.put_over(Draft { path, name, kind, labels, spec, origin }, entry)?;
        Ok(planned.map(|result| self.told_of(result)))
    }

    /// Leaves out the defaults of types that can't be filled in: a disabled provider is nobody's default, and one that points
    /// elsewhere than the import says was not meant.
    fn leave_unfit_defaults(&self, name: &ResourceName, spec: &mut Spec) {
        let Spec::Router(router) = spec else { return };
        if name.as_str() != DEFAULT_ROUTER {
            return;
        }
        let is_enabled = |name: &ResourceName| {
            let written = self.written.get(name).map(|written| &written.spec);
            let stored = || self.state.get(name.as_str()).map(|entry| &entry.record.spec);
            !matches!(written.or_else(stored), Some(Spec::Provider(spec)) if spec.enabled == Some(false))
        };
        router.type_defaults.retain(|_, provider| {
            ResourceName::parse(provider)
                .map_or(true, |name| is_enabled(&name) && !self.elsewhere.contains(&name))
        });
    }
}
