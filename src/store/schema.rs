//! The steps of a schema: which of them a database has had, and whether a binary can run over those that it does not know.
//!
//! Each step says in `schema_steps` which feature level a binary has to support to run over it, from the one on that made that
//! table. So the release before can come back after an upgrade, until the level is raised. A step that says nothing needs
//! the binary that brought it. It must not know a database.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType},
};

use super::StoreError;
use crate::domain::{FeatureLevel, Release};

/// The levels that steps need; only where there is the table.
pub(super) const NEEDS: &str = "SELECT version, needs FROM schema_steps";

/// The steps that a database has had.
pub(super) struct Had {
    /// Their numbers and checksums, in order.
    pub steps: Vec<(i64, Vec<u8>)>,
    /// The levels that they say they need, by number.
    pub needs: Vec<(i64, i64)>,
}

/// A step of the schema: its number, what it is called, and its text.
pub(super) fn step(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
}

/// The steps that a release knows.
pub(super) fn steps_of(release: Release, own: Vec<Migration>) -> Vec<Migration> {
    let next = newest(&own) + 1;
    own.into_iter().chain(release.further_step.map(|sql| step(next, "further", sql))).collect()
}

/// The newest step.
pub(super) fn newest(steps: &[Migration]) -> i64 {
    steps.last().map_or(0, |step| step.version)
}

/// A newest step as status tells it.
pub(super) fn version_of(newest: i64) -> u32 {
    u32::try_from(newest).unwrap_or(u32::MAX)
}

/// How many of the known steps a database has had, if a binary can run over all that it has had. `place` is the store in
/// words.
///
/// # Errors
/// [`StoreError::Unavailable`] if there is a step that the binary does not know and can't run over; [`StoreError::Damaged`]
/// if a step is another one than it knows.
pub(super) fn check(
    place: &str,
    had: &Had,
    steps: &[Migration],
    level: FeatureLevel,
) -> Result<usize, StoreError> {
    let known = newest(steps);
    let (ours, newer): (Vec<_>, Vec<_>) = had.steps.iter().partition(|(version, _)| *version <= known);
    for (version, _) in &newer {
        let needed = had.needs.iter().find(|(step, _)| step == version).map(|(_, needed)| *needed);
        if needed.is_none_or(|needed| needed > i64::from(level.0)) {
            let needed = needed.map_or_else(String::new, |needed| {
                format!(" and supports only feature level {level}, of which it needs {needed}")
            });
            return Err(StoreError::Unavailable(format!(
                "{place} was written by a newer signalbox: its schema is {version}, this one knows {known}{needed}; start \
                 a newer one"
            )));
        }
    }
    let same = |(found, step): (&&(i64, Vec<u8>), &Migration)| {
        found.0 == step.version && found.1.as_slice() == &*step.checksum
    };
    let whole = newer.is_empty() || ours.len() == steps.len();
    match whole && ours.iter().zip(steps).all(same) {
        true => Ok(ours.len()),
        false => Err(StoreError::Damaged(format!(
            "{place} has a schema that is not the one of this signalbox; start the one that made it, or restore a backup"
        ))),
    }
}

/// Tells of a schema that is newer than this binary's.
pub(super) fn tell(place: &str, found: u32, steps: &[Migration]) {
    let known = version_of(newest(steps));
    if found > known {
        tracing::warn!(
            schema = found,
            known,
            "{place} has the schema of a newer signalbox, which leaves room for this one: it runs on it as before"
        );
    }
}

/// Refuses a schema that is newer than this binary's where all that is stored has to be known.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub(super) fn know_all(place: &str, found: u32, steps: &[Migration]) -> Result<(), StoreError> {
    let known = version_of(newest(steps));
    match found <= known {
        true => Ok(()),
        false => Err(StoreError::Unavailable(format!(
            "{place} has the schema {found} of a newer signalbox, and this one knows {known}: what it does not know would \
             stay behind; take the newer one"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: FeatureLevel = FeatureLevel(3);

    fn steps() -> Vec<Migration> {
        vec![step(1, "one", "SELECT 1"), step(2, "two", "SELECT 2")]
    }

    fn had(versions: impl IntoIterator<Item = i64>) -> Vec<(i64, Vec<u8>)> {
        let known = steps();
        let checksum = |version: i64| {
            known.iter().find(|step| step.version == version).map_or(vec![], |step| step.checksum.to_vec())
        };
        versions.into_iter().map(|version| (version, checksum(version))).collect()
    }

    fn found(steps: &[(i64, Vec<u8>)], needs: &[(i64, i64)]) -> Result<usize, String> {
        let had = Had { steps: steps.to_vec(), needs: needs.to_vec() };
        check("the store", &had, &self::steps(), LEVEL).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_that_are_known_are_counted() {
        for count in 0..=2 {
            assert_eq!(found(&had(1..=count), &[]), Ok(count as usize));
        }
    }

    #[test]
    fn a_newer_step_is_run_over_if_it_says_so() {
        assert_eq!(found(&had(1..=4), &[(3, 1), (4, 3)]), Ok(2));
        let outgrown = found(&had(1..=4), &[(3, 1), (4, 4)]).unwrap_err();
        for part in ["its schema is 4", "this one knows 2", "feature level 3", "it needs 4"] {
            assert!(outgrown.contains(part), "{outgrown}");
        }
        let silent = found(&had(1..=4), &[(4, 1)]).unwrap_err();
        assert!(silent.contains("its schema is 3, this one knows 2; start a newer one"), "{silent}");
    }

    #[test]
    fn what_is_known_has_to_be_as_it_was_also_beneath_a_newer_step() {
        let mut edited = had(1..=3);
        edited[0].1[0] ^= 1;
        assert!(found(&edited, &[(3, 1)]).unwrap_err().contains("not the one of this signalbox"));
        assert!(found(&had([1, 3]), &[(3, 1)]).unwrap_err().contains("not the one of this signalbox"));
        assert!(found(&had([2]), &[]).unwrap_err().contains("not the one of this signalbox"));
    }
}
