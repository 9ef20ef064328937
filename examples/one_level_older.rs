//! The binary as it would be one feature level ago, or `OLDER_BY` levels: it has the same code, and says and does what that
//! level allows. For the tests of upgrades, which run it beside the present one.

use std::process::ExitCode;

use signalbox::{cli, domain::FeatureLevel, settings::Environment};

fn main() -> ExitCode {
    let by = std::env::var("OLDER_BY").ok().and_then(|levels| levels.parse().ok()).unwrap_or(1);
    let older = FeatureLevel(FeatureLevel::CURRENT.0.saturating_sub(by).max(1));
    ExitCode::from(cli::run_supporting(older, std::env::args_os(), &Environment::of_process()) as u8)
}
