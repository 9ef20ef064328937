//! What the store has already of what an import brings.

use crate::{
    cli::{
        failure::{Exit, Failure},
        read,
        session::Session,
    },
    client::Connection,
    domain::record::Spec,
    import::{self, Decision, Imported, beside, report},
    proto::v1::{ListResourcesRequest, Resource, Secret, Selector, secret::State, selector::Pattern},
};

/// Selectors of a request at most.
pub const SELECTORS: usize = 64;
const PAGE: i32 = 1_000;

/// The ids that providers of a source without names get instead of those that were made up. Whoever can't read all providers
/// is told of none: what is in the way stays all the same.
///
/// # Errors
/// Those of the server.
pub async fn ids(
    session: &mut Session<'_>,
    connection: &mut Connection,
    imported: &Imported,
    replaced: bool,
) -> Result<Vec<(String, String)>, Failure> {
    if imported.made_up.is_empty() {
        return Ok(Vec::new());
    }
    let all = [Pattern::Prefix("providers/".to_owned())];
    let stored = seen(list(session, connection, &all).await)?;
    Ok(beside::ids(imported, &stored, replaced))
}

/// Looks up why resources were kept.
///
/// # Errors
/// Those of the server.
pub async fn look_up_why(
    session: &mut Session<'_>,
    connection: &mut Connection,
    imported: &mut Imported,
    kept: &[String],
) -> Result<(), Failure> {
    // Of what is only made new, the report knows why; and of a key that has a value.
    let asked = |name: &&String| !imported.only_new.contains_key(*name);
    let names: Vec<&String> = kept.iter().filter(asked).collect();
    let beneath = names.iter().filter(|name| name.starts_with("providers/"));
    let beneath = beneath.map(|name| Pattern::Prefix(format!("{name}/")));
    let patterns: Vec<Pattern> =
        names.iter().map(|name| Pattern::Name((*name).clone())).chain(beneath).collect();
    let stored = seen(list(session, connection, &patterns).await)?;
    for old in &stored {
        let Some(new) = imported.resources.iter().find(|new| new.name == old.name) else { continue };
        if let Some(why) = why_kept(new, old, &stored) {
            imported.because.insert(old.name.clone(), why);
        }
    }
    Ok(())
}

/// Why one of them was kept, as far as it can be seen.
fn why_kept(new: &Resource, old: &Resource, stored: &[Resource]) -> Option<&'static str> {
    if let Some(Spec::ApiKey(key)) = &old.spec {
        let state = key.secret.as_ref().map(Secret::state);
        return (state == Some(State::Missing)).then_some(report::STILL_MISSING);
    }
    match import::decide(new, Some(old), beside::has_secrets(old, stored)) {
        Decision::Keep(why) => Some(why),
        Decision::Write | Decision::Unchanged => None,
    }
}

/// What matches any of the patterns, masked.
///
/// # Errors
/// Those of the server.
pub async fn list(
    session: &mut Session<'_>,
    connection: &mut Connection,
    patterns: &[Pattern],
) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    for some in patterns.chunks(SELECTORS) {
        let selector = |pattern: &Pattern| Selector { pattern: Some(pattern.clone()), ..Selector::default() };
        let selectors = some.iter().map(selector).collect();
        let request = ListResourcesRequest { selectors, page_size: PAGE, ..Default::default() };
        found.extend(read::all_pages(session, connection, request).await?);
    }
    Ok(found)
}

/// What the caller may see: nothing where it is not his to read.
fn seen(listed: Result<Vec<Resource>, Failure>) -> Result<Vec<Resource>, Failure> {
    match listed {
        Err(failure) if failure.exit() == Exit::Denied => Ok(Vec::new()),
        listed => listed,
    }
}
