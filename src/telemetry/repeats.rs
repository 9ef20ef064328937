//! Warnings that are said over and over: the first few of a minute are logged, the rest is counted, and told of in one line.
//!
//! Only what is the same to the letter counts as said before, so that nothing is lost but how often.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::{self, Write as _},
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Filter},
};

/// The span of time that lines are counted in.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// So many times the same is logged within it.
const LOGGED: u64 = 5;
/// Different lines that are kept in mind; further ones are logged as they come.
const LINES: usize = 256;
/// Bytes of a message that are shown once more.
const SHOWN: usize = 200;

/// Lets lines through, and counts those that it does not. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<HashMap<u64, Line>>>);

struct Line {
    since: Instant,
    times: u64,
    message: String,
}

/// A line that was held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub message: String,
    /// How many times.
    pub times: u64,
}

impl Repeats {
    /// Whether a line may be logged.
    fn passes(&self, line: u64, message: impl FnOnce() -> String, now: Instant) -> bool {
        let mut lines = self.0.lock();
        if let Some(known) = lines.get_mut(&line) {
            known.times += 1;
            return known.times <= LOGGED;
        }
        if lines.len() < LINES {
            lines.insert(line, Line { since: now, times: 1, message: message() });
        }
        true
    }

    /// What was held back of the lines whose time is over; they count anew from now on.
    fn over(&self, now: Instant, window: Duration) -> Vec<Held> {
        let mut held = Vec::new();
        self.0.lock().retain(|_, line| {
            let over = now.duration_since(line.since) >= window;
            if over && line.times > LOGGED {
                let message = std::mem::take(&mut line.message);
                held.push(Held { message, times: line.times - LOGGED });
            }
            !over
        });
        held
    }

    /// Tells of all that was held back.
    pub fn tell(&self, window: Duration) {
        // Nothing is locked while it is logged: that leads here again.
        for Held { message, times } in self.over(Instant::now(), window) {
            tracing::warn!(times, message_of = message, "the same was said more often than it was logged");
        }
    }

    /// Tells of it for as long as the runtime lives.
    pub async fn keep_telling(self) {
        loop {
            tokio::time::sleep(WINDOW / 4).await;
            self.tell(WINDOW);
        }
    }
}

impl<S: Subscriber> Filter<S> for Repeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // What is always of interest is not asked for, and then what one event said would stay in force for the next.
        match metadata.is_event() && *metadata.level() <= Level::WARN {
            true => Interest::sometimes(),
            false => Interest::always(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let mut said = Said { hash: DefaultHasher::new(), message: String::new() };
        event.metadata().callsite().hash(&mut said.hash);
        event.record(&mut said);
        let Said { hash, message } = said;
        self.passes(hash.finish(), || message, Instant::now())
    }
}

/// What a line says.
struct Said {
    hash: DefaultHasher,
    message: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = write!(text, "{value:?}");
        field.name().hash(&mut self.hash);
        text.hash(&mut self.hash);
        if field.name() == "message" {
            text.truncate(text.floor_char_boundary(SHOWN));
            self.message = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_over_and_over_is_logged_a_few_times_and_counted() {
        let (repeats, begin) = (Repeats::default(), Instant::now());
        let say = |line: u64, at: Instant| repeats.passes(line, || format!("line {line}"), at);
        assert_eq!((0..20).filter(|_| say(1, begin)).count(), 5);
        assert!((0..5).all(|_| say(2, begin)), "another line is not the same");
        assert_eq!(repeats.over(begin + WINDOW / 2, WINDOW), [], "its time is not over");
        let held = Held { message: "line 1".to_owned(), times: 15 };
        assert_eq!(repeats.over(begin + WINDOW, WINDOW), [held]);
        assert!(say(1, begin + WINDOW), "it counts anew");
        assert_eq!(repeats.over(begin + WINDOW, WINDOW), [], "and is told of once");
    }

    #[test]
    fn a_flood_of_different_lines_takes_bounded_memory_and_is_logged() {
        let (repeats, begin) = (Repeats::default(), Instant::now());
        assert!((0..10_000).all(|line| repeats.passes(line, String::new, begin)));
        assert_eq!(repeats.0.lock().len(), LINES);
    }

    #[test]
    fn only_what_is_the_same_to_the_letter_is_held_back() {
        use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

        let counted = Arc::new(Mutex::new(0));
        let lines = Counter(Arc::clone(&counted)).with_filter(Repeats::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            for number in 0..20 {
                tracing::warn!("the same");
                tracing::warn!(number, "another");
                tracing::info!("no warning");
            }
        });
        assert_eq!(*counted.lock(), 5 + 20 + 20);
    }

    struct Counter(Arc<Mutex<u32>>);

    impl<S: Subscriber> tracing_subscriber::Layer<S> for Counter {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock() += 1;
        }
    }
}
