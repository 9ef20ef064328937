//! Sends the items of an import, and tells what became of them.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    cli::{
        diff,
        failure::{Failure, OUTCOME_UNKNOWN, Outcome},
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

/// Why there is no answer that an import was done.
pub struct NotDone {
    /// What to tell.
    pub failure: Failure,
    /// Whether the server refused it, and nothing was changed; otherwise it may have been done all the same.
    pub refused: bool,
    /// Whether it was refused because what uses a resource would no longer fit.
    pub in_use: bool,
}

impl NotDone {
    /// The same, with what can be done about it where a use stands against it.
    #[must_use]
    pub fn advised(self, how: &str) -> Self {
        let failure = match self.failure {
            Failure::Told { exit, text } if self.in_use => Failure::told(exit, text + how),
            other => other,
        };
        Self { failure, ..self }
    }
}

impl From<NotDone> for Failure {
    fn from(not_done: NotDone) -> Self {
        not_done.failure
    }
}

/// Sends an import in as many messages as it takes. In errors its items are called by their names. An import gets a request id
/// if it has none, so that whoever hears no answer can learn what became of it.
///
/// # Errors
/// The server's refusal, or that nobody knows what became of it; the latter tells how to find out.
pub async fn send(
    connection: &mut Connection,
    mut options: ImportOptions,
    items: Vec<ImportItem>,
) -> Result<ImportConfigResponse, NotDone> {
    if options.request_id.is_empty() && !options.validate_only {
        options.request_id = uuid::Uuid::new_v4().to_string();
    }
    let (id, checks) = (options.request_id.clone(), options.validate_only);
    let names: Vec<String> = items
        .iter()
        .map(|item| item.resource.as_ref().map(|one| one.name.clone()).unwrap_or_default())
        .collect();
    let answer = connection.admin.import_config(tokio_stream::iter(parts(options, items))).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let refused = checks || is_refusal(&status);
        let in_use = reason(&status).as_deref() == Some("IN_USE");
        let how = match refused {
            true => String::new(),
            false => format!(
                "
it is not known whether the import was done, and it may be: repeat the same command with --request-id {id}, \
                 which does it if it was not, and otherwise tells what it did"
            ),
        };
        let failure = match Failure::from(status) {
            Failure::Told { exit, text } => Failure::told(exit, by_name(&text, &names) + &how),
            Failure::Lost(cause) => Failure::Lost(cause + &how),
            Failure::Unknown(text) => Failure::Unknown(text + &how),
            other => other,
        };
        NotDone { failure, refused, in_use }
    })
}

/// Whether a status is the server's answer that it changed nothing. A lost connection, a deadline and a fault may have come after
/// the change, and so may an answer that the client can't take, which bears no reason of the server's.
fn is_refusal(status: &Status) -> bool {
    let reason = reason(status);
    match status.code() {
        Code::Ok
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::DataLoss => false,
        Code::Unavailable => reason.is_some_and(|reason| reason != OUTCOME_UNKNOWN),
        Code::OutOfRange | Code::ResourceExhausted => reason.is_some(),
        _ => true,
    }
}

/// The reason that the server gives.
fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
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
    session.line(&match dry_run {
        true => format!(
            "{created} would be created, {updated} updated, {unchanged} left unchanged, {skipped} skipped"
        ),
        false => format!(
            "{created} created, {updated} updated, {unchanged} unchanged, {skipped} skipped; revision {revision}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    /// What was lost on the way is no refusal.
    #[test]
    fn regression_only_an_answer_of_the_server_is_a_refusal() {
        let plain = |code| Status::new(code, "it failed");
        let told = |code, reason: &str| {
            Status::with_error_details(code, "no", ErrorDetails::with_error_info(reason, "signalbox", []))
        };
        for status in [
            plain(Code::InvalidArgument),
            plain(Code::PermissionDenied),
            plain(Code::Unimplemented),
            told(Code::FailedPrecondition, "PROVIDER_ACTIVE"),
            told(Code::Unavailable, "STORE_UNAVAILABLE"),
            told(Code::ResourceExhausted, "REQUEST_TOO_LARGE"),
        ] {
            assert!(is_refusal(&status), "{status:?}");
        }
        for status in [
            Status::from_error(Box::new(std::io::Error::other("connection reset"))),
            plain(Code::Unavailable),
            plain(Code::DeadlineExceeded),
            plain(Code::Cancelled),
            plain(Code::Unknown),
            plain(Code::OutOfRange),
            told(Code::Internal, "INTERNAL"),
            told(Code::Unavailable, OUTCOME_UNKNOWN),
        ] {
            assert!(!is_refusal(&status), "{status:?}");
        }
    }

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
