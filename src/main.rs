//! The `signalbox` binary.

fn main() {}
