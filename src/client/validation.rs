//! The worker's own say in what it runs.
//!
//! Owns the callback that is shown each new state, and the form of its refusal. Must not know what is served instead.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::snapshot::Snapshot;

/// Characters of a reason that the service takes.
const REASON_CHARS: usize = 512;

/// A revision that [`ClientOptions::validate`](super::ClientOptions::validate) does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The revision.
    pub revision: u64,
    /// Why not, for people: one line of at most 512 characters.
    pub reason: String,
}

/// Whom to ask.
#[derive(Clone, Default)]
pub(super) struct Validation(Option<Arc<Callback>>);

type Callback = dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync;

impl Validation {
    pub(super) fn new(callback: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    /// Asks. Who panics has not accepted; the words of that may hold anything, and go to nobody.
    ///
    /// # Errors
    /// The rejection, where the state is not accepted.
    pub(super) fn check(&self, offered: &Snapshot) -> Result<(), Rejection> {
        let Some(callback) = &self.0 else { return Ok(()) };
        let answer = catch_unwind(AssertUnwindSafe(|| callback(offered)));
        let answer = answer.unwrap_or_else(|_| Err("the validation panicked".to_owned()));
        answer.map_err(|reason| Rejection { revision: offered.revision(), reason: line(&reason) })
    }
}

/// A reason that the service takes: it refuses empty and long ones, and characters that mislead who reads them.
fn line(reason: &str) -> String {
    let line = reason.replace(|letter: char| letter.is_control() || misleads(letter), " ");
    let line: String = line.trim().chars().take(REASON_CHARS).collect();
    if line.is_empty() { "no reason is given".to_owned() } else { line }
}

/// Bidirectional controls and line separators.
fn misleads(letter: char) -> bool {
    matches!(
        letter,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
    )
}

impl fmt::Debug for Validation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "a callback" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Rejection, Snapshot, Validation};

    fn reason(callback: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static) -> Option<String> {
        let checked = Validation::new(callback).check(&Snapshot::default());
        checked.err().map(|Rejection { reason, .. }| reason)
    }

    #[test]
    fn a_reason_is_one_line_that_the_service_takes() {
        assert_eq!(Validation::default().check(&Snapshot::default()), Ok(()));
        assert_eq!(reason(|_| Ok(())), None);
        assert_eq!(reason(|_| Err(" too\nhigh\u{202e}\u{1b} ".to_owned())).as_deref(), Some("too high"));
        assert_eq!(reason(|_| Err(String::new())).as_deref(), Some("no reason is given"));
        assert_eq!(reason(|_| Err("ä".repeat(600))), Some("ä".repeat(512)));
    }

    #[test]
    fn a_panic_is_a_rejection_without_its_words() {
        let told = reason(|snapshot| if snapshot.is_empty() { panic!("sk-canary") } else { Ok(()) });
        assert_eq!(told.as_deref(), Some("the validation panicked"));
    }
}
