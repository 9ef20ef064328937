//! Giving a move up: the fence goes, if the store is not in its target.

use super::{
    MoveError,
    carrier::{Carrier, Held},
    fence::{self, Passage},
    fence_of, has_arrived, of_source, of_target,
    tables::Value,
};
use crate::{domain::Epoch, store::failure::Failure};

const NEW_LIFE: &str = "UPDATE head SET epoch = $1 WHERE id = 1";

/// What became of the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandoned {
    /// It can be served again.
    Lifted {
        /// Whether in a new life, because the store may once have been served at the target.
        new_life: bool,
    },
    /// No move had begun.
    Nothing,
}

/// Takes the fence from a source whose store is not in the target that the move began with. `there` is where the given
/// target is, `to` is nothing if there is no store at all.
///
/// # Errors
/// [`MoveError::Refused`] if the store is there, or the target is not the one of the move.
pub async fn abandon(from: &Held, to: Option<&Held>, there: &str) -> Result<Abandoned, MoveError> {
    // The target first, and held until the end: nobody is committing there then, nor can begin to.
    let mut target = match to {
        Some(to) => Some((to, to.place.begin().await.map_err(of_target)?)),
        None => None,
    };
    let mut source = from.place.begin().await.map_err(of_source)?;
    let Some(fence) = fence_of(&mut *source).await? else { return Ok(Abandoned::Nothing) };
    let mut never_there = false;
    if let Some((to, target)) = &mut target {
        if has_arrived(&mut **target, Some(&fence)).await? {
            return Err(MoveError::Refused(format!(
                "the store is at {there}, and may have been written to: to have it here again, move it from there to an \
                 empty database"
            )));
        }
        never_there = to.identity.store_id.0 == fence.other_id;
    }
    if !never_there && fence.place != there {
        return Err(MoveError::Refused(format!(
            "the move was to {}, and {there} says nothing of it: give that one as --to",
            fence.place
        )));
    }
    lift(&mut *source, &fence, never_there).await.map_err(of_source)?;
    source.commit().await.map_err(of_source)?;
    Ok(Abandoned::Lifted { new_life: !never_there })
}

async fn lift(source: &mut dyn Carrier, fence: &Passage, never_there: bool) -> Result<(), Failure> {
    fence::lift(source, &fence.id).await?;
    if never_there {
        return Ok(());
    }
    // What was promised there in the meantime does not hold here.
    let epoch = Value::text(Epoch(rand::random()).to_string());
    source.execute(NEW_LIFE.to_owned(), &[epoch]).await.map(drop)
}
