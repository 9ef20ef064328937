//! The `signalbox` binary.

use std::process::ExitCode;

use signalbox::{cli, settings::Environment};

fn main() -> ExitCode {
    let exit = cli::run(std::env::args_os(), &Environment::of_process());
    ExitCode::from(exit as u8)
}
