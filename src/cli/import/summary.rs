//! All providers after an import, with who is active and how many there are.

use crate::{
    cli::{
        failure::{Failure, Outcome},
        read,
        session::{Format, Session},
        table, text,
    },
    client::Connection,
    proto::v1::{ListResourcesRequest, Resource, Selector, resource::Spec, selector::Pattern},
};

/// The router whose primary is the active provider.
const DEFAULT_ROUTER: &str = "routers/default";

/// Tells them as a table; nothing where a document is wanted, or quiet.
pub async fn providers(session: &mut Session<'_>, connection: &mut Connection) -> Outcome {
    if session.format != Format::Table || session.quiet {
        return Ok(());
    }
    let resources = list(session, connection).await?;
    let active = resources.iter().find_map(|resource| match &resource.spec {
        Some(Spec::Router(router)) => Some(router.primary.clone()),
        _ => None,
    });
    let rows: Vec<Vec<String>> =
        resources.iter().filter_map(|resource| row(resource, active.as_deref())).collect();
    let count = rows.len();
    session.line("")?;
    session.line(&table::plain(&["PROVIDER", "DISPLAY NAME", "ACTIVE", "ENABLED", "DEFAULT MODEL"], rows))?;
    session.line(&format!("total: {count} providers"))
}

async fn list(session: &mut Session<'_>, connection: &mut Connection) -> Result<Vec<Resource>, Failure> {
    let patterns = [Pattern::Kind("provider".to_owned()), Pattern::Name(DEFAULT_ROUTER.to_owned())];
    let selectors = patterns.map(|pattern| Selector { pattern: Some(pattern), ..Selector::default() });
    let request =
        ListResourcesRequest { selectors: selectors.to_vec(), page_size: 500, ..Default::default() };
    read::all_pages(session, connection, request).await
}

fn row(resource: &Resource, active: Option<&str>) -> Option<Vec<String>> {
    let Some(Spec::Provider(provider)) = &resource.spec else { return None };
    let yes = |is: bool| if is { "yes" } else { "-" };
    let cells = [
        resource.name.as_str(),
        &provider.display_name,
        yes(active == Some(resource.name.as_str())),
        yes(provider.enabled.unwrap_or(true)),
        &provider.default_model,
    ];
    Some(cells.map(text::printable).to_vec())
}
