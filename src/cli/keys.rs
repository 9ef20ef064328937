//! `keys`: makes encryption keys. The key alone goes to standard output.

use super::{
    args::Keys,
    failure::{Exit, Failure, Outcome},
    session::Session,
};
use crate::app;

/// Makes a key, without a server: it is for one that has yet to start.
pub fn keys(session: &mut Session<'_>, verb: &Keys) -> Outcome {
    match verb {
        Keys::Generate => {
            let key = app::generate_key().map_err(|error| Failure::told(Exit::Failed, error.to_string()))?;
            session.line(key.expose())
        }
    }
}
