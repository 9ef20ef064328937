//! Sends the items of an import, and tells what became of them.

use prost::Message;

use crate::{
    cli::{
        diff,
        failure::{Failure, Outcome},
        session::{Session, canonical},
    },
    client::Connection,
    proto::v1::{
        ChangeType, ImportConfigRequest, ImportConfigResponse, ImportItem, ImportOptions, ImportOutcome,
        ResourceDiff,
    },
};

/// Bytes of one message, so that the next item still fits.
const PART_BYTES: usize = 512 * 1024;

/// Sends an import in as many messages as it takes. In errors its items are called by their names.
///
/// # Errors
/// The server's refusal; nothing was changed then.
pub async fn send(
    connection: &mut Connection,
    options: ImportOptions,
    items: Vec<ImportItem>,
) -> Result<ImportConfigResponse, Failure> {
    let names: Vec<String> = items
        .iter()
        .map(|item| item.resource.as_ref().map(|one| one.name.clone()).unwrap_or_default())
        .collect();
    let answer = connection.admin.import_config(tokio_stream::iter(parts(options, items))).await;
    answer.map(tonic::Response::into_inner).map_err(|status| match Failure::from(status) {
        Failure::Told { exit, text } => Failure::told(exit, by_name(&text, &names)),
        other => other,
    })
}

fn parts(options: ImportOptions, items: Vec<ImportItem>) -> Vec<ImportConfigRequest> {
    let mut parts = vec![ImportConfigRequest { options: Some(options), items: Vec::new() }];
    let mut bytes = 0;
    for item in items {
        if bytes > PART_BYTES {
            parts.push(ImportConfigRequest::default());
            bytes = 0;
        }
        bytes += item.encoded_len();
        if let Some(part) = parts.last_mut() {
            part.items.push(item);
        }
    }
    parts
}

/// A text in which `items[3].resource.` is the name of the fourth item.
fn by_name(text: &str, names: &[String]) -> String {
    let mut pieces = text.split("items[");
    let mut told = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let named = piece.split_once("].").and_then(|(index, rest)| {
            let name = names.get(index.parse::<usize>().ok()?).filter(|name| !name.is_empty())?;
            Some(format!("{name}: {}", rest.strip_prefix("resource.").unwrap_or(rest)))
        });
        told.push_str(&named.unwrap_or_else(|| format!("items[{piece}")));
    }
    told
}

/// Tells what an import did, or would do: each change, and how many there are.
pub fn print(session: &mut Session<'_>, answer: &ImportConfigResponse, dry_run: bool) -> Outcome {
    session.warn(&answer.warnings);
    if session.document(&canonical(answer)?)? {
        return Ok(());
    }
    let change = |outcome| match outcome {
        ImportOutcome::Created => Some(ChangeType::Created),
        ImportOutcome::Updated => Some(ChangeType::Updated),
        _ => None,
    };
    if !session.quiet {
        let changed = answer.resources.iter().filter_map(|resource| {
            let r#type = change(resource.outcome())?.into();
            // Of a new resource the fields are all that there is.
            let updated = resource.outcome() == ImportOutcome::Updated;
            let fields = if updated { resource.fields.clone() } else { Vec::new() };
            Some(ResourceDiff { name: resource.name.clone(), r#type, fields })
        });
        let changed: Vec<ResourceDiff> = changed.collect();
        diff::print(session, &changed, answer.revision, dry_run)?;
    }
    let ImportConfigResponse { created, updated, unchanged, skipped, revision, .. } = answer;
    session.line(&format!(
        "{created} created, {updated} updated, {unchanged} unchanged, {skipped} skipped; revision {revision}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_called_by_their_names() {
        let names = ["settings/a".to_owned(), "settings/b".to_owned()];
        assert_eq!(
            by_name("items[1].resource.setting: has no value\n  items[0].update_mask.paths[0]: x", &names),
            "settings/b: setting: has no value\n  settings/a: update_mask.paths[0]: x"
        );
        assert_eq!(by_name("items[7].x and items: y", &names), "items[7].x and items: y");
    }

    #[test]
    fn a_large_import_is_cut() {
        let item = |length: usize| ImportItem {
            resource: Some(crate::proto::v1::Resource { name: "x".repeat(length), ..Default::default() }),
            ..Default::default()
        };
        let parts = parts(ImportOptions::default(), (0..10).map(|_| item(200 * 1024)).collect());
        assert!(parts.len() > 2 && parts.iter().all(|part| part.encoded_len() < 1024 * 1024));
        assert_eq!(parts.iter().map(|part| part.items.len()).sum::<usize>(), 10);
        assert!(parts[0].options.is_some() && parts[1].options.is_none());
    }
}
