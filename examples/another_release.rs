//! The binary as another release would have it: one feature level older, or `OLDER_BY` levels; and with `NEXT_SCHEMA`, with a
//! step of the schema more, over which a binary can run that supports this level; and with `CLOCK_AHEAD`, with a clock that is
//! so many seconds ahead of the machine's, or behind. It has the same code otherwise, and says and does what its level allows. For
//! the tests of upgrades and of clocks that differ, which run it beside the present one.

use std::process::ExitCode;

use chrono::TimeDelta;
use signalbox::{
    cli,
    domain::{FeatureLevel, Release},
    settings::Environment,
};

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let level = FeatureLevel::CURRENT.0.saturating_sub(number("OLDER_BY").unwrap_or(1)).max(1);
    let further_step = number("NEXT_SCHEMA").map(step);
    let ahead = std::env::var("CLOCK_AHEAD").ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let release =
        Release { level: FeatureLevel(level), further_step, clock_ahead: TimeDelta::seconds(ahead) };
    ExitCode::from(cli::run_as(release, std::env::args_os(), &Environment::of_process()) as u8)
}

/// What both databases take, whatever number the step has there.
fn step(needs: u32) -> &'static str {
    let text = format!(
        "CREATE TABLE of_the_next_release (version INTEGER NOT NULL);
         INSERT INTO schema_steps (version, needs) SELECT max(version) + 1, {needs} FROM schema_steps;"
    );
    Box::leak(text.into_boxed_str())
}
