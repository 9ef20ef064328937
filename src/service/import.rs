//! Imports: many resources from elsewhere in one revision, as ordinary operations of one write.

use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    Operation, OperationKind, Service, WriteRequest,
    plan::{LeftAlone, Mode, Why, left_alone},
};
use crate::{
    domain::{Error, FieldViolation, Principal, Result, limits},
    proto::v1::{
        BatchResult, BatchWriteResponse, ChangeType, ImportConfigResponse, ImportItem, ImportMode,
        ImportOptions, ImportOutcome, ImportedResource,
    },
};

/// Room for what an answer holds beside its resources.
const MARGIN: usize = 64 * 1024;

/// An import, put together from the messages that it came in.
#[derive(Default)]
pub struct ImportRequest {
    /// How it is done.
    pub options: ImportOptions,
    /// The resources.
    pub items: Vec<ImportItem>,
}

impl Service {
    /// Takes resources in: one revision, or none.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn import(&self, caller: &Principal, request: ImportRequest) -> Result<ImportConfigResponse> {
        let mode = parse_mode("options.mode", request.options.mode)?;
        if request.items.is_empty() {
            return Err(Error::invalid("items", "REQUIRED", "holds no resource; give at least one"));
        }
        let body = fingerprint(&request);
        let ImportRequest { options, items } = request;
        let yields = options.skip_in_use;
        let operations =
            items.into_iter().enumerate().map(|(index, item)| operation(index, item, mode, yields));
        let operations = operations.collect::<Result<_>>()?;
        let write = WriteRequest {
            operations,
            validate_only: options.validate_only,
            request_id: options.request_id,
            reason: options.reason,
            body,
        };
        let answer = self.carry_out(caller, write).await?;
        Ok(summary(answer, self.parts.max_answer_bytes))
    }
}

fn parse_mode(field: &str, number: i32) -> Result<Mode> {
    match ImportMode::try_from(number) {
        Ok(ImportMode::Unspecified | ImportMode::Keep) => Ok(Mode::Keep),
        Ok(ImportMode::Update) => Ok(Mode::Update),
        Ok(ImportMode::Replace) => Ok(Mode::Replace),
        Ok(ImportMode::KeepEdited) => Ok(Mode::KeepEdited),
        Ok(ImportMode::Fill) => Ok(Mode::Fill),
        Err(_) => {
            let description = format!(
                "is the unknown value {number}; use IMPORT_MODE_KEEP, IMPORT_MODE_UPDATE, IMPORT_MODE_REPLACE, \
                 IMPORT_MODE_KEEP_EDITED or IMPORT_MODE_FILL"
            );
            Err(Error::Invalid(vec![FieldViolation::new(field, "UNKNOWN_VALUE", description)]))
        }
    }
}

fn operation(index: usize, item: ImportItem, mode: Mode, yields: bool) -> Result<Operation> {
    let ImportItem { resource, update_mask, mode: own } = item;
    let mode = match ImportMode::try_from(own) {
        Ok(ImportMode::Unspecified) => mode,
        _ => parse_mode(&format!("items[{index}].mode"), own)?,
    };
    let mask = update_mask.map(|mask| mask.paths).unwrap_or_default();
    let action = OperationKind::Import { resource: resource.unwrap_or_default(), mask, mode, yields };
    Ok(Operation { path: format!("items[{index}]."), action })
}

/// Tells a repetition from another import, however either was cut into messages.
fn fingerprint(ImportRequest { options, items }: &ImportRequest) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(options.encode_length_delimited_to_vec());
    for item in items {
        // Wiped: it may hold secrets.
        digest.update(zeroize::Zeroizing::new(item.encode_length_delimited_to_vec()));
    }
    [&b"import "[..], &digest.finalize()].concat()
}

/// The answer of an import, from that of the write.
fn summary(answer: BatchWriteResponse, max_bytes: usize) -> ImportConfigResponse {
    let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
    let mut summary = ImportConfigResponse { revision, revision_token, warnings, ..Default::default() };
    let mut room = max_bytes.saturating_sub(MARGIN);
    let mut left_out = 0;
    for result in results {
        let imported = imported(result);
        *match imported.outcome() {
            ImportOutcome::Created => &mut summary.created,
            ImportOutcome::Updated => &mut summary.updated,
            ImportOutcome::Skipped | ImportOutcome::ParentKept | ImportOutcome::InUse => &mut summary.skipped,
            ImportOutcome::Unchanged | ImportOutcome::Unspecified => &mut summary.unchanged,
        } += 1;
        let bytes = imported.encoded_len() + 8;
        match room.checked_sub(bytes) {
            Some(rest) if left_out == 0 => {
                room = rest;
                summary.resources.push(imported);
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        summary
            .warnings
            .push(format!("{left_out} resources are not listed, because the answer has no room for them"));
    }
    summary
}

fn imported(result: BatchResult) -> ImportedResource {
    if let Some(LeftAlone { name, why }) = left_alone(&result) {
        let outcome = match why {
            Why::Exists => ImportOutcome::Skipped,
            Why::Elsewhere => ImportOutcome::ParentKept,
            Why::InUse => ImportOutcome::InUse,
        };
        return ImportedResource { name: name.to_owned(), outcome: outcome.into(), fields: Vec::new() };
    }
    let diff = result.diffs.into_iter().next().unwrap_or_default();
    let outcome = match diff.r#type() {
        ChangeType::Created => ImportOutcome::Created,
        ChangeType::Unspecified => ImportOutcome::Unchanged,
        ChangeType::Updated | ChangeType::Deleted => ImportOutcome::Updated,
    };
    ImportedResource { name: diff.name, outcome: outcome.into(), fields: diff.fields }
}

/// Whether an import has grown beyond what one revision takes: asked while it comes in, so that no more of it is held.
///
/// # Errors
/// `Invalid`.
pub fn check_growth(items: usize, bytes: usize) -> Result<()> {
    if items <= limits::BATCH_CHANGES && bytes <= limits::BATCH_BYTES {
        return Ok(());
    }
    let description = format!(
        "are more than {} resources, or more than {} bytes; divide the import",
        limits::BATCH_CHANGES,
        limits::BATCH_BYTES
    );
    Err(Error::invalid("items", "TOO_LARGE", description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{FieldDiff, Resource, ResourceDiff};

    fn result(name: String, change: ChangeType, field_bytes: usize) -> BatchResult {
        let field = FieldDiff { path: "p".into(), after: "x".repeat(field_bytes), ..Default::default() };
        let diff = ResourceDiff { name, r#type: change.into(), fields: vec![field] };
        BatchResult { diffs: vec![diff], ..Default::default() }
    }

    #[test]
    fn the_largest_import_is_answered() {
        let results = (0..limits::BATCH_CHANGES)
            .map(|index| result(format!("settings/{index:0>120}"), ChangeType::Created, 10));
        let answer = BatchWriteResponse { results: results.collect(), revision: 7, ..Default::default() };
        let summary = summary(answer, limits::MESSAGE_OUT_BYTES);
        assert!(summary.encoded_len() < limits::MESSAGE_OUT_BYTES);
        assert_eq!((summary.created, summary.revision), (10_000, 7));
        assert!(summary.resources.len() > 1000 && summary.warnings.len() == 1);
    }

    #[test]
    fn an_item_may_have_a_mode_of_its_own() {
        let mode = |own: i32| {
            let item = ImportItem { mode: own, ..Default::default() };
            operation(2, item, Mode::Replace, false).map(|operation| match operation.action {
                OperationKind::Import { mode, .. } => Some(mode),
                _ => None,
            })
        };
        assert_eq!(mode(0).ok(), Some(Some(Mode::Replace)));
        assert_eq!(mode(ImportMode::Keep.into()).ok(), Some(Some(Mode::Keep)));
        let Err(Error::Invalid(violations)) = mode(99) else { panic!("99 is no mode") };
        assert_eq!(violations[0].field, "items[2].mode");
    }

    #[test]
    fn every_outcome_is_counted() {
        let kept = Resource { name: "settings/k".into(), ..Default::default() };
        let results = vec![
            result("settings/a".into(), ChangeType::Created, 1),
            result("settings/b".into(), ChangeType::Updated, 1),
            result("settings/c".into(), ChangeType::Unspecified, 1),
            BatchResult { resource: Some(kept), ..Default::default() },
        ];
        let summary =
            summary(BatchWriteResponse { results, ..Default::default() }, limits::MESSAGE_OUT_BYTES);
        assert_eq!((summary.created, summary.updated, summary.unchanged, summary.skipped), (1, 1, 1, 1));
        let names: Vec<_> = summary.resources.iter().map(|resource| resource.name.as_str()).collect();
        assert_eq!(names, ["settings/a", "settings/b", "settings/c", "settings/k"]);
    }

    #[test]
    fn an_import_is_the_same_however_it_was_cut() {
        let item = |name: &str| ImportItem {
            resource: Some(Resource { name: name.into(), ..Default::default() }),
            ..Default::default()
        };
        let whole = ImportRequest { items: vec![item("a"), item("b")], ..Default::default() };
        let other = ImportRequest { items: vec![item("a"), item("c")], ..Default::default() };
        assert_eq!(
            fingerprint(&whole),
            fingerprint(&ImportRequest { items: whole.items.clone(), ..Default::default() })
        );
        assert_ne!(fingerprint(&whole), fingerprint(&other));
    }
}
