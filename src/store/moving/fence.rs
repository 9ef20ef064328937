//! What a database remembers of moves: where its store came from, and where it went. One that went is fenced.
//!
//! The words for whoever meets a fence stand here too. It must not know how rows are copied.

use super::{
    carrier::Carrier,
    tables::{Row, Sort, Value},
};
use crate::store::{StoreError, failure::Failure};

/// All that a database remembers of moves.
pub const MOVES: &str = "SELECT id, state, place, other_id, time FROM moves ORDER BY time, id";
/// The one that fences it, if any.
///
/// Read by whoever opens the store: no text is taken longer than anybody of us writes it.
pub const FENCE: &str = "SELECT substr(id, 1, 64) AS id, substr(state, 1, 64) AS state, substr(place, 1, 1024) AS place, \
    substr(other_id, 1, 64) AS other_id, substr(time, 1, 64) AS time FROM moves WHERE state <> 'arrived'";
const PUT: &str = "INSERT INTO moves (id, state, place, other_id, time) VALUES ($1, $2, $3, $4, $5)";
const FINISH: &str = "UPDATE moves SET state = 'moved' WHERE id = $1 AND state = 'moving'";
const LIFT: &str = "DELETE FROM moves WHERE id = $1 AND state <> 'arrived'";

/// How a move stands, as one of its two databases sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The store came here.
    Arrived,
    /// It is going to another place, and may be there already.
    Moving,
    /// It is at another place.
    Moved,
}

/// A move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passage {
    /// The same in both databases.
    pub id: String,
    /// How it stands.
    pub state: State,
    /// Where the other database is, without user and password.
    pub place: String,
    /// What the other database was called while it was empty; nothing where the store arrived.
    pub other_id: String,
    /// When it began.
    pub time: String,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Moving => "moving",
            Self::Moved => "moved",
        }
    }
}

impl Passage {
    /// Reads a row of [`MOVES`].
    ///
    /// # Errors
    /// When it was edited into something else.
    pub fn read([id, state, place, other_id, time]: [String; 5]) -> Result<Self, Failure> {
        let states = [State::Arrived, State::Moving, State::Moved];
        let state = states.into_iter().find(|known| known.word() == state);
        let state = state.ok_or_else(|| Failure::Damaged("what it says of moves can't be read".into()))?;
        Ok(Self { id, state, place, other_id, time })
    }

    /// What whoever opens a fenced store is told.
    #[must_use]
    pub fn refusal(&self) -> StoreError {
        // Others write the table: what it says must not begin a line of the log, nor speak to a terminal.
        let (place, time) = (self.place.escape_debug(), self.time.escape_debug());
        StoreError::Unavailable(match self.state {
            State::Moving => format!(
                "it is being moved to {place} since {time}, and nobody may serve it until that has ended: run the same \
                 `signalbox migrate` again, or take it back with `signalbox migrate --abandon`"
            ),
            State::Arrived | State::Moved => format!(
                "it was moved to {place} at {time}: serve that one. Only if the store is not there any more and the move is \
                 to be undone, run `signalbox migrate --abandon`"
            ),
        })
    }
}

/// All that a database remembers of moves.
pub async fn passages(carrier: &mut dyn Carrier) -> Result<Vec<Passage>, Failure> {
    let rows = carrier.rows(MOVES.to_owned(), &[Sort::Text; 5], &[]).await?;
    let read = |row: Row| {
        let texts: Result<[String; 5], _> =
            row.into_iter().map(Value::into_text).collect::<Vec<_>>().try_into();
        Passage::read(texts.map_err(|_| Failure::Internal("a move has five columns".into()))?)
    };
    rows.into_iter().map(read).collect()
}

/// Remembers a move.
pub async fn put(carrier: &mut dyn Carrier, passage: &Passage) -> Result<(), Failure> {
    let Passage { id, state, place, other_id, time } = passage;
    let given = [id, state.word(), place, other_id, time].map(Value::text);
    carrier.execute(PUT.to_owned(), &given).await.map(drop)
}

/// The store is there now.
pub async fn finish(carrier: &mut dyn Carrier, id: &str) -> Result<(), Failure> {
    carrier.execute(FINISH.to_owned(), &[Value::text(id)]).await.map(drop)
}

/// Forgets a move, so that the store may be served again where it is.
pub async fn lift(carrier: &mut dyn Carrier, id: &str) -> Result<(), Failure> {
    carrier.execute(LIFT.to_owned(), &[Value::text(id)]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_a_fence_says_begins_no_line_of_the_log() {
        let place = "there\n2026-11-27T00:00:00Z ERROR \u{1b}[31mforged".to_owned();
        for state in [State::Moving, State::Moved] {
            let (id, other_id, time) = (String::new(), String::new(), "\r".to_owned());
            let told = Passage { id, state, place: place.clone(), other_id, time }.refusal().to_string();
            assert!(told.contains("there") && !told.contains(char::is_control), "{told}");
        }
    }
}
