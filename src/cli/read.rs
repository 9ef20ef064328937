//! `get` and `list`.

use super::{
    args::{Get, List, Target},
    columns,
    connect::connect,
    failure::{Failure, Outcome},
    keys::{self, KeyInUse},
    schema, selector,
    session::{Format, Session, canonical, canonical_all},
    table,
    text::printable,
};
use crate::{
    client::Connection,
    proto::v1::{GetResourceRequest, ListResourcesRequest, Resource, resource::Spec},
};

/// Shows resources.
pub async fn get(session: &mut Session<'_>, target: &Target, args: &Get) -> Outcome {
    if let Some(collection) = args.names.iter().find(|name| schema::arm_of_collection(name).is_some()) {
        let what =
            format!("`{collection}` is a collection: `signalbox list {collection}` shows what is in it");
        return Err(Failure::usage(what));
    }
    let mut connection = connect(session, target).await?;
    let mut resources = Vec::new();
    for name in &args.names {
        let request = GetResourceRequest {
            name: name.clone(),
            revision: args.revision,
            include_secrets: args.secrets,
            include_observations: args.observations || session.format == Format::Table,
            ..Default::default()
        };
        let answer = connection.config.get_resource(request).await?.into_inner();
        warn_if_stale(session, answer.stale);
        resources.extend(answer.resource);
    }
    let shown = match resources.as_slice() {
        [only] => session.document(&canonical(only)?)?,
        _ => session.documents(&canonical_all(&resources)?)?,
    };
    if shown {
        return Ok(());
    }
    let now = session.clock.now();
    let mut details = Vec::with_capacity(resources.len());
    for resource in &resources {
        // Of the past the server does not say.
        let more = match args.revision {
            // What can't be told beside it is left out.
            0 => key_in_use(&mut connection, resource).await.ok().flatten(),
            _ => None,
        };
        details.push(table::details(resource, now, more.into_iter().collect()));
    }
    session.line(&details.join("\n\n"))
}

/// Which key of a provider counts, in a row.
async fn key_in_use(
    connection: &mut Connection,
    resource: &Resource,
) -> Result<Option<Vec<String>>, Failure> {
    let Some(Spec::Provider(spec)) = &resource.spec else { return Ok(None) };
    let key = match keys::key_in_use(connection, &resource.name, spec).await? {
        KeyInUse::Key(name) => name,
        KeyInUse::Lacking => "none that is active and has a value".to_owned(),
        KeyInUse::NotNeeded | KeyInUse::Unseen => return Ok(None),
    };
    Ok(Some(vec!["key in use".to_owned(), printable(&key)]))
}

/// Lists resources, all pages.
pub async fn list(session: &mut Session<'_>, target: &Target, args: &List) -> Outcome {
    let request = ListResourcesRequest {
        selectors: selector::parse_all(&args.selectors, &args.kind, &args.label)?,
        filter: args.filter.clone(),
        page_size: args.page_size,
        revision: args.revision,
        include_secrets: args.secrets,
        include_observations: args.observations || session.format == Format::Table,
        ..Default::default()
    };
    let mut connection = connect(session, target).await?;
    let resources = all_pages(session, &mut connection, request).await?;
    if session.documents(&canonical_all(&resources)?)? {
        return Ok(());
    }
    if resources.is_empty() {
        session.remark("nothing matches");
        return Ok(());
    }
    let now = session.clock.now();
    session.line(&columns::list(&resources, now))
}

/// All pages of a list.
pub(super) async fn all_pages(
    session: &mut Session<'_>,
    connection: &mut Connection,
    mut request: ListResourcesRequest,
) -> Result<Vec<Resource>, Failure> {
    let mut resources = Vec::new();
    loop {
        let page = connection.config.list_resources(request.clone()).await?.into_inner();
        resources.extend(page.resources);
        if page.next_page_token.is_empty() {
            warn_if_stale(session, page.stale);
            return Ok(resources);
        }
        request.page_token = page.next_page_token;
    }
}

fn warn_if_stale(session: &mut Session<'_>, stale: bool) {
    if stale {
        session.remark("warning: the server has lost touch with its store; this may be old");
    }
}
