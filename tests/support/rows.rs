//! The guarantees' table of watch.md, one checker a row. Each looks at what one reader was sent, and at the truth.
//!
//! A checker finds the breach of its own row and leaves the others to theirs; `tests/watch_checkers.rs` holds each of
//! them against a recording that was spoilt by hand, because a checker that can't fail proves nothing.

mod content;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use signalbox::proto::v1::{Changes, ResetReason, watch_config_response::Event};

use self::content::{private, true_to_the_store};
use super::{
    record::{Asked, Events, Reader, revision_of, token_of},
    truth::{Expected, Truth},
};

/// A breach, in words.
type Verdict = Result<(), String>;

/// One row of the table, and its checker.
pub type Row = (&'static str, fn(&Case<'_>) -> Verdict);

/// All rows of the table.
pub const ROWS: [Row; 10] = [
    ("ordered", ordered),
    ("unique", unique),
    ("atomic", atomic),
    ("reliable", reliable),
    ("resumable", resumable),
    ("bookmarkable", bookmarkable),
    ("committed", committed),
    ("monotonic", monotonic),
    ("true to the store", true_to_the_store),
    ("private", private),
];

/// One reader before its judges.
pub struct Case<'a> {
    truth: &'a Truth,
    reader: &'a Reader,
    events: Events,
    expected: HashMap<u64, BTreeMap<&'a str, Expected<'a>>>,
}

impl<'a> Case<'a> {
    /// Decodes what the reader was sent.
    pub fn new(truth: &'a Truth, reader: &'a Reader) -> Result<Self, String> {
        Ok(Self { truth, reader, events: reader.events()?, expected: truth.expected(&reader.view) })
    }

    /// The rows that are broken, by name.
    pub fn broken(&self) -> Vec<(&'static str, String)> {
        ROWS.iter().filter_map(|(row, check)| Some((*row, check(self).err()?))).collect()
    }

    /// The revisions that concern the reader, after one and up to another.
    fn due(&self, after: u64, upto: u64) -> impl Iterator<Item = u64> {
        (after + 1..=upto).filter(|revision| self.expected.contains_key(revision))
    }
}

/// Panics with every broken row of every reader.
pub fn judge(truth: &Truth, readers: &[Reader], run: &str) {
    let mut found = Vec::new();
    for reader in readers {
        match Case::new(truth, reader) {
            Ok(case) => {
                found.extend(
                    case.broken().into_iter().map(|(row, why)| format!("{row}: {}: {why}", reader.name)),
                );
            }
            Err(why) => found.push(format!("unreadable: {}: {why}", reader.name)),
        }
    }
    assert!(found.is_empty(), "the contract is broken ({run}):\n{}", found.join("\n"));
}

/// Revisions on a stream never decrease.
fn ordered(case: &Case<'_>) -> Verdict {
    for (_, events) in &case.events {
        let revisions: Vec<u64> = events.iter().filter_map(|(_, event)| revision_of(event)).collect();
        if let Some(step) = revisions.windows(2).find(|step| step[1] < step[0]) {
            return Err(format!("revision {} came after {}", step[1], step[0]));
        }
    }
    Ok(())
}

/// No (revision, resource) comes twice on one stream. A reset begins anew, because its snapshot repeats.
fn unique(case: &Case<'_>) -> Verdict {
    for (_, events) in &case.events {
        let mut given = HashSet::new();
        for (_, event) in events {
            let pairs: Vec<(u64, &str)> = match event {
                Event::Reset(_) => {
                    given.clear();
                    continue;
                }
                Event::Snapshot(event) => event
                    .resources
                    .iter()
                    .map(|resource| (resource.update_revision, resource.name.as_str()))
                    .collect(),
                Event::Changes(event) => {
                    event.changes.iter().map(|change| (event.revision, change.name.as_str())).collect()
                }
                _ => continue,
            };
            if let Some((revision, name)) = pairs.into_iter().find(|pair| !given.insert(*pair)) {
                return Err(format!("{name} of revision {revision} came twice"));
            }
        }
    }
    Ok(())
}

/// All changes of one revision that match come together: in messages that follow each other, the last of which says so.
fn atomic(case: &Case<'_>) -> Verdict {
    for (_, events) in &case.events {
        let mut open: Option<(u64, BTreeSet<&str>)> = None;
        let mut snapshot: Option<u64> = None;
        for (_, event) in events {
            if let (Some((revision, _)), false) = (&open, matches!(event, Event::Changes(_))) {
                return Err(format!("revision {revision} was interrupted by {}", word(event)));
            }
            match event {
                Event::Snapshot(event) => match snapshot {
                    Some(revision) if revision != event.revision => {
                        return Err(format!(
                            "a snapshot of revision {revision} goes on at {}",
                            event.revision
                        ));
                    }
                    _ => snapshot = (!event.last).then_some(event.revision),
                },
                Event::Changes(event) => open = gather(case, open, event)?,
                Event::Revoked(_) => {}
                _ if snapshot.is_some() => {
                    return Err(format!("a snapshot was interrupted by {}", word(event)));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn gather<'e>(
    case: &Case<'_>,
    open: Option<(u64, BTreeSet<&'e str>)>,
    event: &'e Changes,
) -> Result<Option<(u64, BTreeSet<&'e str>)>, String> {
    let (revision, mut names) = open.unwrap_or((event.revision, BTreeSet::new()));
    if revision != event.revision {
        return Err(format!("revision {revision} was interrupted by {}", event.revision));
    }
    names.extend(event.changes.iter().map(|change| change.name.as_str()));
    if !event.last {
        let early = format!("revision {revision} gave its token before it was whole");
        return if event.resume_token.is_empty() { Ok(Some((revision, names))) } else { Err(early) };
    }
    let due = case.expected.get(&revision).into_iter().flat_map(BTreeMap::keys);
    match due.into_iter().find(|name| !names.contains(**name)) {
        Some(name) => Err(format!("revision {revision} came without {name}")),
        None => Ok(None),
    }
}

/// Nothing is missing between the first and the last revision seen, and nothing comes that does not concern the view.
fn reliable(case: &Case<'_>) -> Verdict {
    for (_, events) in &case.events {
        let (mut from, mut upto, mut given) = (None, 0, HashSet::new());
        for (_, event) in events.iter() {
            match event {
                Event::Reset(_) => {
                    missing(case, from, upto, &given)?;
                    from = None;
                }
                Event::Synced(event) => (from, upto) = (from.or(Some(event.revision)), event.revision),
                Event::Progress(event) => upto = event.revision,
                Event::Changes(event) => {
                    upto = if event.last { event.revision } else { upto };
                    given.insert(event.revision);
                    let due = case.expected.get(&event.revision);
                    let strange = event
                        .changes
                        .iter()
                        .find(|change| due.is_none_or(|due| !due.contains_key(change.name.as_str())));
                    // What no write was told of is the business of `committed`.
                    if let (Some(change), true) = (strange, case.truth.answer(event.revision).is_some()) {
                        return Err(format!(
                            "{} of revision {} does not concern the view",
                            change.name, event.revision
                        ));
                    }
                }
                _ => {}
            }
        }
        missing(case, from, upto, &given)?;
    }
    Ok(())
}

fn missing(case: &Case<'_>, from: Option<u64>, upto: u64, given: &HashSet<u64>) -> Verdict {
    let Some(from) = from else { return Ok(()) };
    match case.due(from, upto).find(|revision| !given.contains(revision)) {
        Some(revision) => Err(format!("revision {revision} is missing between {from} and {upto}")),
        None => Ok(()),
    }
}

/// Resuming from R yields exactly the matching changes after R, or a Reset that says truly why.
fn resumable(case: &Case<'_>) -> Verdict {
    for (asked, events) in &case.events {
        let mut at = match asked {
            Asked::Resume { revision } | Asked::OtherHash { revision } => *revision,
            _ => 0,
        };
        let mut resumed = matches!(asked, Asked::Resume { .. });
        // What is revoked is told ahead of everything, and moves no cursor.
        let events: Vec<_> = events.iter().filter(|(_, event)| !matches!(event, Event::Revoked(_))).collect();
        for (index, (when, event)) in events.iter().copied().enumerate() {
            if let Event::Reset(reset) = event {
                let compacted = case.truth.compactions.iter().any(|one| one.asked <= *when && one.floor > at);
                let given = if index == 0 { Some(*asked) } else { None };
                if !legitimate(given, reset.reason(), compacted) {
                    return Err(format!(
                        "{:?} at revision {at}, asked {given:?}, compacted: {compacted}",
                        reset.reason()
                    ));
                }
                if !matches!(events.get(index + 1), None | Some((_, Event::Snapshot(_)))) {
                    return Err("no snapshot follows a reset".to_owned());
                }
                resumed = false;
            } else if index == 0 {
                first(*asked, event)?;
            }
            if let Some((revision, token)) = token_of(event) {
                let known = case
                    .truth
                    .answer(revision)
                    .is_none_or(|answer| answer.token == token || answer.token.is_empty());
                if !known {
                    return Err(format!(
                        "the token of revision {revision} is not the one that its writer was given"
                    ));
                }
                // The changes begin right behind the token; what is lost later is the business of `reliable`.
                let upto =
                    if matches!(event, Event::Progress(_)) { revision } else { revision.saturating_sub(1) };
                if let (Some(lost), true) = (case.due(at, upto).next(), resumed) {
                    return Err(format!("resumed from {at}, and revision {lost} is skipped"));
                }
                resumed &= matches!(event, Event::Synced(_));
                at = revision;
            }
        }
    }
    Ok(())
}

/// The first event of a stream that has nothing to reset.
fn first(asked: Asked, event: &Event) -> Verdict {
    match (asked, event) {
        (_, Event::GoingAway(_)) | (Asked::Nothing, Event::Snapshot(_)) => Ok(()),
        (Asked::Resume { revision }, Event::Synced(event)) if event.revision == revision => Ok(()),
        _ => Err(format!("asked {asked:?}, and {} came first", word(event))),
    }
}

/// Whether a reset may have this reason. `asked` is `None` in the middle of a stream.
fn legitimate(asked: Option<Asked>, reason: ResetReason, compacted: bool) -> bool {
    match asked {
        None => reason == ResetReason::Lagged && compacted,
        Some(Asked::Nothing) => false,
        Some(Asked::Resume { .. }) => reason == ResetReason::Compacted && compacted,
        Some(Asked::OtherView) => reason == ResetReason::ViewChanged,
        Some(Asked::OtherStore) => reason == ResetReason::OtherStore,
        // What is compacted can't be compared any more.
        Some(Asked::OtherHash { .. }) => {
            reason == ResetReason::OtherStore || (reason == ResetReason::Compacted && compacted)
        }
        Some(Asked::Ahead) => reason == ResetReason::Ahead,
        Some(Asked::Garbage) => reason == ResetReason::InvalidToken,
    }
}

/// Nothing at or below a Progress revision comes after it; Progress never runs ahead of changes still queued.
fn bookmarkable(case: &Case<'_>) -> Verdict {
    for (_, events) in &case.events {
        let mut bookmark = None;
        for (_, event) in events {
            match event {
                Event::Progress(event) => bookmark = Some(event.revision),
                Event::Synced(event) => bookmark = Some(event.revision),
                Event::Reset(_) => bookmark = None,
                Event::Changes(event) if bookmark.is_some_and(|bookmark| event.revision <= bookmark) => {
                    return Err(format!("revision {} came after a bookmark at {bookmark:?}", event.revision));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// No change is seen before its transaction is durable: whatever was seen belongs to a write that is in the store.
fn committed(case: &Case<'_>) -> Verdict {
    let head = case.truth.head();
    for (_, event) in case.events.iter().flat_map(|(_, events)| events) {
        if let Some(revision) = revision_of(event).filter(|revision| *revision > head) {
            return Err(format!("{} showed revision {revision}, but the store ends at {head}", word(event)));
        }
        let Event::Changes(event) = event else { continue };
        let told = case.truth.answer(event.revision).into_iter().flat_map(|answer| &answer.changes);
        let told: HashSet<&str> = told.map(|told| told.name.as_str()).collect();
        if let Some(change) = event.changes.iter().find(|change| !told.contains(change.name.as_str())) {
            return Err(format!(
                "{} was seen changed in revision {}, which nobody wrote",
                change.name, event.revision
            ));
        }
    }
    Ok(())
}

/// A client never sees an older state than its token, on whichever connection. One that moves between servers without
/// showing its token may.
fn monotonic(case: &Case<'_>) -> Verdict {
    let mut held = 0;
    for (asked, events) in &case.events {
        let shown = matches!(asked, Asked::Resume { .. } | Asked::OtherView | Asked::OtherHash { .. });
        if case.reader.roams && !shown {
            held = 0;
        }
        for (_, event) in events {
            match event {
                Event::Snapshot(event) if event.revision < held => {
                    return Err(format!("a snapshot of revision {} for a client at {held}", event.revision));
                }
                Event::Synced(event) if event.revision < held => {
                    return Err(format!("synced at revision {} for a client at {held}", event.revision));
                }
                _ => held = token_of(event).map_or(held, |(revision, _)| revision.max(held)),
            }
        }
    }
    let older = case.reader.reads.iter().find(|read| read.at == 0 && read.revision < read.at_least);
    match older {
        Some(read) => {
            Err(format!("a read with a token of {} answered revision {}", read.at_least, read.revision))
        }
        None => Ok(()),
    }
}

fn word(event: &Event) -> String {
    let word = match event {
        Event::Snapshot(_) => "snapshot",
        Event::Synced(_) => "synced",
        Event::Changes(_) => "changes",
        Event::Progress(_) => "progress",
        Event::Reset(_) => "reset",
        Event::Revoked(_) => "revoked",
        Event::GoingAway(_) => "going away",
    };
    revision_of(event).map_or(word.to_owned(), |revision| format!("{word} of revision {revision}"))
}
