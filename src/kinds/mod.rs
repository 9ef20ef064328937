//! The kinds of configuration: for each its names, checks, defaults, secret fields, references and life cycle.
//!
//! The engine in `service` plans writes over [`Kind`] and knows no kind by itself. This room must not know how
//! anything is stored or sent; it sees names, specs and what a caller wants to do with them.
//!
//! # To add a kind, do this
//!
//! 1. Write its message, and give it an arm in `Resource.spec`. The arm's name is the kind's name. Fields with the option
//!    `column` are what lists show of it.
//! 2. Write one file here that implements [`Kind`] for a unit struct: its name patterns and its checks at least.
//!    Put a valid and an invalid example of every field into its tests, and into `tests/examples/<kind>.yaml`.
//! 3. Add the struct to [`registry`].
//!
//! Masks, differences, filters, secrets and selectors work on descriptors and follow by themselves. A test walks the
//! descriptors and fails while steps 2 and 3 are missing.

mod active;
pub mod api_key;
pub mod cache_policy;
mod contract;
pub mod credential;
pub mod database;
pub mod diff;
mod disclosed;
pub mod feature_flag;
pub mod filter;
mod headers;
mod json;
pub mod mask;
pub mod model;
mod model_fit;
pub mod names;
pub mod notification_channel;
mod outlook;
mod parameters;
mod paths;
mod pattern;
pub mod prompt_template;
pub mod provider;
mod references;
mod reflect;
pub mod router;
pub mod rules;
pub mod secrets;
pub mod setting;
mod template_text;
pub mod tool;
mod tool_schema;
pub mod virtual_key;

use std::borrow::Cow;

pub use crate::provider_types;
pub use contract::{Contract, Contracts};
pub use diff::diff;
pub use disclosed::disclosed;
pub use filter::{Filter, FilterError};
pub use headers::carries_credentials;
pub use mask::Mask;
pub use model_fit::misfits_of_call;
pub use names::{kind_of_pattern, parse_name, parse_pattern, parse_selector, parse_selectors, resolve};
pub use outlook::{Outlook, Remark, Says, Turn};
pub use parameters::check_parameters;
use prost_types::Timestamp;
pub use references::{Reference, Targets, contracts, prefixes_of, referring_to, turned};
pub use rules::check_labels;
pub use secrets::{SecretInput, SecretInputs, SecretView};
use zeroize::Zeroizing;

use crate::domain::{
    Action, FeatureLevel, FieldViolation, KindName, LoggedChange, ResourceName, record::Spec, spec,
};

/// A resource came into being.
pub const CREATED: Action = Action("created");
/// A resource changed in a way that has no word of its own.
pub const UPDATED: Action = Action("updated");
/// A resource is gone.
pub const DELETED: Action = Action("deleted");
/// A stored secret was replaced by another.
pub const ROTATED: Action = Action("rotated");
/// A stored secret is known to others, or may not be used for another reason, and goes at once.
pub const REVOKED: Action = Action("revoked");

/// A resource was brought from elsewhere.
pub const IMPORTED: Action = Action("imported");

/// A resource is what it was at a past revision.
pub const ROLLED_BACK: Action = Action("rolled_back");

/// A resource may be used again.
pub const ENABLED: Action = Action("enabled");
/// A resource may not be used any more.
pub const DISABLED: Action = Action("disabled");
/// Calls go to another provider first.
pub const SWITCHED: Action = Action("switched");

/// What the engine has to know of one kind of configuration.
///
/// Every method is given a spec of the kind's own arm; [`check`] sees to that before anything else is asked.
pub trait Kind: Sync {
    /// The kind's name, which is the name of its arm.
    fn name(&self) -> KindName;

    /// The names its resources have: fixed collection segments and `{placeholders}`, for example `providers/{id}`.
    fn patterns(&self) -> &'static [&'static str];

    /// The one spelling of an id (the last segment) under which all its spellings are known. Must be idempotent.
    fn normalise_id<'id>(&self, id: &'id str) -> Cow<'id, str> {
        Cow::Borrowed(id)
    }

    /// Whether a resource may only exist beneath its parent.
    fn parent_required(&self) -> bool {
        false
    }

    /// The field that says where the secrets beneath a resource go, if a write changes it: a stored secret goes only where
    /// it was saved for, so that they have to be given again.
    fn moves_secrets_beneath(&self, _before: &Spec, _after: &Spec) -> Option<&'static str> {
        None
    }

    /// What the store's feature level has to be for this spec to be written: more than the first where an older binary
    /// could not hold it.
    fn feature_level(&self, _spec: &Spec) -> FeatureLevel {
        FeatureLevel::FIRST
    }

    /// Fills in what the caller left out. Must be idempotent, and must not touch what was given.
    fn fill_defaults(&self, _spec: &mut Spec, _name: &ResourceName) {}

    /// As [`Self::fill_defaults`], and after it: what only a store of a higher feature level than the first may hold. Below that
    /// it stays out, and who reads the spec does without.
    fn fill_newer_defaults(&self, _spec: &mut Spec, _level: FeatureLevel) {}

    /// What a caller's new resource begins with where he says nothing of it, beside the defaults: he may take it away later, and
    /// then it stays so. What is brought from elsewhere is taken as it is.
    fn begin(&self, _spec: &mut Spec) {}

    /// Puts back what only the server sets, where the caller left it out: as it is stored, or nothing for a creation.
    fn keep_made(&self, _spec: &mut Spec, _before: Option<&Spec>) {}

    /// As [`Self::keep_made`], for a write that was checked: what only the server sets, whatever the caller gave, as it follows
    /// from what becomes of the secrets.
    fn conclude(&self, _spec: &mut Spec, _secrets: &mut SecretInputs, _before: Option<&Spec>) {}

    /// Takes out what says only how things stand at the moment, which is not carried elsewhere: an export is without it.
    fn leave_behind(&self, _spec: &mut Spec) {}

    /// What adds to a new, checked and masked spec what the server makes itself, from random bytes: a key, of which only
    /// its creator is ever shown more than the spec keeps.
    fn maker(&self) -> Option<fn(&mut Spec, &[u8; RANDOM_BYTES]) -> Made> {
        None
    }

    /// Everything that is wrong with a spec whose defaults are filled in; paths begin with the arm.
    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation>;

    /// What tells, by the word of the history and by what a resource holds afterwards (`None` once it is deleted), whether a
    /// change puts the secrets that it held out of use at once. Every stream that has them is told then, ahead of all else.
    fn revoker(&self) -> Option<fn(&str, Option<&Spec>) -> bool> {
        None
    }

    /// What the history calls an update; `rotated` says that a stored secret was replaced.
    fn action(&self, _before: &Spec, _after: &Spec, rotated: bool) -> Action {
        if rotated { ROTATED } else { UPDATED }
    }

    /// The key under which the environment of a process overrides a resource of this name, if it can.
    fn overridable<'name>(&self, _name: &'name ResourceName) -> Option<&'name str> {
        None
    }

    /// Things worth knowing that do not stop a write, as sentences. `before` is `None` for a creation.
    fn warnings(&self, _before: Option<&Spec>, _after: &Spec) -> Vec<String> {
        Vec::new()
    }

    /// The field with the time at which a resource ends to be good by itself, and that time, if it has one.
    fn expiry(&self, _spec: &Spec) -> Option<(&'static str, Timestamp)> {
        None
    }

    /// The kinds that its resources may refer to: what [`Kind::references`] names is of one of these.
    fn refers_to(&self) -> &'static [KindName] {
        &[]
    }

    /// The resources that a spec needs to exist. The engine refuses dangling ones, and deletes of what is in use.
    fn references(&self, _spec: &Spec) -> Vec<Reference> {
        Vec::new()
    }

    /// What others are held to of a spec, if anybody is held to something: all that [`Kind::check_targets`] of those that refer to
    /// it may look at.
    fn contract<'s>(&self, _spec: &'s Spec) -> Option<Contract<'s>> {
        None
    }

    /// What is wrong with a spec beside the resources that it refers to, by their contracts; paths begin with the arm. Asked when it
    /// is written, and when one of the contracts is to become another one.
    fn check_targets(&self, _spec: &Spec, _contracts: &Contracts<'_>) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// What is worth knowing of a spec beside the resources that it refers to, as sentences. Asked only when it is written.
    fn warn_of_targets(&self, _spec: &Spec, _targets: &Targets<'_>) -> Vec<String> {
        Vec::new()
    }

    /// Whether those that refer to a spec may have to be told something new ([`Kind::warn_of_targets`]) when it becomes another one.
    fn turns_warnings(&self, _before: &Spec, _after: &Spec) -> bool {
        false
    }

    /// The kinds of those resources to whose contracts [`Kind::check_targets`] holds a spec: one of them is not changed so that
    /// something is wrong with a spec which stays as it is.
    fn judges(&self) -> &'static [KindName] {
        &[]
    }

    /// What stands against a change, or is worth knowing of it, in view of other resources as the write leaves them. Asked
    /// for every change of a content, also for deletions.
    fn remarks(&self, _turn: &Turn<'_>, _outlook: &dyn Outlook) -> Vec<Remark> {
        Vec::new()
    }
}

/// What a check looks at.
#[derive(Clone, Copy)]
pub struct CheckContext<'a> {
    /// The resource's name, normalised.
    pub name: &'a ResourceName,
    /// The spec as it would be stored: masked, defaults filled in.
    pub spec: &'a Spec,
    /// The spec as it is stored now; `None` for a creation.
    pub before: Option<&'a Spec>,
    /// What the caller wants done with each secret, as [`secrets::split`] found it.
    pub secrets: &'a SecretInputs,
    /// Whether it is brought from elsewhere, or from the past: then secrets may lack, and what only the server makes comes along.
    pub imported: bool,
}

impl CheckContext<'_> {
    /// Whether this is a new resource, which has to bring the secrets that it can't do without.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.before.is_none() && !self.imported
    }
}

/// Random bytes that the making of a key takes.
pub const RANDOM_BYTES: usize = 40;

/// What the server has made for a new resource.
pub struct Made {
    /// Shown once, to the creator alone, and kept nowhere.
    pub one_time_secret: Zeroizing<String>,
    /// What is to be sealed of it.
    pub secrets: SecretInputs,
}

/// All kinds.
#[must_use]
pub fn registry() -> &'static [&'static dyn Kind] {
    &[
        &provider::Provider,
        &api_key::ApiKey,
        &setting::Setting,
        &model::Model,
        &prompt_template::PromptTemplate,
        &router::Router,
        &tool::Tool,
        &database::Database,
        &virtual_key::VirtualKey,
        &notification_channel::NotificationChannel,
        &feature_flag::FeatureFlag,
        &cache_policy::CachePolicy,
    ]
}

/// The kind with this name.
#[must_use]
pub fn kind_named(name: KindName) -> Option<&'static dyn Kind> {
    registry().iter().copied().find(|kind| kind.name() == name)
}

/// Everything that is wrong with a spec: its arm, its secrets, and what its kind says.
#[must_use]
pub fn check(kind: &dyn Kind, context: &CheckContext<'_>) -> Vec<FieldViolation> {
    if let Some(violation) = check_arm(kind, context.name, context.spec) {
        return vec![violation];
    }
    let mut violations = secrets::check(context.secrets);
    violations.extend(kind.check(context));
    violations.iter_mut().for_each(name_words);
    violations
}

/// Tells which values there are, where one that an enumeration does not have is refused.
fn name_words(violation: &mut FieldViolation) {
    if violation.description.contains(rules::SOME_WORD)
        && let Some(words) = reflect::enumeration_at(&violation.field)
    {
        let words: Vec<String> =
            words.values().filter(|word| word.number() != 0).map(|word| word.name().to_owned()).collect();
        let words = format!("use one of {}", words.join(", "));
        violation.description = violation.description.replace(rules::SOME_WORD, &words);
    }
}

/// Whether the spec is of the kind that the name says. Ask it before a mask is applied.
#[must_use]
pub fn check_arm(kind: &dyn Kind, name: &ResourceName, spec: &Spec) -> Option<FieldViolation> {
    let (wanted, given) = (kind.name(), spec::kind_of(spec));
    (wanted != given).then(|| {
        FieldViolation::new(
            given.0,
            "WRONG_KIND",
            format!("is set, but `{name}` is of kind `{wanted}`; set `{wanted}` instead"),
        )
    })
}

/// What the history calls an update of something that can be switched on and off.
fn switched(before: bool, after: bool, rotated: bool) -> Action {
    match (before, after) {
        (false, true) => ENABLED,
        (true, false) => DISABLED,
        _ if rotated => ROTATED,
        _ => UPDATED,
    }
}

/// Whether a change puts out of use the secrets of what can be switched off: it is gone, or off from now on. `enabled` says how
/// it is afterwards. Whatever the word is: what comes from elsewhere, or from the past, may be off from now on as well.
fn put_out(action: &str, enabled: Option<bool>) -> bool {
    enabled.is_none_or(|enabled| !enabled && ![UPDATED.0, ROTATED.0].contains(&action))
}

/// What the history calls a change of a resource.
#[must_use]
pub fn action(kind: &dyn Kind, before: Option<&Spec>, after: Option<&Spec>, rotated: bool) -> Action {
    match (before, after) {
        (Some(before), Some(after)) => kind.action(before, after, rotated),
        (None, _) => CREATED,
        (Some(_), None) => DELETED,
    }
}

/// Whether a change puts the secrets that a resource held out of use.
#[must_use]
pub fn revokes(change: &LoggedChange) -> bool {
    let revoker = kind_named(change.kind).and_then(|kind| kind.revoker());
    let after = change.record.as_ref().map(|record| &record.spec);
    change.previous.is_some() && revoker.is_some_and(|revokes| revokes(&change.action, after))
}

#[cfg(test)]
mod tests;
