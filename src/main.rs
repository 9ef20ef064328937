//! The `signalbox` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = signalbox::cli::run(std::env::args_os(), &|name| std::env::var_os(name));
    ExitCode::from(exit as u8)
}
