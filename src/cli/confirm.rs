//! Asks before what is hard to take back.

use std::io::{BufRead, BufReader};

use super::{
    failure::{Exit, Failure, Outcome},
    session::Session,
};

/// Asks whoever is there; where nobody is, `--yes` has to say it. Anything but a yes ends it with `declined`.
pub fn confirm(session: &mut Session<'_>, question: &str, doing: &str, declined: &str) -> Outcome {
    if !session.interactive {
        return Err(Failure::usage(format!("{doing} without a terminal to ask on needs --yes")));
    }
    write!(session.err, "{question} [y/N] ")?;
    session.err.flush()?;
    let mut answer = String::new();
    let read = BufReader::new(&mut session.input).read_line(&mut answer);
    read.map_err(|error| Failure::told(Exit::Failed, format!("can't read the answer: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::told(Exit::Failed, declined)),
    }
}
