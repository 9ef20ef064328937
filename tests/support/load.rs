//! One step of a writer that follows its planner, and what has to come of it.

use signalbox::proto::v1::{BatchResult, ChangeType};
use tonic::Code;

use super::{
    plan::{Hope, Planner},
    shown,
    writer::Writer,
};

/// Writes what the planner wants next, and holds the outcome against what may become of it. Now and then a write is
/// repeated under its request id, on another server if there are several, which has to be answered as before, and to
/// change nothing. Says whether it was written.
pub async fn step(writer: &mut Writer, planner: &mut Planner) -> bool {
    let (job, hope) = planner.next();
    match (writer.carry_out(&job).await, hope) {
        (Ok(answer), Hope::Success | Hope::Either) if !job.validate_only => {
            planner.learn(&answer);
            if planner.again() && answer.results.iter().any(changed) {
                writer.move_on().await;
                let again = writer.carry_out(&job).await.expect("a repetition is answered");
                assert_eq!(again, answer, "a repetition is answered as the first time");
            }
            true
        }
        (Ok(_), Hope::Success | Hope::Either) => false,
        (Err(status), Hope::Failure(code)) => {
            assert_eq!(status.code(), code, "{}: {status:?}", shown(&job));
            false
        }
        (Err(status), Hope::Either) if status.code() != Code::Internal => false,
        (outcome, hope) => panic!("{} was to be {hope:?}, and was {}", shown(&job), shown(&outcome)),
    }
}

fn changed(result: &BatchResult) -> bool {
    result.diffs.iter().any(|diff| !diff.fields.is_empty() || diff.r#type() != ChangeType::Updated)
}
