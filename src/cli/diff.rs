//! What a write did, in short.

use std::collections::BTreeSet;

use super::{
    failure::Outcome,
    session::Session,
    text::{clipped, printable},
};
use crate::proto::v1::{ChangeType, ResourceDiff};

/// Characters of one value.
const VALUE: usize = 60;
/// Characters before what differs that are shown with it.
const BEFORE: usize = 20;
/// Fields of one group that are shown one by one where a resource is told as a whole.
const FEW: usize = 8;
/// The same where a resource is changed: who changes more at once has put another whole in its place.
const MANY: usize = 24;

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

/// Of an update the fields are shown one by one. A resource that comes or goes has them all: there, large groups are folded.
fn field_lines(diff: &ResourceDiff) -> Vec<String> {
    let whole = matches!(diff.r#type(), ChangeType::Created | ChangeType::Deleted);
    let most = if whole { FEW } else { MANY };
    let mut lines = Vec::new();
    for fields in diff.fields.chunk_by(|one, other| group(&one.path) == group(&other.path)) {
        if let (true, Some(first)) = (fields.len() > most, fields.first()) {
            lines.push(format!("  {}: {}", printable(group(&first.path)), folded(fields.len())));
            continue;
        }
        for field in fields {
            lines.push(format!("  {}: {}", printable(&field.path), change(&field.before, &field.after)));
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
        session.remark("store it now: no read shows it again");
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

/// What became of one value. Of a long list it is told what came and went: cut, both of its sides look the same.
fn change(before: &str, after: &str) -> String {
    let is_long = before.chars().count().max(after.chars().count()) > VALUE;
    match (items(before), items(after)) {
        (Some(old), Some(new)) if is_long && !(old.is_empty() && new.is_empty()) => list_change(&old, &new),
        _ => {
            let sides = [before, after].map(side);
            match sides[0] == sides[1] && before != after {
                true => from_difference(before, after),
                false => sides.join(" -> "),
            }
        }
    }
}

/// Two values that begin alike for longer than is shown, from a little before where they differ.
fn from_difference(before: &str, after: &str) -> String {
    let [before, after] = [before, after].map(printable);
    let same = before.chars().zip(after.chars()).take_while(|(one, other)| one == other).count();
    let cut = |value: &str| {
        let rest: String = value.chars().skip(same.saturating_sub(BEFORE)).collect();
        format!("…{}", clipped(&rest, VALUE))
    };
    format!("{} -> {}", cut(&before), cut(&after))
}

/// The items of a list; none of one that is not set. `None` for any other value.
fn items(json: &str) -> Option<Vec<String>> {
    if json.is_empty() {
        return Some(Vec::new());
    }
    let items: Vec<serde_json::Value> = serde_json::from_str(json).ok()?;
    Some(items.iter().map(serde_json::Value::to_string).collect())
}

fn list_change(old: &[String], new: &[String]) -> String {
    let without = |list: &[String], other: &[String]| {
        let other: BTreeSet<&String> = other.iter().collect();
        list.iter().filter(|item| !other.contains(item)).cloned().collect::<Vec<_>>()
    };
    let mut told = format!("{} -> {}", counted(old.len()), counted(new.len()));
    let parts = [("added", without(new, old)), ("removed", without(old, new))];
    if parts.iter().all(|(_, items)| items.is_empty()) {
        told.push_str(", in another order");
    }
    for (what, items) in parts.iter().filter(|(_, items)| !items.is_empty()) {
        let listed = clipped(&printable(&items.join(", ")), VALUE);
        told.push_str(&format!("; {} {what}: {listed}", items.len()));
    }
    told
}

fn counted(items: usize) -> String {
    match items {
        0 => "(not set)".to_owned(),
        1 => "1 item".to_owned(),
        many => format!("{many} items"),
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
    #[test]
    fn regression_two_values_that_begin_alike_are_shown_where_they_differ() {
        let path =
            |date: &str| format!("\"/openai/deployments/{{model}}/chat/completions?api-version={date}\"");
        let told = change(&path("2024-10-21"), &path("2025-01-01-preview"));
        assert_eq!(told, "…ions?api-version=2024-10-21\" -> …ions?api-version=2025-01-01-preview\"");
    }

    #[test]
    fn regression_of_a_long_list_it_is_told_what_came_and_went() {
        let models = |numbers: std::ops::Range<usize>| {
            serde_json::to_string(&numbers.map(|number| format!("model-{number}")).collect::<Vec<_>>())
                .unwrap()
        };
        for (before, after, told) in [
            (
                models(0..50),
                models(1..52),
                "50 items -> 51 items; 2 added: \"model-50\", \"model-51\"; 1 removed: \"model-0\"",
            ),
            (models(0..1), models(0..3), "[\"model-0\"] -> [\"model-0\",\"model-1\",\"model-2\"]"),
            (String::new(), models(0..2), "(not set) -> [\"model-0\",\"model-1\"]"),
            (
                format!("\"{}\"", "a".repeat(99)),
                String::new(),
                &format!("\"{}… -> (not set)", "a".repeat(59)),
            ),
        ] {
            assert_eq!(change(&before, &after), told);
        }
        assert!(change("", &models(0..50)).starts_with("(not set) -> 50 items; 50 added: \"model-0\""));
        let turned = serde_json::to_string(&["b".repeat(40), "a".repeat(40)]).unwrap();
        let straight = serde_json::to_string(&["a".repeat(40), "b".repeat(40)]).unwrap();
        assert_eq!(change(&straight, &turned), "2 items -> 2 items, in another order");
    }
}
