//! What a write did, in short.

use super::{
    failure::Outcome,
    session::Session,
    text::{clipped, printable},
};
use crate::proto::v1::{ChangeType, ResourceDiff};

/// Characters of one value.
const VALUE: usize = 60;

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

/// Prints what differs between two revisions.
pub fn print_compared(session: &mut Session<'_>, diffs: &[ResourceDiff]) -> Outcome {
    for diff in diffs {
        session.line(&format!("{} {}", printable(&diff.name), word(diff.r#type())))?;
        print_fields(session, diff)?;
    }
    Ok(())
}

fn print_fields(session: &mut Session<'_>, diff: &ResourceDiff) -> Outcome {
    for field in &diff.fields {
        let (before, after) = (side(&field.before), side(&field.after));
        session.line(&format!("  {}: {before} -> {after}", printable(&field.path)))?;
    }
    Ok(())
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
