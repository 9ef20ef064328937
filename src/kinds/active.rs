//! The active provider: what binds `routers/default`, the providers that it names, and their keys to each other. And what is to
//! be said of a provider that other routers begin with.
//!
//! The active provider is the primary of `routers/default`. It is enabled and stays, until another one is. What must be
//! possible at any time, because a leaked key has to go, is only warned of.

use super::{
    outlook::{Outlook, Remark, Says, Turn},
    rules::shown,
};
use crate::{
    choice::{DEFAULT_ROUTER, is_usable},
    domain::{ResourceName, record::Spec},
    proto::v1::{AuthScheme, ProviderSpec, RouterSpec},
};

/// What the names of routers begin with.
const ROUTERS: &str = "routers/";
/// Other routers that are told of.
const NAMED: usize = 20;
/// What to do instead, in words.
const SWITCH: &str = "switch to another provider first (`signalbox switch PROVIDER`)";

/// What `routers/default` must not be changed to.
pub(super) fn of_router(turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
    if turn.name.as_str() != DEFAULT_ROUTER {
        return Vec::new();
    }
    match (router(turn.before), router(turn.after)) {
        (before, Some(after)) => named_anew(before, after, outlook),
        (Some(before), None) => orphaned(before, outlook).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

/// Providers that it names, and did not name before, are enabled. What was right once stays.
fn named_anew(before: Option<&RouterSpec>, after: &RouterSpec, outlook: &dyn Outlook) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let primary = &after.primary;
    if before.is_none_or(|before| before.primary != *primary) {
        if is_disabled(primary, outlook) {
            let description = format!(
                "{primary} is disabled and can't become active: enable it first (`signalbox set {primary} --field \
                 enabled=true`)"
            );
            remarks.push(refused("router.primary", "PROVIDER_DISABLED", primary, description));
        }
        remarks.extend(without_key(primary, outlook).map(|provider| {
            warning(format!("{provider} becomes active and has no active key: calls fail until it has one"))
        }));
        let open = provider(outlook.find(primary)).is_some_and(|spec| spec.default_model.is_empty());
        remarks.extend(open.then(|| {
            warning(format!(
                "{primary} becomes active and has no default model: calls have to name one until it has (`signalbox set \
                 {primary} --field default_model=MODEL`)"
            ))
        }));
    }
    for (word, name) in &after.type_defaults {
        let named_before = before.is_some_and(|before| before.type_defaults.get(word) == Some(name));
        if !named_before && is_disabled(name, outlook) {
            let field = format!("router.type_defaults.{}", shown(word));
            let description =
                format!("{name} is disabled and can't become the default of its type: enable it first");
            remarks.push(refused(&field, "PROVIDER_DISABLED", name, description));
        }
    }
    remarks
}

fn is_disabled(name: &str, outlook: &dyn Outlook) -> bool {
    provider(outlook.find(name)).is_some_and(|spec| !is_enabled(spec))
}

/// Without the router there would be no active provider any more, although it is still there.
fn orphaned(router: &RouterSpec, outlook: &dyn Outlook) -> Option<Remark> {
    outlook.find(&router.primary)?;
    let primary = &router.primary;
    let description = format!(
        "{DEFAULT_ROUTER} says that {primary} is active: {SWITCH}, or delete both together \
         (`signalbox delete {DEFAULT_ROUTER} {primary}`)"
    );
    Some(refused("", "PROVIDER_ACTIVE", primary, description))
}

/// A provider that is active, or the default of its type, stays, and stays enabled.
pub(super) fn of_provider(turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
    let Some(before) = provider(turn.before) else { return Vec::new() };
    let (field, lost) = match provider(turn.after) {
        None => ("", "deleted"),
        Some(after) if is_enabled(before) && !is_enabled(after) => ("provider.enabled", "disabled"),
        Some(after) if before.r#type != after.r#type => ("provider.type", "turned into another type"),
        Some(_) => return Vec::new(),
    };
    let name = turn.name.as_str();
    let mut remarks = match field {
        "provider.enabled" => others_without_primary(name, outlook),
        _ => Vec::new(),
    };
    let Some(router) = router(outlook.find(DEFAULT_ROUTER)) else { return remarks };
    if router.primary == name && field != "provider.type" {
        let together = match turn.after {
            None => format!(", or delete both together (`signalbox delete {DEFAULT_ROUTER} {name}`)"),
            Some(_) => String::new(),
        };
        let description = format!("{name} is the active provider and can't be {lost}: {SWITCH}{together}");
        remarks.push(refused(field, "PROVIDER_ACTIVE", name, description));
    }
    if let Some((word, _)) = router.type_defaults.iter().find(|(_, named)| *named == name) {
        let description = format!(
            "{name} is the default for the type `{word}` and can't be {lost}: name another one in \
             `router.type_defaults` of {DEFAULT_ROUTER} first, or none"
        );
        remarks.push(refused(field, "PROVIDER_DEFAULT", name, description));
    }
    // One that is deleted is named by a reference, which keeps it.
    if field == "provider.enabled" && router.fallbacks.iter().any(|fallback| fallback == name) {
        remarks.push(warning(format!(
            "{name} is a fallback of the active provider and is passed over while it is disabled; `signalbox switch` says \
             which fallbacks there are"
        )));
    }
    remarks
}

/// What becomes of the calls of other routers that begin with a provider, while that is disabled.
fn others_without_primary(name: &str, outlook: &dyn Outlook) -> Vec<Remark> {
    let begins = |spec: &Spec| router(Some(spec)).is_some_and(|router| router.primary == name);
    let routers = outlook.all_beneath(ROUTERS, &begins).into_iter();
    let remark = |other: ResourceName| {
        let left = router(outlook.find(other.as_str())).is_some_and(|router| !router.fallbacks.is_empty());
        let then = match left {
            true => "its calls go to its fallbacks",
            false => "its calls fail, because it has no fallbacks,",
        };
        let text = format!("{name} is the primary of {other}: {then} while it is disabled");
        Remark { because: other.to_string(), says: Says::Warning(text) }
    };
    routers.filter(|other| other.as_str() != DEFAULT_ROUTER).take(NAMED).map(remark).collect()
}

/// The last active key of the active provider may go, and a disabled one may get a key; both are told.
pub(super) fn of_key(turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
    let usable = |spec: Option<&Spec>| matches!(spec, Some(Spec::ApiKey(spec)) if is_usable(spec));
    let parent = turn.name.parent();
    let Some(parent) = parent.as_ref().map(ResourceName::as_str) else { return Vec::new() };
    match (usable(turn.before), usable(turn.after)) {
        (true, false) => last_key_gone(turn, parent, outlook),
        (false, true) if is_disabled(parent, outlook) => {
            let text = format!(
                "{parent} is disabled, and its keys are not used until it is enabled (`signalbox set {parent} --field \
                 enabled=true`)"
            );
            vec![Remark { because: parent.to_owned(), says: Says::Warning(text) }]
        }
        _ => Vec::new(),
    }
}

fn last_key_gone(turn: &Turn<'_>, parent: &str, outlook: &dyn Outlook) -> Vec<Remark> {
    if router(outlook.find(DEFAULT_ROUTER)).is_none_or(|router| router.primary != parent) {
        return Vec::new();
    }
    let left = without_key(parent, outlook).map(|provider| {
        warning(format!(
            "{} was the last active key of {provider}, which is the active provider: calls fail until it has another \
             one, or another provider is active",
            turn.name
        ))
    });
    left.into_iter().collect()
}

/// The provider, if it needs a key and has none that may be used.
fn without_key<'n>(name: &'n str, outlook: &dyn Outlook) -> Option<&'n str> {
    let spec = provider(outlook.find(name))?;
    let open = spec.auth.as_ref().is_some_and(|auth| auth.scheme() == AuthScheme::None);
    let usable = |spec: &Spec| matches!(spec, Spec::ApiKey(spec) if is_usable(spec));
    let has_key = || outlook.any_beneath(&format!("{name}/apiKeys/"), &usable);
    (!open && !has_key()).then_some(name)
}

fn is_enabled(spec: &ProviderSpec) -> bool {
    spec.enabled.unwrap_or(true)
}

fn router(spec: Option<&Spec>) -> Option<&RouterSpec> {
    match spec {
        Some(Spec::Router(spec)) => Some(spec),
        _ => None,
    }
}

fn provider(spec: Option<&Spec>) -> Option<&ProviderSpec> {
    match spec {
        Some(Spec::Provider(spec)) => Some(spec),
        _ => None,
    }
}

fn refused(field: &str, reason: &'static str, subject: &str, description: String) -> Remark {
    let (field, subject) = (field.to_owned(), subject.to_owned());
    let says = Says::Refused { field, reason, subject, description };
    Remark { because: DEFAULT_ROUTER.to_owned(), says }
}

fn warning(text: String) -> Remark {
    Remark { because: DEFAULT_ROUTER.to_owned(), says: Says::Warning(text) }
}
