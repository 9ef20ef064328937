//! The answer to a call, piece by piece.
//!
//! Owns what happens when an answer breaks off: before its first piece another is asked, after it nobody is.

use tokio::time::{Instant, sleep};

use super::{
    AttemptError, Completion, CompletionError, Executor,
    http::Reply,
    route::{Attempt, Route},
};
use crate::wire::{Delta, StreamReader};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// Of the text.
    Text(String),
    /// Of what the model thinks.
    Reasoning(String),
}

impl Piece {
    /// The piece, if it is one of the text; else nothing.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Reasoning(_) => "",
        }
    }
}

impl From<Delta> for Piece {
    fn from(delta: Delta) -> Self {
        match delta {
            Delta::Text(text) => Self::Text(text),
            Delta::Reasoning(text) => Self::Reasoning(text),
        }
    }
}

/// The pieces of an answer, and the whole once the last one has come.
pub struct CompletionStream {
    executor: Executor,
    route: Route,
    state: State,
    pieces: std::collections::VecDeque<Piece>,
    completion: Option<Completion>,
}

enum State {
    /// Nobody is being asked.
    Between,
    Open(Box<Open>),
    Ended,
}

/// An answer that comes in.
struct Open {
    attempt: Attempt,
    reply: Reply,
    reader: StreamReader,
    /// When the first piece has to be there.
    first: Instant,
    begun: Instant,
    said: bool,
}

impl CompletionStream {
    pub(super) fn new(executor: Executor, route: Route) -> Self {
        let pieces = std::collections::VecDeque::new();
        Self { executor, route, state: State::Between, pieces, completion: None }
    }

    /// The next piece; `None` after the last. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Piece, CompletionError>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            // Taken out, so that a call whose future is dropped in the middle has ended.
            let stepped = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return None,
                State::Between => self.open().await,
                State::Open(open) => self.read(open).await,
            };
            match stepped {
                Ok(state) => self.state = state,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The whole answer, once the last piece has come.
    #[must_use]
    pub fn completion(&self) -> Option<&Completion> {
        self.completion.as_ref()
    }

    async fn open(&mut self) -> Result<State, CompletionError> {
        let attempt = self.route.next_attempt()?;
        let begun = Instant::now();
        let first = attempt.first_token.map_or(attempt.deadline, |limit| attempt.deadline.min(begun + limit));
        match begin(&self.executor, &attempt, first).await {
            Ok((reply, reader)) => {
                let open = Open { attempt, reply, reader, first, begun, said: false };
                Ok(State::Open(Box::new(open)))
            }
            Err(error) => self.again(&attempt, error).await,
        }
    }

    async fn read(&mut self, mut open: Box<Open>) -> Result<State, CompletionError> {
        match step(&mut open).await {
            Ok(Some(pieces)) => {
                if !pieces.is_empty() && !open.said {
                    open.said = true;
                    self.executor.memory.took(&open.attempt.provider, open.begun.elapsed());
                }
                self.pieces.extend(pieces);
                Ok(State::Open(open))
            }
            Ok(None) => self.end(*open).await,
            Err(error) => self.failed(&open.attempt, open.said, error).await,
        }
    }

    async fn end(&mut self, open: Open) -> Result<State, CompletionError> {
        let Open { attempt, reader, said, .. } = open;
        match reader.finish() {
            Ok(answer) => {
                self.completion = Some(self.route.completion(attempt, answer));
                Ok(State::Ended)
            }
            Err(failure) => self.failed(&attempt, said, failure.into()).await,
        }
    }

    async fn failed(
        &mut self,
        attempt: &Attempt,
        said: bool,
        error: AttemptError,
    ) -> Result<State, CompletionError> {
        let error = attempt.broken(error);
        if said { Err(self.route.broke_off(attempt, error)) } else { self.again(attempt, error).await }
    }

    async fn again(&mut self, attempt: &Attempt, error: AttemptError) -> Result<State, CompletionError> {
        sleep(self.route.failed(attempt, error)).await;
        Ok(State::Between)
    }
}

impl std::fmt::Debug for CompletionStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CompletionStream")
            .field("completion", &self.completion)
            .finish_non_exhaustive()
    }
}

async fn begin(
    executor: &Executor,
    attempt: &Attempt,
    deadline: Instant,
) -> Result<(Reply, StreamReader), AttemptError> {
    let none = || AttemptError::Request("the provider's answers are not streamed".to_owned());
    let reader = attempt.mapping.stream().ok_or_else(none)?;
    let mut reply = executor.http.send(attempt, deadline).await?;
    if reply.is_good() {
        return Ok((reply, reader));
    }
    let body = reply.rest(deadline).await?;
    Err(attempt.refused(&reply, &body))
}

/// The next pieces, be it none; `None` at the end.
async fn step(open: &mut Open) -> Result<Option<Vec<Piece>>, AttemptError> {
    if open.reader.ended() {
        return Ok(None);
    }
    let deadline = if open.said { open.attempt.deadline } else { open.first };
    let Some(bytes) = open.reply.piece(deadline).await? else { return Ok(None) };
    Ok(Some(open.reader.push(&bytes)?.into_iter().map(Piece::from).collect()))
}
