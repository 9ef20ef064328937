//! What a write did, in short.

use super::{
    failure::Outcome,
    session::Session,
    text::{clipped, printable},
};
use crate::proto::v1::{ChangeType, ResourceDiff};

/// Characters of one value.
const VALUE: usize = 60;
/// Fields of one group that are shown one by one where a resource is told as a whole.
const FEW: usize = 8;

/// Prints what a write did, or would do.
pub fn print(session: &mut Session<'_>, diffs: &[ResourceDiff], revision: u64, dry_run: bool) -> Outcome {
    for diff in diffs {
        session.line(&headline(diff, revision, dry_run))?;
        print_fields(session, diff)?;
    }
    if dry_run {
        session.remark("nothing was changed: this was a dry run");
    }
    Ok(())
}

/// Tells what a write would do, beside the question whether to do it.
pub fn preview(session: &mut Session<'_>, diff: &ResourceDiff) {
    session.remark(&headline(diff, 0, true));
    field_lines(diff).iter().for_each(|line| session.remark(line));
}

/// Prints what differs between two revisions.
pub fn print_compared(session: &mut Session<'_>, diffs: &[ResourceDiff]) -> Outcome {
    for diff in diffs {
        session.line(&format!("{} {}", printable(&diff.name), word(diff.r#type())))?;
        print_fields(session, diff)?;
    }
    Ok(())
}

fn print_fields(session: &mut Session<'_>, diff: &ResourceDiff) -> Outcome {
    field_lines(diff).iter().try_for_each(|line| session.line(line))
}

/// Of an update every field is shown. A resource that comes or goes has them all: there, large groups are folded.
fn field_lines(diff: &ResourceDiff) -> Vec<String> {
    let whole = matches!(diff.r#type(), ChangeType::Created | ChangeType::Deleted);
    let mut lines = Vec::new();
    for fields in diff.fields.chunk_by(|one, other| group(&one.path) == group(&other.path)) {
        if let (true, Some(first)) = (whole && fields.len() > FEW, fields.first()) {
            lines.push(format!("  {}: {}", printable(group(&first.path)), folded(fields.len())));
            continue;
        }
        for field in fields {
            let (before, after) = (side(&field.before), side(&field.after));
            lines.push(format!("  {}: {before} -> {after}", printable(&field.path)));
        }
    }
    lines
}

/// What a path is grouped by: the kind's own field, `provider.request_builder` of whatever lies in there.
pub(super) fn group(path: &str) -> &str {
    let mut ends = path.match_indices(['.', '[']).map(|(at, _)| at);
    ends.nth(1).map_or(path, |end| &path[..end])
}

/// What stands for many fields.
pub(super) fn folded(count: usize) -> String {
    format!("({count} fields; -o yaml shows them)")
}

/// Prints secrets that the server has made, each after the name of its resource; alone if there should be nothing else.
pub fn print_one_time(session: &mut Session<'_>, secrets: &[(String, String)]) -> Outcome {
    let made: Vec<_> = secrets.iter().filter(|(_, secret)| !secret.is_empty()).collect();
    for (name, secret) in &made {
        match session.quiet {
            true => session.line(secret)?,
            false => session.line(&format!("{}: {secret}", printable(name)))?,
        }
    }
    if !made.is_empty() {
        session.remark("store it now: the server keeps no copy, and never shows it again");
    }
    Ok(())
}

fn headline(diff: &ResourceDiff, revision: u64, dry_run: bool) -> String {
    let name = printable(&diff.name);
    let done = match diff.r#type() {
        ChangeType::Updated | ChangeType::Unspecified if diff.fields.is_empty() => {
            return format!("{name} unchanged");
        }
        change => word(change),
    };
    if dry_run { format!("{name} would be {done}") } else { format!("{name} {done} at revision {revision}") }
}

fn word(change: ChangeType) -> &'static str {
    match change {
        ChangeType::Created => "created",
        ChangeType::Deleted => "deleted",
        ChangeType::Updated | ChangeType::Unspecified => "updated",
    }
}

fn side(value: &str) -> String {
    if value.is_empty() { "(not set)".to_owned() } else { clipped(&printable(value), VALUE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_grouped_by_the_field_of_the_kind() {
        for (path, expected) in [
            ("provider.request_builder.payload_structure[3].source", "provider.request_builder"),
            ("provider.models[2]", "provider.models"),
            ("provider.enabled", "provider.enabled"),
            ("labels.team", "labels.team"),
            ("version", "version"),
        ] {
            assert_eq!(group(path), expected);
        }
    }
}
