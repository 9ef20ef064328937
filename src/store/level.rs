//! The feature level as it lies in the store: believed as far as somebody signed it who knows the store's key.
//!
//! It stops binaries that are below it, so a number that anybody may write who may write to the database is none. It must not
//! know a database.

use super::{chain::ChainKeys, failure::Failure};
use crate::domain::FeatureLevel;

/// The row. No more of the signature is read than there can be of one.
macro_rules! level {
    () => {
        "SELECT level, substr(mac, 1, 33) AS mac FROM feature_level WHERE id = 1"
    };
}
pub(super) use level;

/// The row, as it is read.
pub(super) const LEVEL: &str = level!();

/// Raises it: to which level, and its signature.
pub(super) const RAISE: &str = "UPDATE feature_level SET level = $1, mac = $2 WHERE id = 1 AND level < $1";

/// The levels that were raised by binaries that signed nothing, and may still be by one that runs beside this one. Who knows this
/// code supports all of them.
const UNSIGNED: FeatureLevel = FeatureLevel::FLEET;

/// Signatures are tried for so many levels, to tell which one it was.
const TRIED: u32 = 256;

/// The level that a row tells, if it is to be believed.
///
/// # Errors
/// [`Failure::Damaged`] if there is no row, or nobody signed what it says. The text is for the operator.
pub(super) fn believed(row: Option<(i64, Vec<u8>)>, keys: &ChainKeys) -> Result<FeatureLevel, Failure> {
    let Some((number, mac)) = row else {
        return Err(Failure::Damaged(
            "its feature level is missing: the table `feature_level` has no row".into(),
        ));
    };
    let signs = |level: FeatureLevel| keys.signs_level(level, &mac);
    match u32::try_from(number).map(FeatureLevel) {
        Ok(level) if level <= UNSIGNED || signs(level) => Ok(level),
        _ => Err(Failure::Damaged(edited(number, (1..=TRIED).map(FeatureLevel).find(|level| signs(*level))))),
    }
}

fn edited(number: i64, before: Option<FeatureLevel>) -> String {
    let before = before.map_or_else(|| format!("{UNSIGNED} or less"), |level| level.to_string());
    format!(
        "its feature level says {number}, which no signalbox wrote: find out who writes to the database, and set `level` in the \
         table `feature_level` back to what it was ({before}), with the triggers of that table disabled"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::keys::LogKey;

    #[test]
    fn regression_a_level_is_believed_as_far_as_it_is_signed() {
        let [keys, others] = [1, 2].map(|byte| ChainKeys::derive(&LogKey([byte; 32])).unwrap());
        let found = |number: i64, mac: &[u8]| believed(Some((number, mac.to_vec())), &keys);
        let signed = keys.level_mac(FeatureLevel(9));
        assert_eq!(found(9, &signed), Ok(FeatureLevel(9)));
        // As binaries leave it that sign nothing: without one, or with that of the level before.
        assert_eq!(found(UNSIGNED.0.into(), b""), Ok(UNSIGNED));
        assert_eq!(found(1, &keys.level_mac(FeatureLevel(3))), Ok(FeatureLevel(1)));
        let forged = [(99, &signed[..]), (10, b""), (9, &signed[..31]), (i64::MAX, &signed[..])];
        for (number, mac) in forged {
            let Err(Failure::Damaged(told)) = found(number, mac) else { panic!("{number} is believed") };
            assert!(told.contains(&format!("says {number}")), "{told}");
            let before = if mac.len() == 32 { "(9)" } else { "(4 or less)" };
            assert!(told.contains(before), "{told}");
        }
        assert!(found(9, &others.level_mac(FeatureLevel(9))).is_err(), "by another store");
        assert!(believed(None, &keys).is_err());
    }
}
