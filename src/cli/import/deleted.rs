//! What somebody has deleted of the catalogue, and does not come back with it.
//!
//! The history tells: what is not there and has one was deleted.

use std::collections::BTreeSet;

use super::stored::{self, SELECTORS};
use crate::{
    cli::{failure::Failure, session::Session},
    client::Connection,
    import::{Imported, Kept},
    proto::v1::{ListHistoryRequest, Selector, selector::Pattern},
};

const PAGE: i32 = 1_000;

/// Takes out what was deleted; the report says so.
///
/// # Errors
/// Those of the server.
pub async fn leave_out(
    session: &mut Session<'_>,
    connection: &mut Connection,
    imported: &mut Imported,
) -> Result<(), Failure> {
    let names: Vec<String> = imported.resources.iter().map(|one| one.name.clone()).collect();
    let patterns: Vec<Pattern> = names.iter().cloned().map(Pattern::Name).collect();
    let stored = stored::list(session, connection, &patterns).await?;
    let stored: BTreeSet<String> = stored.into_iter().map(|one| one.name).collect();
    let absent: Vec<String> = names.into_iter().filter(|name| !stored.contains(name)).collect();
    let mut deleted = BTreeSet::new();
    for some in absent.chunks(SELECTORS) {
        deleted.extend(with_history(connection, some).await?);
    }
    imported.resources.retain(|one| !deleted.contains(&one.name));
    imported.keep(&deleted.into_iter().map(|name| (name, Kept::Deleted)).collect());
    Ok(())
}

/// Those of the names that something has happened to.
async fn with_history(connection: &mut Connection, names: &[String]) -> Result<BTreeSet<String>, Failure> {
    let mut found = BTreeSet::new();
    if names.is_empty() {
        return Ok(found);
    }
    let mut request =
        ListHistoryRequest { selectors: selectors(names), page_size: PAGE, ..Default::default() };
    loop {
        let page = connection.config.list_history(request.clone()).await?.into_inner();
        found.extend(page.entries.into_iter().map(|entry| entry.name).filter(|name| names.contains(name)));
        if page.next_page_token.is_empty() || found.len() == names.len() {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

fn selectors(names: &[String]) -> Vec<Selector> {
    let selector =
        |name: &String| Selector { pattern: Some(Pattern::Name(name.clone())), ..Selector::default() };
    names.iter().map(selector).collect()
}
