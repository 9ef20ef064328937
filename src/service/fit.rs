//! Makes the answer of a write fit into a message: the write is durable by then, and has to be answered as done.
//!
//! A batch of many or large resources has an answer several times its size, because the answer shows every resource,
//! and every field before and after.

use prost::Message;

use crate::proto::v1::{BatchResult, BatchWriteResponse};

/// Room for what a single write's answer wraps differently.
const MARGIN: usize = 1024;

/// What is left out of an answer, and its name.
type Step = (fn(&mut BatchWriteResponse), &'static str);

/// Leaves out what is least needed, until the answer fits: the values of differences, then the differences, then all
/// of the resources but their names and marks, then these as well. A warning says so, and what was `done` with the write.
pub(super) fn fit(mut answer: BatchWriteResponse, max_bytes: usize, done: &str) -> BatchWriteResponse {
    let steps: [Step; 4] = [
        (drop_values, "the values of the differences"),
        (drop_differences, "the differences of fields"),
        (drop_contents, "the contents of the resources"),
        (drop_results, "the results of the operations"),
    ];
    for (step, what) in steps {
        if answer.encoded_len() + MARGIN <= max_bytes {
            break;
        }
        step(&mut answer);
        answer.warnings = vec![format!("{done}, but the answer was too large: {what} were left out")];
    }
    answer
}

fn drop_values(answer: &mut BatchWriteResponse) {
    let diffs = answer.results.iter_mut().flat_map(|result| &mut result.diffs);
    for field in diffs.flat_map(|diff| &mut diff.fields) {
        field.before.clear();
        field.after.clear();
    }
}

fn drop_differences(answer: &mut BatchWriteResponse) {
    answer.results.iter_mut().flat_map(|result| &mut result.diffs).for_each(|diff| diff.fields.clear());
}

fn drop_contents(answer: &mut BatchWriteResponse) {
    for resource in answer.results.iter_mut().filter_map(|result| result.resource.as_mut()) {
        resource.spec = None;
        resource.labels.clear();
    }
}

/// What is shown only once stays in any case.
fn drop_results(answer: &mut BatchWriteResponse) {
    for result in &mut answer.results {
        let one_time_secret = std::mem::take(&mut result.one_time_secret);
        *result = BatchResult { one_time_secret, ..BatchResult::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::limits,
        proto::v1::{FieldDiff, Resource, ResourceDiff},
    };

    const MAX: usize = limits::MESSAGE_OUT_BYTES;

    fn answer(operations: usize, field_bytes: usize) -> BatchWriteResponse {
        let fields = vec![FieldDiff { path: "p".into(), before: "x".repeat(field_bytes), after: "y".into() }];
        let result = BatchResult {
            resource: Some(Resource { name: "settings/a_name_of_some_length".into(), ..Default::default() }),
            diffs: vec![ResourceDiff { name: "settings/a_name_of_some_length".into(), r#type: 2, fields }],
            one_time_secret: "sbx_0123456789abcdef_0123456789012345678901234567890123456789012".into(),
        };
        BatchWriteResponse { results: vec![result; operations], revision: 7, ..Default::default() }
    }

    #[test]
    fn a_small_answer_stays_as_it_is() {
        assert_eq!(fit(answer(3, 10), MAX, "the write is done"), answer(3, 10));
    }

    #[test]
    fn a_large_answer_keeps_what_it_can() {
        let fitted = fit(answer(20, 100_000), MAX, "the write is done");
        assert!(fitted.encoded_len() < MAX);
        assert_eq!(fitted.results[19].diffs[0].fields[0].path, "p");
        assert_eq!((fitted.results.len(), fitted.revision, fitted.warnings.len()), (20, 7, 1));
    }

    #[test]
    fn the_largest_batch_is_answered() {
        let fitted = fit(answer(limits::BATCH_CHANGES, 100), MAX, "the write is done");
        assert!(fitted.encoded_len() < MAX);
        assert_eq!(fitted.results.len(), limits::BATCH_CHANGES);
        assert!(fitted.results.iter().all(|result| result.one_time_secret.len() == 64));
    }
}
